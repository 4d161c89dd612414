"""Counting sees what is live, forgets what is freed, and knows the FLOPs of a product."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mpfgvc.scale.counting import Counting, make_fake


def test_the_peak_is_what_was_live_at_once_and_freed_tensors_do_not_count():
    with Counting() as counting:
        first = torch.zeros(1000)
        del first
        second = torch.zeros(600)
        third = second + 1
        view = third.view(20, 30)
    assert counting.peak == 2 * 600 * 4
    assert counting.live == 2 * 600 * 4
    assert view.shape == (20, 30)


def test_tensors_that_were_there_before_do_not_count():
    weight = torch.zeros(50, 40)
    with Counting([weight]) as counting:
        result = weight.t() @ torch.zeros(50, 1)
    assert counting.peak == 4 * (50 + 40)
    assert result.shape == (40, 1)


def test_each_phase_has_its_own_peak():
    with Counting() as counting:
        kept = torch.zeros(10)
        counting.enter("wide")
        wide = torch.zeros(100)
        del wide
        counting.enter("narrow")
        kept = kept + 1
    assert counting.peaks == {"start": 40, "wide": 440, "narrow": 80}


@pytest.mark.parametrize("inference", [False, True])
def test_flops_are_two_for_each_multiplication(inference):
    layer = nn.Linear(7, 5)
    images, convolution = torch.zeros(2, 3, 8, 8), nn.Conv2d(3, 4, 2, stride=2)
    with torch.inference_mode(inference), Counting() as counting:
        layer(torch.zeros(3, 7))
        convolution(images)
    assert counting.flops == 2 * 3 * 7 * 5 + 2 * 2 * 4 * 16 * (3 * 4)


def test_fake_tensors_count_as_real_ones_do():
    def work(mode):
        layer = nn.Sequential(nn.Linear(11, 13), nn.GELU(), nn.Linear(13, 3))
        if mode is not None:
            make_fake(layer, mode)
        with Counting(layer.parameters()) as counting:
            layer(torch.zeros(17, 11)).square().sum().backward()
        return counting.peak, counting.live, counting.flops

    real = work(None)
    with FakeTensorMode() as mode:
        assert work(mode) == real
    assert real[0] > real[1] > 0
