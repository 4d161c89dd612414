"""Batches: their order, their randomness, their shards, and photographs that are broken."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from mpfgvc.config import AugmentConfig
from mpfgvc.data.loading import Batch, EvaluationLoader, TrainingLoader, labels_of, worker_count
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import eval_transform, train_transform
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.processes import Processes

PREPROCESSING = Preprocessing(image_size=(8, 12), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
RANDOM = train_transform(PREPROCESSING, AugmentConfig())
FIXED = eval_transform(PREPROCESSING)
WORKERS = pytest.mark.parametrize("workers", [0, 2])


def equal(first: list, second: list) -> bool:
    """Whether two lists of batches hold the same photographs, bit for bit."""
    return len(first) == len(second) and all(
        torch.equal(pixels(a), pixels(b)) and numbers(a) == numbers(b) for a, b in zip(first, second, strict=True)
    )


def pixels(batch):
    return batch.images if isinstance(batch, Batch) else batch[0]


def numbers(batch):
    """What says which photographs are in a batch: indices in an evaluation, labels in training."""
    return list(batch.indices) if isinstance(batch, Batch) else batch[1].tolist()


def numbered(samples):
    """The samples, each in a class of its own, so that a label tells which one it is."""
    return replace(samples, labels=np.arange(len(samples)))


def training(samples, **settings):
    return TrainingLoader(samples, RANDOM, **{"batch_size": 4, "seed": 3, **settings})


def indices(batches):
    return [number for batch in batches for number in numbers(batch)]


def broken(samples, *indices):
    """The samples, with some files cut short."""
    for index in indices:
        samples[index].path.write_bytes(samples[index].path.read_bytes()[:100])
    return samples


def test_an_epoch_shows_each_photograph_at_most_once_in_whole_batches_with_its_label(samples):
    loader = training(numbered(samples))
    batches = list(loader.epoch(0))
    assert len(batches) == loader.steps == 2
    assert batches[0][0].shape == (4, 3, 8, 12)
    assert len(set(indices(batches))) == 8
    assert indices(training(samples).epoch(0)) == [samples[index].label for index in indices(batches)]


def test_epochs_and_seeds_differ_in_order_and_in_randomness(samples):
    one, other = training(numbered(samples)), training(numbered(samples), seed=4)
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
    shares = [list(training(samples[:count], processes=Processes(rank=rank, world=2)).epoch(2)) for rank in (0, 1)]
    for batch, even, odd in zip(whole, *shares, strict=True):
        together = torch.stack([pixels(even), pixels(odd)], dim=1).flatten(0, 1)
        assert torch.equal(together[: len(pixels(batch))], pixels(batch))
        assert len(pixels(even)) == len(pixels(odd))


def test_a_set_smaller_than_a_batch_is_one_batch_filled_up_for_every_process(samples):
    assert sorted(indices(training(numbered(samples[:3]), batch_size=8).epoch(0))) == [0, 1, 2]
    processes = [Processes(rank=rank, world=4) for rank in range(4)]
    shares = [indices(training(samples[:1], batch_size=8, processes=each).epoch(0)) for each in processes]
    assert shares == [[0]] * 4


def test_what_cannot_be_trained_on_is_refused(samples):
    with pytest.raises(ConfigError, match="batch_size must be a multiple of the 3 processes, got 4"):
        training(samples, processes=Processes(world=3))
    with pytest.raises(DataError, match="there are no training photographs"):
        training([])


def test_evaluation_shards_hold_every_photograph_once(samples):
    shards = [
        list(EvaluationLoader(samples, FIXED, batch_size=2, processes=Processes(rank=rank, world=3)))
        for rank in range(3)
    ]
    assert [indices(shard) for shard in shards] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    empty = EvaluationLoader(samples[:1], FIXED, batch_size=4, processes=Processes(rank=1, world=2))
    assert list(empty) == []
    assert labels_of(samples)[indices(shards[0])].tolist() == [sample.label for sample in samples[::3]]


def test_an_evaluation_can_be_repeated_and_depends_neither_on_workers_nor_on_threads(samples, monkeypatch):
    alone = EvaluationLoader(samples, FIXED, batch_size=4)
    expected = list(alone)
    helped = EvaluationLoader(samples, FIXED, batch_size=4, workers=2)
    assert len(alone) == len(helped) == 3
    assert equal(list(helped), expected)
    assert equal(list(helped), expected)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert equal(list(alone), expected)


@WORKERS
def test_a_broken_photograph_ends_the_run_in_one_line(samples, workers):
    broken(samples, 6)
    line = rf"^cannot read the photograph {samples[6].path}: [^\n]*on_error=skip$"
    with pytest.raises(DataError, match=line):
        list(EvaluationLoader(samples, FIXED, batch_size=4, workers=workers))
    with pytest.raises(DataError, match=line):
        list(training(samples, batch_size=11, workers=workers).epoch(0))


@WORKERS
def test_in_training_a_broken_photograph_gives_way_to_the_next_of_its_class(samples, workers):
    broken(samples, 6, 8)
    told = []
    loader = training(samples, batch_size=11, on_error="skip", workers=workers, tell=told.append)
    ((images, labels),) = loader.epoch(0)
    assert sorted(labels.tolist()) == [0] * 6 + [1] * 5
    assert images.shape == (11, 3, 8, 12)
    assert sorted(line.split()[1] for line in told) == [f"{samples[index].path}:" for index in (6, 8)]
    assert all(re.search(r": (?!it is unreadable)[a-z ]+ \(\d so far\)$", line) for line in told), told
    list(loader.epoch(1))
    assert len(told) == 2, "each photograph is named once"


@WORKERS
def test_in_evaluation_a_broken_photograph_is_left_out_and_named(samples, workers):
    broken(samples, 0, 1, 6)
    batches = list(EvaluationLoader(samples, FIXED, batch_size=2, on_error="skip", workers=workers))
    assert indices(batches) == [2, 3, 4, 5, 7, 8, 9, 10]
    assert batches[0].images.shape == (0, 3, 8, 12)
    unreadable = [failure for batch in batches for failure in batch.unreadable]
    assert [failure.index for failure in unreadable] == [0, 1, 6]
    assert all(str(samples[failure.index].path) in failure.reason for failure in unreadable)


def test_a_class_without_a_readable_photograph_ends_the_training(samples):
    broken(samples, 1, 3, 5, 7, 9)
    with pytest.raises(DataError, match=r"no training photograph of a class is readable: .* and 4 others"):
        list(training(samples, batch_size=11, on_error="skip").epoch(0))


def test_workers_are_shared_by_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert worker_count(None) == 8
    assert worker_count(None, processes=4) == 3
    assert worker_count(None, processes=99) == 1
    assert worker_count(5) == worker_count(5, model_on_cpu=True) == 5
    assert worker_count(None, model_on_cpu=True) == 3
    assert worker_count(None, processes=4, model_on_cpu=True) == 0
    assert worker_count(0, processes=4) == 0


def test_a_loader_process_that_is_killed_interrupts_nothing_but_the_next_batch(samples):
    """The signal comes at any moment: a checkpoint that is being written then is finished first."""
    others = {child.pid for child in multiprocessing.active_children()}
    batches = training(samples, workers=1).epoch(0)
    next(batches)
    (worker,) = (child for child in multiprocessing.active_children() if child.pid not in others)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()  # torch's own handler would raise here
    with pytest.raises(DataError, match=r"^one of 1 loader processes was killed[^\n]*data\.workers"):
        list(batches)


@dataclass(frozen=True, kw_only=True)
class Cut(Sample):
    """A photograph whose batch is cut off while the loader process hands it over."""

    def read(self, **_):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def test_a_loader_process_that_dies_while_it_hands_over_a_batch_ends_in_one_line(samples):
    cut = [Cut(path=sample.path, label=sample.label, split="train") for sample in samples]
    with pytest.raises(DataError, match=r"^one of 1 loader processes was killed"):
        list(EvaluationLoader(cut, FIXED, batch_size=4, workers=1))


def test_too_little_shared_memory_ends_in_one_line_and_never_hangs(tmp_path):
    """As in a container, where /dev/shm has 64 MB unless it is asked for more."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs the right to mount a small /dev/shm")
    script = tmp_path / "script.py"
    script.write_text(SMALL_MEMORY.format(folder=tmp_path))
    mount = f"mount -t tmpfs -o size=3m tmpfs /dev/shm && exec {sys.executable} {script}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.startswith("DataError: there is too little shared memory"), done.stderr[-2000:]
    assert "--shm-size" in done.stdout
    assert "data.workers 0" in done.stdout


def test_a_process_that_still_imports_its_script_is_told_of_the_guard(samples, monkeypatch):
    """As where processes are spawned, and each one imports the script first."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match=r"under if __name__ == \"__main__\": or set data\.workers 0"):
        EvaluationLoader(samples, FIXED, batch_size=4, workers=1)
    assert len(indices(EvaluationLoader(samples, FIXED, batch_size=4, workers=0))) == len(samples)


SMALL_MEMORY = """
from pathlib import Path
from PIL import Image
from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Photograph
from mpfgvc.data.transforms import eval_transform
from mpfgvc.errors import DataError

if __name__ == "__main__":
    path = Path("{folder}") / "photograph.png"
    Image.new("RGB", (224, 224)).save(path)
    transform = eval_transform(Preprocessing(image_size=(224, 224), mean=(0, 0, 0), std=(1, 1, 1)))
    loader = EvaluationLoader([Photograph(path=path)] * 64, transform, batch_size=16, workers=2)
    try:
        print(sum(len(batch.indices) for batch in loader))
    except DataError as error:
        print("DataError:", error)
"""
