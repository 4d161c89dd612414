"""`mpfgvc plan` against trainings: peak memory, and seconds for a photograph, planned and measured.

    python benchmarks/plan.py [--only NAME ...]       # --only measures some again

Each training is a real one (`mpfgvc.train`), short, of small drawn photographs with towers of random
weights, in a forked process on one thread. Memory is the peak of the resident memory above what the process
held before the training, without the code of libraries (side_by_side.py). It holds what the plan counts, and
also what the allocator keeps back and what kernels allocate. The libraries were loaded and used once before.

Time is processor time, as others use the machine: that of a training of two epochs less that of one, for
each photograph. It includes reading it, and a checkpoint for each epoch. The plan's rate is measured by the
same clock just before and just after; the slower and the faster of the two are given as well.
"""

import json
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import result_file, write_result
from mpfgvc import Config, load_config, train
from mpfgvc.scale.plan import Plan, Planner, Question
from mpfgvc.training.planned import PlannedTraining
from side_by_side import peak_megabytes

LIMIT = 0.15
MEGABYTE = 2**20
RANDOM_TOWERS = {"model.image_tower.pretrained": False, "model.text_tower.pretrained": None}
SHORT = {
    "data.workers": 0,
    "data.validation": 0.0,
    "data.test": 0.0,
    "final_test": False,
    "calibrate": False,
    "stage1.start": "noise",
    "stage1.warmup_epochs": 0.0,
    "stage2.epochs": 1,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training: settings on top of a recipe, classes, and photographs of each class."""

    name: str
    recipe: str = "vit_tiny"
    classes: int = 4
    each: int = 32
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self, photos: Path, epochs: int) -> Config:
        """The settings of a training of so many epochs."""
        settings = {**SHORT, **self.settings, "stage1.epochs": epochs}
        if self.recipe != "synthetic":
            settings |= {"data.root": str(photos), "data.dataset": "folder", **RANDOM_TOWERS, **self.settings}
        return load_config(self.recipe, overrides=settings)

    @property
    def question(self) -> Question:
        """What the plan is asked."""
        return Question(classes=self.classes, images=self.classes * self.each)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Planned and measured, in MB and in milliseconds of processor time for a photograph."""

    name: str
    planned_megabytes: float
    measured_megabytes: float
    planned_milliseconds: float
    least_planned_milliseconds: float
    most_planned_milliseconds: float
    measured_milliseconds: float
    peak: str


CLIP_TEXT = {"model.text_tower.name": "ViT-B-16"}
CASES = (
    Case(name="synthetic birds, the default", recipe="synthetic", classes=30, each=20),
    Case(name="ViT-tiny, 224 px, batch 32", settings={"stage1.batch_size": 32}),
    Case(name="ViT-tiny, 224 px, batch 64, fp32", settings={"stage1.batch_size": 64, "precision": "fp32"}),
    Case(
        name="ViT-S/16, 224 px, batch 16 in 2 micro-batches",
        each=8,
        settings={
            "model.image_tower.name": "vit_small_patch16_224",
            "stage1.batch_size": 16,
            "stage1.accumulate": 2,
        },
    ),
    Case(
        name="ViT-B/16, 224 px, batch 4, CLIP's text tower",
        each=12,
        settings={"model.image_tower.name": "vit_base_patch16_224", "stage1.batch_size": 4, **CLIP_TEXT},
    ),
    Case(
        name="2,000 classes in chunks of 256, 96 px, batch 200",
        classes=2000,
        each=1,
        settings={
            "model.image_tower.name": "mpfgvc-birds",
            "model.image_tower.image_size": 96,
            "model.kept_tokens": 16,
            "stage1.batch_size": 200,
        },
    ),
)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="beginnings of the names of cases")
    chosen = parser.parse_args().only
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _load_libraries(Path(folder))
        for number, case in enumerate(CASES):
            if chosen is None or case.name.startswith(tuple(chosen)):
                rows.append(_row(case, Path(folder) / str(number)))
                print(_line(rows[-1]), flush=True)
    if chosen is not None and result_file("plan").exists():
        rows = _replaced(json.loads(result_file("plan").read_text())["rows"], rows)
    if len(rows) == len(CASES):
        document = {"name": "plan", "limit": LIMIT, "rows": [asdict(row) for row in rows]}
        write_result("plan", document, precision="auto")


def _replaced(stored: list[dict[str, Any]], new: list[Row]) -> list[Row]:
    """The stored rows, with those that were measured again in their places."""
    found = {row.name: row for row in new}
    return [found.get(each["name"], Row(**each)) for each in stored]


def _row(case: Case, folder: Path) -> Row:
    photos = folder / "photos"
    if case.recipe != "synthetic":
        _draw(photos, case.classes, case.each)
    before = _plan(case, photos)
    short, (megabytes, long) = _measured(case, folder, 1), _measured(case, folder, 2)
    after = _plan(case, photos)
    planned = [1000 * plan.seconds_per_image for plan in (before, after)]
    return Row(
        name=case.name,
        planned_megabytes=before.peak.total() / MEGABYTE,
        measured_megabytes=megabytes,
        planned_milliseconds=sum(planned) / 2,
        least_planned_milliseconds=min(planned),
        most_planned_milliseconds=max(planned),
        measured_milliseconds=1000 * (long - short[1]) / (case.classes * case.each),
        peak=before.peak.name,
    )


def _plan(case: Case, photos: Path) -> Plan:
    config = case.config(photos, 2)
    return Planner(case.question, PlannedTraining(), config, clock=time.process_time).plan(config)


def _measured(case: Case, folder: Path, epochs: int) -> tuple[float, float]:
    """Peak memory in MB and processor seconds of a training."""
    clock = folder / f"seconds-{epochs}"
    folder.mkdir(exist_ok=True)

    def work() -> None:
        started = time.process_time()
        train(case.config(folder / "photos", epochs), out=folder / f"run-{epochs}")
        clock.write_text(json.dumps(time.process_time() - started))

    return peak_megabytes(work), json.loads(clock.read_text())


def _draw(folder: Path, classes: int, each: int) -> None:
    """Small photographs of noise, in one folder for each class, all of them for training."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        place = folder / "train" / f"class {label:04d}"
        place.mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.jpg")


def _load_libraries(folder: Path) -> None:
    """A training of a few birds, so that what libraries load late is there before anything is measured."""
    settings = {**SHORT, "data.birds.species": 2, "data.birds.train": 16, "stage1.epochs": 1}
    train(load_config("synthetic", overrides=settings), out=folder / "first")


def _line(row: Row) -> str:
    memory = f"{row.planned_megabytes:7.0f} {row.measured_megabytes:7.0f} MB"
    memory += f" {row.planned_megabytes / row.measured_megabytes:5.2f}"
    spread = f"({row.least_planned_milliseconds:.1f} to {row.most_planned_milliseconds:.1f})"
    clock = f"{row.planned_milliseconds:7.1f} {spread} {row.measured_milliseconds:7.1f} ms"
    clock += f" {row.planned_milliseconds / row.measured_milliseconds:5.2f}"
    return f"{row.name:52s} {memory}   {clock}   {row.peak}"


if __name__ == "__main__":
    main()
