"""`mpfgvc train --dry-run`: what a training will take, measured on this machine in a few steps of it.

The run is opened as `train` opens it, with all of its checks, but in a temporary folder. Then each part does
a little of its real work: a few batches of photographs go through the tower, and each stage does three
optimiser steps, of which the first warms up. Time is what they took, multiplied; where loader processes are
slower than the steps, theirs counts. Memory is the most that was held, disk the size of the stored tensors.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mpfgvc.config import Config
from mpfgvc.data.loading import labels_of, worker_count
from mpfgvc.distributed import from_first, gather
from mpfgvc.inference.forward import embed_photos
from mpfgvc.model.fusion import start_fusion
from mpfgvc.processes import core_count
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.environment import peak_of_this_process
from mpfgvc.training.loaders import EmbeddingLoader, OneLongEpoch
from mpfgvc.training.loop import Loop
from mpfgvc.training.open_run import OpenRun, list_photographs, open_run
from mpfgvc.training.run import checked, claimed, fabric_of, refuse_unfit, resolve
from mpfgvc.training.stages import Stage1, Stage2
from mpfgvc.training.starts import MOST_STEPS, STEPS, FeatureStart, batch_size_of, fit_logistic_regression
from mpfgvc.training.train_stages import SHARES, loop_of, objective_of

MEASURED = 3
"""Steps of each stage, and batches of photographs that are embedded."""
FULL = 0.9
"""Share of a memory or a disk up to which a training fits."""
REGRESSION_COPIES = 200
"""What L-BFGS holds of the classifier in float64 after a hundred steps: too late to be measured."""
StoreName = Literal["gpu", "memory", "disk"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the training: how many steps or photographs, and seconds of one and of all."""

    name: str
    count: int
    unit: Literal["steps", "photographs"]
    seconds_each: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Store:
    """What can be full, in bytes; `part` is the part of the training that needs most of it."""

    name: StoreName
    part: str
    needs: int
    has: int

    @property
    def fits(self) -> bool:
        """Whether there is enough, with a tenth to spare."""
        return self.needs <= FULL * self.has


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training will take. `photographs` counts those of each split, `advice` says how it would fit."""

    image_tower: str
    text_tower: str
    device: str
    precision: str
    processes: int
    classes: int
    photographs: dict[str, int]
    parts: tuple[Part, ...]
    stores: tuple[Store, ...]
    advice: tuple[str, ...]
    load_average: float | None
    """Processes that wanted a core in the last minute; None where the system does not say (Windows)."""
    cores: int

    @property
    def seconds(self) -> float:
        """All of the training."""
        return sum(part.seconds for part in self.parts)

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice."""
        return not self.advice

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc train --dry-run --json`."""
        return asdict(self) | {"seconds": self.seconds, "fits": self.fits}


def dry_run(config: Config, *, out: str | Path | None = None) -> DryRun:
    """Measure a training with these settings, which `out` would be the run folder of; leaves nothing behind.

    Raises what `train` raises for a user error.
    """
    refuse_unfit(config)
    config, photos = resolve(config)
    photos, descriptions = checked(config, photos)
    fabric = fabric_of(config)
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(_removed_if_made(Path(out)))
            stack.enter_context(claimed(RunFolder(out), fabric, new=True))
        photos = list_photographs(config, photos, fabric)
        folder = from_first(fabric, lambda: tempfile.mkdtemp(prefix="mpfgvc-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        run = open_run(config, photos, fabric, RunFolder(folder), descriptions=descriptions)
        for note in photos.notes:
            run.tell(note)
        if run.session.log is not None:
            stack.callback(run.session.log.close)
        return _Measuring(run, Path("runs" if out is None else out)).measure()


class _Measuring:
    """The work of a dry run, part by part."""

    def __init__(self, run: OpenRun, out: Path):
        self.run, self.out, self.config = run, out, run.config
        self.network = run.network.to(run.fabric.device)
        self.samples = run.photos.subset("train")
        self.counts = {split: len(run.photos.subset(split)) for split in ("train", "validation", "test")}
        self.parts: list[Part] = []
        self.peaks: list[tuple[str, dict[StoreName, int]]] = []
        self.checkpoint = self.stored = 0

    def measure(self) -> DryRun:
        """Measure all parts, as far as memory suffices."""
        short = None
        for part, work in self._work():
            try:
                work()
            except torch.OutOfMemoryError:
                short = part
            held = self._held()
            if part == "features" and "vision" in self.config.stage1.sources:
                held["memory"] += 8 * REGRESSION_COPIES * self.network.classifier.weight.numel()
            self.peaks.append((part, held))
            if short is not None:
                break
        stores = self._stores()
        too_much = [(store.name, store.part) for store in stores if not store.fits]
        if short is not None:
            too_much = [("gpu", short)]
        fabric, model = self.run.fabric, self.config.model
        return DryRun(
            image_tower=model.image_tower.name,
            text_tower=model.text_tower.name,
            device=str(fabric.device),
            precision=str(fabric.strategy.precision.precision),
            processes=fabric.world_size,
            classes=len(self.run.photos.classes),
            photographs=self.counts,
            parts=tuple(self.parts),
            stores=stores,
            advice=tuple(_advice(name, part, self.config) for name, part in too_much),
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            cores=core_count(),
        )

    def _work(self) -> Iterator[tuple[str, Callable[[], None]]]:
        stage1, stage2 = self.config.stage1, self.config.stage2
        yield "embedding", self._embed
        if stage1.start == "features":
            yield "features", self._start
        if stage1.epochs:
            yield "stage1", self._stage1
        if stage2.epochs or stage2.start == "stage1":
            yield "stage2", self._stage2
        yield "model", self._end

    def _embed(self) -> None:
        """Embed a few batches of all processes; `a_photograph`: seconds of one with all of them at work."""
        world, times = self.run.fabric.world_size, [(time.perf_counter(), 0)]
        samples = self.samples[: MEASURED * world * self.config.stage1.batch_size]
        seen = lambda count: times.append((time.perf_counter(), count))  # noqa: E731
        loader = self.run.loaders.evaluation(samples)
        embedded = embed_photos(self.network.image_encoder, loader, fabric=self.run.fabric, seen=seen)
        if len(times) > 2:
            times = times[1:]  # until the first batch, loader processes start
        own = max(1, sum(count for _, count in times[1:]))  # a process may have none
        self.a_photograph = (times[-1][0] - times[0][0]) / own / world
        self.embeddings, self.labels = embedded.values, labels_of(samples)[embedded.indices]

    def _start(self) -> None:
        sources, objective = self.config.stage1.sources, objective_of(self.run, self.config.stage1)
        batches = self._tiled(len(self.samples), batch_size_of(len(self.samples)))
        self._add("embedding for the start", len(self.samples), "photographs", self.a_photograph)
        if "vision" in sources:
            started = time.perf_counter()
            fit_logistic_regression(
                self.network.classifier, batches.embeddings, batches.labels, objective=objective, most_steps=MEASURED
            )
            a_step = (time.perf_counter() - started) / MEASURED
            self._add("logistic regression, at most", MOST_STEPS, "steps", a_step)
        if "text" in sources:
            stage = FeatureStart(self.network, objective, self.run.spread)
            self._rehearse(loop_of(self.run, stage, OneLongEpoch(batches, steps=STEPS), None))

    def _stage1(self) -> None:
        settings = self.config.stage1
        stage = Stage1(self.network, settings, objective_of(self.run, settings), self.run.spread)
        batches = self.run.loaders.training(self.samples)
        self._rehearse(loop_of(self.run, stage, batches, None), reading=self._reading())
        self.stored += _bytes(stage.trained())
        passes = settings.epochs + (len(SHARES) if settings.pretrained_share == "validation" else 0)
        self._add("validation in stage 1", passes * self.counts["validation"], "photographs", self.a_photograph)

    def _reading(self) -> float:
        """Seconds in which the loader processes of this process read its share of a batch."""
        loaders = self.run.loaders
        workers = worker_count(loaders.settings.workers, processes=loaders.processes.local)
        alone = replace(loaders, settings=loaders.settings.replaced(workers=0)).training(self.samples)
        started = time.perf_counter()
        next(alone.epoch(0))
        return (time.perf_counter() - started) / max(1, workers)

    def _stage2(self) -> None:
        settings, network = self.config.stage2, self.run.deployed()
        count = settings.views * len(self.samples)
        passed = count + self.counts["validation"]
        self._add("embedding for stage 2", passed, "photographs", self.a_photograph)
        batches = self._tiled(count, settings.batch_size)
        if settings.start == "stage1":
            start_fusion(network, batches.embeddings, gain=settings.text_gain)
        stage = Stage2(network.fusion, network.text(), settings, objective_of(self.run, settings))
        self._rehearse(loop_of(self.run, stage, batches, None))

    def _end(self) -> None:
        """The model that is stored, and the photographs that are looked at after the training."""
        self.stored += _bytes(self.run.deployed().state_dict())
        looked_at = self.counts["validation"] * self.config.calibrate
        looked_at += self.counts["test"] * self.config.final_test
        self._add("calibration and test", looked_at, "photographs", self.a_photograph)

    def _rehearse(self, loop: Loop, reading: float = 0) -> None:
        if loop.total_steps:
            seconds = loop.rehearse(MEASURED)[1:]
            a_step = max(sum(seconds) / len(seconds), reading)
            self._add(loop.stage.name, loop.total_steps, "steps", a_step)
        best = 0 if loop.settings.patience is None else _bytes(loop.weights)
        self.checkpoint = max(self.checkpoint, best + _bytes(vars(loop.snapshot())))
        loop.placement.put_back()

    def _tiled(self, count: int, batch_size: int) -> EmbeddingLoader:
        """As many embeddings as the training has: those that were computed, again and again."""
        indices = torch.arange(count) % len(self.labels)
        return EmbeddingLoader(
            self.embeddings[indices],
            self.labels[indices],
            batch_size=batch_size,
            seed=self.config.seed,
            processes=self.run.loaders.processes,
        )

    def _add(self, name: str, count: int, unit: Literal["steps", "photographs"], one: float) -> None:
        if count:
            part = Part(name=name, count=count, unit=unit, seconds_each=one, seconds=count * one)
            self.parts.append(part)

    def _held(self) -> dict[StoreName, int]:
        """The most bytes so far: of this GPU, and of all processes with their loader processes."""
        device = self.run.fabric.device
        held: dict[StoreName, int] = {"memory": sum(gather(_memory_of_this_process()))}
        return held | ({"gpu": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {})

    def _stores(self) -> tuple[Store, ...]:
        device, has = self.run.fabric.device, dict[StoreName, int]()
        if device.type == "cuda":
            has["gpu"] = torch.cuda.get_device_properties(device).total_memory
        if (memory := _machine_memory()) is not None:
            has["memory"] = memory
        stores = []
        for name, there in has.items():
            needs = max(held[name] for _, held in self.peaks)
            part = next(part for part, held in self.peaks if held[name] > 0.99 * needs)
            stores.append(Store(name=name, part=part, needs=needs, has=there))
        existing = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        needs = 2 * self.checkpoint + self.stored  # a new checkpoint is written beside the old one
        free = shutil.disk_usage(existing).free
        return (*stores, Store(name="disk", part="checkpoint", needs=needs, has=free))


def _advice(name: StoreName, part: str, config: Config) -> str:
    """The settings that help where something is too small for a part of the training."""
    if name == "disk":
        return "the disk is too full for the run folder; make room, or choose another --out"
    stage1, stage2 = config.stage1, config.stage2
    micro_batch = stage1.batch_size // stage1.accumulate
    helps = {
        "embedding": f"--stage1.batch_size {max(1, stage1.batch_size // 2)}",
        "features": "--stage1.start random",
        "stage1": f"--model.prompt_chunk {max(16, config.model.prompt_chunk // 4)}",
        "stage2": f"--stage2.batch_size {max(1, stage2.batch_size // 2)} or --stage2.views 1",
    }
    if part == "stage1" and micro_batch > 1 and micro_batch % 2 == 0:
        helps["stage1"] = f"--stage1.accumulate {2 * stage1.accumulate} or {helps['stage1']}"
    way = helps.get(part, "fewer data.workers")
    where = "the GPU's memory" if name == "gpu" else "this machine's memory"
    return f"{where} is too small for {part}; try {way}, or several processes with --sharding full"


def _memory_of_this_process() -> int:
    """The most bytes that it had, and those that its loader processes have now, as far as the system says."""
    held = peak_of_this_process() or 0
    for child in active_children():
        with suppress(OSError):
            lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
            held += sum(1024 * int(size) for size in re.findall(r"^Pss: +(\d+)", lines, re.MULTILINE))
    return held


def _machine_memory() -> int | None:
    """Bytes of this machine, or of its container; None where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        has = min(has, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return has


def _bytes(values: object) -> int:
    """Of all tensors in nested values; of spread ones, all of them."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


@contextmanager
def _removed_if_made(folder: Path) -> Iterator[None]:
    """After the block, the folder and those above it that were not there before are removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
