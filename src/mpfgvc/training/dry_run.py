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
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import active_children
from pathlib import Path
from typing import Any

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
from mpfgvc.training.loop import Loop
from mpfgvc.training.open_run import OpenRun, list_photographs, open_run
from mpfgvc.training.run import check_config, checked, fabric_of, resolve
from mpfgvc.training.stages import Stage1, Stage2
from mpfgvc.training.starts import MOST_STEPS, STEPS, FeatureStart, batch_size_of, fit_logistic_regression
from mpfgvc.training.train_stages import EmbeddingLoader, loop_of, objective_of

MEASURED = 3
"""Steps of each stage, and batches of photographs that are embedded."""
FULL = 0.9
"""Share of a memory or a disk up to which a training fits."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the training: how many steps or photographs, and seconds of one and of all."""

    name: str
    count: int
    unit: str
    seconds_each: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Store:
    """What can be full (gpu, memory or disk), in bytes, and the part of the training that needs most of it."""

    name: str
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
    check_config(config)
    config, photos = resolve(config)
    photos, descriptions = checked(config, photos)
    fabric = fabric_of(config)
    if out is not None and Path(out).exists():
        from_first(fabric, RunFolder(out).refuse_existing)
    with ExitStack() as stack:
        photos = list_photographs(config, photos, fabric)
        folder = from_first(fabric, lambda: tempfile.mkdtemp(prefix="mpfgvc-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        run = open_run(config, photos, fabric, RunFolder(folder), descriptions=descriptions)
        for note in photos.notes:
            run.tell(note)
        if run.session.log is not None:
            stack.callback(run.session.log.close)
        return _measured(run, Path("runs" if out is None else out))


def _measured(run: OpenRun, out: Path) -> DryRun:
    """All parts, as far as memory suffices."""
    rehearsal, peaks, config = _Rehearsal(run), dict[str, dict[str, int]](), run.config
    stage1, stage2, has = config.stage1, config.stage2, _capacity(run.fabric.device)
    work: dict[str, tuple[bool, Callable[[], None]]] = {
        "embedding": (True, rehearsal.embed),
        "features": (stage1.start == "features", rehearsal.start),
        "stage1": (stage1.epochs > 0, rehearsal.stage1),
        "stage2": (stage2.epochs > 0 or stage2.start == "stage1", rehearsal.stage2),
        "model": (True, rehearsal.end),
    }
    for name, (is_done, rehearse) in work.items():
        if is_done:
            try:
                rehearse()
            except torch.OutOfMemoryError:
                peaks[name] = {"gpu": has["gpu"], "memory": 0}
                break
            peaks[name] = _held(run.fabric.device)
    stores = []
    for name, there in has.items():
        needs = max(held[name] for held in peaks.values())
        part = next(part for part, held in peaks.items() if held[name] > 0.99 * needs)
        stores.append(Store(name=name, part=part, needs=needs, has=there))
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    needs = 2 * rehearsal.checkpoint + rehearsal.stored  # a new checkpoint is written beside the old one
    stores.append(Store(name="disk", part="checkpoint", needs=needs, has=shutil.disk_usage(existing).free))
    return DryRun(
        image_tower=config.model.image_tower.name,
        text_tower=config.model.text_tower.name,
        device=str(run.fabric.device),
        precision=str(run.fabric.strategy.precision.precision),
        processes=run.processes.world,
        classes=len(run.photos.classes),
        photographs=rehearsal.counts,
        parts=tuple(rehearsal.parts),
        stores=tuple(stores),
        advice=tuple(_advice(store, config) for store in stores if not store.fits),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cores=core_count(),
    )


@dataclass
class _Rehearsal:
    """A little of each part's work; what it took, and the bytes of a checkpoint and of the stored tensors."""

    run: OpenRun
    parts: list[Part] = field(default_factory=list)
    checkpoint: int = 0
    stored: int = 0

    def __post_init__(self) -> None:
        self.config, self.network = self.run.config, self.run.network.to(self.run.fabric.device)
        self.samples = self.run.photos.subset("train")
        self.counts = {split: len(self.run.photos.subset(split)) for split in ("train", "validation", "test")}

    def embed(self) -> None:
        """Embed a few batches of all processes; `a_photograph`: seconds of one with all of them at work."""
        world, times = self.run.processes.world, [(time.perf_counter(), 0)]
        samples = self.samples[: MEASURED * world * self.config.stage1.batch_size]
        seen = lambda count: times.append((time.perf_counter(), count))  # noqa: E731
        embedded = embed_photos(
            self.network.image_encoder, self.run.in_order(samples), fabric=self.run.fabric, seen=seen
        )
        if len(times) > 2:
            times = times[1:]  # until the first batch, loader processes start
        own = max(1, sum(count for _, count in times[1:]))  # a process may have none
        self.a_photograph = (times[-1][0] - times[0][0]) / own / world
        self.embeddings, self.labels = embedded.values, labels_of(samples)[embedded.indices]

    def start(self) -> None:
        """The start from features."""
        sources, objective = self.config.stage1.sources, objective_of(self.run, self.config.stage1)
        batches = self._batches(batch_size_of(len(self.samples)), steps=STEPS)
        self._add("embedding for the start", len(self.samples), self.a_photograph)
        if "vision" in sources:
            rows, labels = batches.embeddings, batches.labels
            started, head = time.perf_counter(), self.network.classifier
            fit_logistic_regression(head, rows, labels, objective=objective, most_steps=MEASURED)
            a_step = (time.perf_counter() - started) / MEASURED
            self._add("logistic regression, at most", MOST_STEPS, a_step, unit="steps")
        if "text" in sources:
            self._rehearse(loop_of(self.run, FeatureStart(self.network, objective, self.run.processes), batches, None))

    def stage1(self) -> None:
        """Steps on photographs."""
        settings, processes = self.config.stage1, self.run.processes
        workers = worker_count(self.config.data.workers, processes=processes.local)
        started = time.perf_counter()
        next(self.run.training_batches(workers=0).epoch(0))
        reading = (time.perf_counter() - started) / max(1, workers)
        stage = Stage1(self.network, settings, objective_of(self.run, settings), processes)
        batches = self.run.training_batches(workers=self.config.data.workers)
        self._rehearse(loop_of(self.run, stage, batches, None), reading)
        self.stored += _bytes(stage.trained())
        self._add("validation in stage 1", settings.epochs * self.counts["validation"], self.a_photograph)

    def stage2(self) -> None:
        """Steps on embeddings."""
        settings, network = self.config.stage2, self.run.deployed()
        passed = self.counts["train"] + self.counts["validation"]
        self._add("embedding for stage 2", passed, self.a_photograph)
        batches = self._batches(settings.batch_size)
        if settings.start == "stage1":
            start_fusion(network, batches.embeddings, gain=settings.text_gain)
        stage = Stage2(network.fusion, network.text(), settings, objective_of(self.run, settings))
        self._rehearse(loop_of(self.run, stage, batches, None))

    def end(self) -> None:
        """The model that is stored, and the photographs that are looked at after the training."""
        self.stored += _bytes(self.run.deployed().state_dict())
        looked_at = self.counts["validation"] * self.config.calibrate + self.counts["test"] * self.config.final_test
        self._add("calibration and test", looked_at, self.a_photograph)

    def _rehearse(self, loop: Loop, reading: float = 0) -> None:
        """A few steps; `reading`: seconds in which the loader processes read this process's share of a batch."""
        if loop.total_steps:
            seconds = loop.rehearse(MEASURED)[1:]
            a_step = max(sum(seconds) / len(seconds), reading)
            self._add(loop.stage.name, loop.total_steps, a_step, unit="steps")
        best = 0 if loop.settings.patience is None else _bytes(loop.weights)
        self.checkpoint = max(self.checkpoint, best + _bytes(vars(loop.snapshot())))
        loop.placement.put_back()

    def _batches(self, batch_size: int, steps: int | None = None) -> EmbeddingLoader:
        """As many embeddings as the training has: those that were computed, again and again."""
        rows, seed = torch.arange(len(self.samples)) % len(self.labels), self.config.seed
        values, labels, processes = self.embeddings[rows], self.labels[rows], self.run.processes
        return EmbeddingLoader(values, labels, batch_size=batch_size, seed=seed, processes=processes, steps=steps)

    def _add(self, name: str, count: int, one: float, unit: str = "photographs") -> None:
        if count:
            self.parts.append(Part(name=name, count=count, unit=unit, seconds_each=one, seconds=count * one))


def _advice(store: Store, config: Config) -> str:
    """The settings that help where something is too small for a part of the training."""
    if store.name == "disk":
        return "the disk is too full for the run folder; make room, or choose another --out"
    stage1 = config.stage1
    helps = {
        "embedding": f"--stage1.batch_size {max(1, stage1.batch_size // 2)}",
        "features": "--stage1.start random",
        "stage1": f"--model.prompt_chunk {max(16, config.model.prompt_chunk // 4)}",
        "stage2": f"--stage2.batch_size {max(1, config.stage2.batch_size // 2)}",
    }
    if stage1.batch_size % (2 * stage1.accumulate) == 0:
        helps["stage1"] = f"--stage1.accumulate {2 * stage1.accumulate} or {helps['stage1']}"
    where = "the GPU's memory" if store.name == "gpu" else "this machine's memory"
    way = helps.get(store.part, "fewer data.workers")
    return f"{where} is too small for {store.part}; try {way}, or several processes with --sharding full"


def _held(device: torch.device) -> dict[str, int]:
    """The most bytes so far: of this GPU, and of all processes with their loader processes."""
    memory = peak_of_this_process() or 0
    for child in active_children():
        with suppress(OSError):
            lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
            memory += sum(1024 * int(size) for size in re.findall(r"^Pss: +(\d+)", lines, re.MULTILINE))
    held = {"memory": sum(gather(memory))}
    return held | ({"gpu": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {})


def _capacity(device: torch.device) -> dict[str, int]:
    """Bytes of the GPU, and of this machine or its container, as far as the system says."""
    has = {"gpu": torch.cuda.get_device_properties(device).total_memory} if device.type == "cuda" else {}
    if hasattr(os, "sysconf"):
        has["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with suppress(OSError, ValueError):
            has["memory"] = min(has["memory"], int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return has


def _bytes(values: object) -> int:
    """Of all tensors in nested values; of spread ones, all of them."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
