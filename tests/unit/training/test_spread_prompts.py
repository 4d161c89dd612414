"""Prompts spread over processes: shares, order, and the sample that all of them take."""

from collections.abc import Sequence

import pytest
import torch
from mpfgvc.training.spread_prompts import ALONE, Spread
from torch import Tensor

from mpfgvc import load_config
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.training.stages import sample_classes

CLASSES = 7


@pytest.fixture(scope="module")
def prompts() -> ClassPrompts:
    config = load_config("synthetic", overrides={"model.prompt_chunk": 2}).model
    return MPFGVC.from_config(config, [f"bird {index}" for index in range(CLASSES)], seed=5).prompts


def together(prompts: ClassPrompts, processes: int, classes: Tensor | None = None) -> tuple[Tensor, list[int]]:
    """The features that all processes put together, and how many prompts each of them encoded."""
    shares: list[Tensor] = []

    def keep(own: Tensor) -> Sequence[Tensor]:
        shares.append(own)
        return [own] * processes

    for rank in range(processes):
        Spread(rank=rank, processes=processes, gather=keep).text_features(prompts, classes)
    last = Spread(rank=0, processes=processes, gather=lambda _: list(shares))
    return last.text_features(prompts, classes), [len(share) for share in shares]


@pytest.mark.parametrize(("processes", "share"), [(2, 4), (3, 3), (7, 1), (10, 1)])
def test_the_shares_together_are_the_features_of_all_classes_in_order(
    prompts: ClassPrompts, processes: int, share: int
) -> None:
    features, encoded = together(prompts, processes)
    assert encoded == [share] * processes
    assert torch.allclose(features, prompts(), atol=1e-6)


def test_some_classes_in_an_order_of_their_own(prompts: ClassPrompts) -> None:
    classes = torch.tensor([6, 0, 3])
    features, encoded = together(prompts, 2, classes)
    assert encoded == [2, 2]
    assert torch.allclose(features, prompts(classes), atol=1e-6)


def test_one_process_encodes_all_and_gathers_nothing(prompts: ClassPrompts) -> None:
    def never(_: Tensor) -> Sequence[Tensor]:
        raise AssertionError("one process has nobody to gather from")

    alone = Spread(gather=never)
    assert torch.equal(alone.text_features(prompts), prompts())
    assert torch.equal(alone.of_all(torch.ones(3)), torch.ones(3))


def test_all_processes_take_the_sample_that_one_would_take_for_the_whole_batch() -> None:
    labels = torch.tensor([[8, 1, 8], [4, 1, 11]])
    torch.manual_seed(3)
    whole = sample_classes(labels.flatten(), count=9, classes=13)
    torch.manual_seed(3)
    keys = torch.rand(13)
    for rank, own in enumerate(labels):
        torch.manual_seed(100 + rank)
        answers = [[keys], list(labels)]
        spread = Spread(rank=rank, processes=2, gather=lambda _, waiting=answers: waiting.pop(0))
        sample = sample_classes(own, count=9, classes=13, spread=spread)
        assert torch.equal(sample.classes, whole.classes)
        assert torch.equal(sample.correction, whole.correction)
        assert torch.equal(sample.classes[sample.labels], own)


def test_alone_is_one_process() -> None:
    assert (ALONE.rank, ALONE.processes) == (0, 1)
