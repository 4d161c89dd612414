"""The moving average is the weighted mean that its formula says, and the schedule has its shape."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mpfgvc.config import Stage2Config
from mpfgvc.training.loop import WeightAverage, build_optimizer, schedule, set_learning_rate
from mpfgvc.training.stages import ParameterGroup

STEPS = 40


def _history(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(STEPS + 1, *shape, generator=torch.Generator().manual_seed(3))


def _mean_of(history: torch.Tensor, decay: float) -> np.ndarray:
    """The sum of all weights so far, each times its own share and what later updates left of it."""
    decays = [1.0] + [min(decay, (1 + step) / (10 + step)) for step in range(len(history) - 1)]
    shares = [
        (1.0 if index == 0 else 1 - decays[index]) * math.prod(decays[index + 1 :]) for index in range(len(decays))
    ]
    assert sum(shares) == pytest.approx(1)
    return np.tensordot(np.array(shares), history.double().numpy(), axes=1)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_the_average_is_the_weighted_mean_of_all_weights_so_far(decay: float) -> None:
    histories = {"matrix": _history((3, 5)), "bias": _history((2,))}
    parameters = {name: nn.Parameter(history[0].clone()) for name, history in histories.items()}
    average = WeightAverage(parameters, decay)
    for step in range(STEPS):
        for name, parameter in parameters.items():
            parameter.data.copy_(histories[name][step + 1])
        average.update(step)
    for name, history in histories.items():
        wanted = _mean_of(history, decay)
        np.testing.assert_allclose(average.average[name].numpy(), wanted, atol=2e-6, rtol=1e-5)


def test_updates_leave_the_weights_as_they_are() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    average = WeightAverage({"weight": parameter}, 0.5)
    parameter.data.fill_(4)
    average.update(0)
    assert parameter.tolist() == [4, 4]


def test_within_the_block_the_parameters_hold_the_average_and_afterwards_their_own_values() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    average = WeightAverage({"weight": parameter}, 0.9)
    parameter.data.fill_(7)

    def fail_within() -> None:
        with average.swapped_in():
            assert parameter.tolist() == [1, 2, 3]
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert parameter.tolist() == [7, 7, 7]
    assert average.average["weight"].tolist() == [1, 2, 3]


def test_an_average_that_was_stored_continues_to_the_same_bits() -> None:
    history = _history((4,))
    parameter = nn.Parameter(history[0].clone())
    whole = WeightAverage({"weight": parameter}, 0.95)
    for step in range(STEPS):
        if step == 11:
            stored = {name: value.clone() for name, value in whole.average.items()}
        parameter.data.copy_(history[step + 1])
        whole.update(step)
    continued = WeightAverage({"weight": parameter}, 0.95)
    continued.load(stored)
    for step in range(11, STEPS):
        parameter.data.copy_(history[step + 1])
        continued.update(step)
    assert torch.equal(continued.average["weight"], whole.average["weight"])


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
