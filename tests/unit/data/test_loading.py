"""Batches: their order, their randomness, their shards, and photographs that are broken."""

import threading
from dataclasses import replace

import pytest
import torch

from mpfgvc.config import AugmentConfig
from mpfgvc.data.loading import Batch, TrainingLoader, evaluation_loader, steps_per_epoch, worker_count
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.transforms import test_transform, train_transform
from mpfgvc.errors import ConfigError, DataError

PREPROCESSING = Preprocessing(image_size=(8, 12), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
RANDOM = train_transform(PREPROCESSING, AugmentConfig(color=0.3, erase=0.5))
FIXED = test_transform(PREPROCESSING)
WORKERS = pytest.mark.parametrize("workers", [0, 2])


def equal(first: list[Batch], second: list[Batch]) -> bool:
    """Whether two lists of batches hold the same photographs, bit for bit."""
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.indices, b.indices)
        and torch.equal(a.labels, b.labels)
        for a, b in zip(first, second, strict=True)
    )


def training(samples, **settings):
    return TrainingLoader(samples, RANDOM, **{"batch_size": 4, "seed": 3, **settings})


def indices(batches):
    return [index for batch in batches for index in batch.indices.tolist()]


def broken(samples, *places):
    """The samples, with some files cut short."""
    for place in places:
        samples[place].path.write_bytes(samples[place].path.read_bytes()[:100])
    return samples


def test_an_epoch_shows_each_photograph_at_most_once_in_whole_batches(samples):
    loader = training(samples)
    batches = list(loader.epoch(0))
    assert len(batches) == loader.steps == 2
    assert batches[0].images.shape == (4, 3, 8, 12)
    assert len(set(indices(batches))) == 8
    assert all(
        samples[index].label == label
        for b in batches
        for index, label in zip(b.indices, b.labels, strict=True)
    )


def test_epochs_and_seeds_differ_in_order_and_in_randomness(samples):
    one, other = training(samples), training(samples, seed=4)
    orders = [indices(loader.epoch(epoch)) for loader, epoch in ((one, 0), (one, 1), (other, 0))]
    assert len({tuple(order) for order in orders}) == 3
    whole = training(samples[:1], batch_size=1)
    assert not equal(list(whole.epoch(0)), list(whole.epoch(1)))


@WORKERS
def test_batches_neither_depend_on_the_global_generator_nor_change_it(samples, workers):
    torch.manual_seed(0)
    expected = [list(training(samples).epoch(epoch)) for epoch in (0, 1)]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    loader = training(samples, workers=workers)
    assert equal(list(loader.epoch(0)), expected[0])
    assert equal(list(loader.epoch(1)), expected[1])
    assert torch.equal(torch.get_rng_state(), state)


@WORKERS
def test_an_epoch_left_in_the_middle_does_not_disturb_the_next(samples, workers):
    loader = training(samples, batch_size=2, workers=workers)
    next(loader.epoch(0))
    assert equal(list(loader.epoch(1)), list(training(samples, batch_size=2).epoch(1)))


def test_a_resumed_epoch_continues_with_the_same_batches(samples):
    whole = list(training(samples, batch_size=2).epoch(5))
    assert len(whole) == 5
    assert equal(list(training(samples, batch_size=2).epoch(5, first_step=2)), whole[2:])
    assert list(training(samples, batch_size=2).epoch(5, first_step=5)) == []


@pytest.mark.parametrize("count", [11, 3])
def test_two_processes_together_see_what_one_process_sees(samples, count):
    whole = list(training(samples[:count]).epoch(2))
    shares = [list(training(samples[:count], rank=rank, world=2).epoch(2)) for rank in (0, 1)]
    for batch, even, odd in zip(whole, *shares, strict=True):
        together = torch.stack([even.images, odd.images], dim=1).flatten(0, 1)
        assert torch.equal(together[: len(batch.images)], batch.images)
        assert len(even.images) == len(odd.images)


def test_a_set_smaller_than_a_batch_is_one_batch_filled_up_for_every_process(samples):
    assert sorted(indices(training(samples[:3], batch_size=8).epoch(0))) == [0, 1, 2]
    shares = [indices(training(samples[:1], batch_size=8, rank=rank, world=4).epoch(0)) for rank in range(4)]
    assert shares == [[0]] * 4


def test_a_batch_that_processes_cannot_share_is_refused(samples):
    with pytest.raises(ConfigError, match="batch_size must be a multiple of the 3 processes, got 4"):
        training(samples, world=3)


def test_training_without_photographs_is_refused():
    with pytest.raises(DataError, match="there are no training photographs"):
        training([])


def test_evaluation_shards_hold_every_photograph_once(samples):
    shards = [list(evaluation_loader(samples, FIXED, batch_size=2, rank=rank, world=3)) for rank in range(3)]
    assert [indices(shard) for shard in shards] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert [sample.label for sample in samples[::3]] == [int(x) for batch in shards[0] for x in batch.labels]


def test_an_evaluation_can_be_repeated_and_does_not_depend_on_the_workers(samples):
    alone = evaluation_loader(samples, FIXED, batch_size=4)
    helped = evaluation_loader(samples, FIXED, batch_size=4, workers=2)
    assert len(alone) == len(helped) == 3
    assert equal(list(alone), list(alone))
    assert equal(list(helped), list(alone))
    assert equal(list(helped), list(alone))


def test_an_evaluation_reads_on_as_many_threads_as_torch_has(samples, monkeypatch):
    expected = list(evaluation_loader(samples[:9], FIXED, batch_size=3))
    together = threading.Barrier(3, timeout=60)  # broken if fewer than three are reading at once

    def wait_and_apply(image):
        together.wait()
        return FIXED.apply(image)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threaded = evaluation_loader(samples[:9], replace(FIXED, apply=wait_and_apply), batch_size=3)
    assert equal(list(threaded), expected)


def test_a_shard_may_be_empty(samples):
    assert list(evaluation_loader(samples[:1], FIXED, batch_size=4, rank=1, world=2)) == []


@WORKERS
def test_a_broken_photograph_ends_the_run_in_one_line(samples, workers):
    broken(samples, 6)
    line = rf"^cannot read the photograph {samples[6].path}: [^\n]*on_error=skip$"
    with pytest.raises(DataError, match=line):
        list(evaluation_loader(samples, FIXED, batch_size=4, workers=workers))
    with pytest.raises(DataError, match=line):
        list(training(samples, batch_size=11, workers=workers).epoch(0))


@WORKERS
def test_in_training_a_broken_photograph_gives_way_to_the_next_of_its_class(samples, workers):
    broken(samples, 6, 8)
    loader = training(samples, batch_size=11, on_error="skip", workers=workers)
    (batch,) = loader.epoch(0)
    assert sorted(batch.indices.tolist()) == [0, 1, 2, 3, 4, 5, 7, 9, 10, 10, 10]
    assert sorted(batch.labels.tolist()) == [0] * 6 + [1] * 5
    assert set(batch.broken) == {str(samples[6].path), str(samples[8].path)}


@WORKERS
def test_in_evaluation_a_broken_photograph_is_left_out_and_named(samples, workers):
    broken(samples, 0, 1, 6)
    batches = list(evaluation_loader(samples, FIXED, batch_size=2, on_error="skip", workers=workers))
    assert indices(batches) == [2, 3, 4, 5, 7, 8, 9, 10]
    assert batches[0].images.shape == (0, 3, 8, 12)
    assert [path for batch in batches for path in batch.broken] == [str(samples[i].path) for i in (0, 1, 6)]


def test_a_class_without_a_readable_photograph_ends_the_training(samples):
    broken(samples, 1, 3, 5, 7, 9)
    with pytest.raises(DataError, match=r"no training photograph of a class can be read: .* and 4 others"):
        list(training(samples, batch_size=11, on_error="skip").epoch(0))


def test_a_photograph_that_vanished_is_named(samples):
    lost = [replace(samples[0], path=samples[0].path.with_name("lost.png")), samples[1]]
    with pytest.raises(DataError, match=r"lost\.png: it does not exist"):
        list(evaluation_loader(lost, FIXED, batch_size=2))


def test_steps_count_whole_batches_but_at_least_one():
    assert [steps_per_epoch(count, 4) for count in (1, 4, 7, 8)] == [1, 1, 1, 2]


def test_workers_are_shared_by_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert worker_count(None) == 8
    assert worker_count(None, processes=4) == 3
    assert worker_count(None, processes=99) == 1
    assert worker_count(5) == worker_count(5, model_on_cpu=True) == 5
    assert worker_count(None, model_on_cpu=True) == 3
    assert worker_count(None, processes=4, model_on_cpu=True) == 0
    assert worker_count(0, processes=4) == 0
