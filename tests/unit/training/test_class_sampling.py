"""The sampled softmax: which classes, and that its sum is right on average."""

import math

import pytest
import torch

from mpfgvc.training.class_sampling import sample_classes

LABELS = torch.tensor([7, 2, 7, 11])


def test_the_classes_of_the_batch_are_in_and_none_comes_twice() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        sample = sample_classes(LABELS, count=6, classes=13)
        assert len(set(sample.classes.tolist())) == 6
        assert {2, 7, 11} <= set(sample.classes.tolist())
        assert sample.classes[sample.labels].equal(LABELS)


def test_every_other_class_is_drawn_equally_often() -> None:
    torch.manual_seed(0)
    drawn = torch.cat([sample_classes(LABELS, count=6, classes=13).classes for _ in range(4000)])
    shares = drawn.bincount(minlength=13) / 4000
    others = [index for index in range(13) if index not in (2, 7, 11)]
    assert shares[others].tolist() == pytest.approx([3 / 10] * 10, abs=0.03)


def test_the_sum_over_all_classes_is_estimated_without_bias_and_its_logarithm_is_low() -> None:
    torch.manual_seed(1)
    logits = torch.randn(13, dtype=torch.float64)
    samples = [sample_classes(LABELS, count=6, classes=13) for _ in range(20_000)]
    sums = torch.stack([(logits[sample.classes] + sample.correction).logsumexp(0) for sample in samples])
    spread = sums.exp().std().item() / math.sqrt(len(samples))
    assert sums.exp().mean().item() == pytest.approx(logits.exp().sum().item(), abs=4 * spread)
    assert sums.mean() < logits.logsumexp(0)


def test_all_classes_are_a_sample_without_correction() -> None:
    sample = sample_classes(LABELS, count=13, classes=13)
    assert sorted(sample.classes.tolist()) == list(range(13))
    assert not sample.correction.any()
