"""The schedule has its shape, and every group keeps its rate and decay."""

import itertools

import pytest
import torch
from torch import nn

from mpfgvc.config import Stage2Config
from mpfgvc.training.loop import build_optimizer, schedule, set_learning_rate
from mpfgvc.training.stages import ParameterGroup


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [schedule(step, warmup=4, total=20) for step in range(21)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[12] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(0)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))


def test_each_group_keeps_its_own_rate_and_decay() -> None:
    groups = [
        ParameterGroup([nn.Parameter(torch.zeros(2, 3))], 0.1, True),
        ParameterGroup([nn.Parameter(torch.zeros(5))], 0.02, False),
    ]
    optimizer = build_optimizer(groups, Stage2Config(weight_decay=0.3))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
