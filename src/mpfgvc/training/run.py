"""A whole run: read the data, build the network, stage 1, stage 2, test once.

`train` starts a run, `resume` continues one; both are the same path, and what is
already done in the run folder is not done again. The test split is read at the
very end, once, and decides nothing.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mpfgvc.config import Config, StageConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import Batches, TrainingLoader, evaluation_loader, worker_count
from mpfgvc.data.samples import PhotoSet, Sample, Split
from mpfgvc.data.transforms import Preprocessing, Transform, test_transform, train_transform
from mpfgvc.devices import start_fabric, why_not_compile
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.evaluation.evaluate import evaluate_embeddings, evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.embeddings import embed_photos
from mpfgvc.inference.saved_model import SavedModel, save_model
from mpfgvc.model.losses import Objective, balanced_weights
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.towers.image_tower import ImageTower
from mpfgvc.progress import say
from mpfgvc.run_folder import RunFolder
from mpfgvc.seeding import seed_of
from mpfgvc.training.checkpoint import TrainingState, fingerprint, load_stage1, load_state, save_stage1
from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.environment import describe_environment
from mpfgvc.training.loop import Loop, Session
from mpfgvc.training.metric_log import MetricLog
from mpfgvc.training.optim import copy_into
from mpfgvc.training.stages import Stage1, Stage2, trained


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its folder, its model, and its metrics on the test split (None without one)."""

    path: Path
    model_dir: Path
    metrics: Evaluation | None

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc train --json`."""
        metrics = None if self.metrics is None else self.metrics.to_dict()
        return {"run": str(self.path), "model": str(self.model_dir), "metrics": metrics}


def train(config: Config, *, out: str | Path | None = None) -> Run:
    """Train both stages into a new run folder; `out` None = the next free `runs/<dataset>-<number>`.

    Raises ConfigError, DataError, CheckpointError or OutputError for what a user can put right.
    """
    photos = read_photos(config.data, seed=config.seed)
    word = config.model.supercategory or photos.supercategory or "object"
    config = replace(config, model=replace(config.model, supercategory=word))
    fabric = start_fabric(config)
    folder = RunFolder(fabric.broadcast(str(out or _free_folder(config))))
    folder.refuse_existing()
    fabric.barrier()  # no process may look for a run after another has begun to write this one
    return _Training(config, photos, fabric, folder).run()


def resume(run: str | Path, *, device: str | None = None) -> Run:
    """Continue a run that was stopped, with its own settings, from its last checkpoint.

    Raises CheckpointError for a folder that holds no run, or a run of other photographs.
    """
    folder = RunFolder.open(run)
    config = folder.read_config({} if device is None else {"device": device})
    photos = read_photos(config.data, seed=config.seed)
    return _Training(config, photos, start_fabric(config), folder).run()


class _Training:
    """The parts of one run, and the order in which they work."""

    def __init__(self, config: Config, photos: PhotoSet, fabric: Fabric, folder: RunFolder):
        self.config, self.photos, self.fabric, self.folder = config, photos, fabric, folder
        self._refuse_uneven_batches()
        self.network = MPFGVC.from_config(config.model, photos.classes, seed=config.seed)
        self.preprocessing = preprocessing_of(self.network.image_encoder.tower, config)
        self.identity = _identity(self.network, photos)
        self.state = self._load_state()
        if fabric.global_rank == 0 and not folder.is_run:
            environment = describe_environment(
                device=str(fabric.device),
                precision=str(fabric.strategy.precision.precision),
                processes=fabric.world_size,
            )
            folder.create(config, environment)
        self.session = Session(
            fabric=fabric,
            folder=folder,
            log=MetricLog(folder.metrics, folder.tensorboard) if fabric.global_rank == 0 else None,
            seed=config.seed,
            checkpoint_steps=config.checkpoint_steps,
            compile=self._compiles(),
        )

    def run(self) -> Run:
        """Do what is left to do."""
        for note in self.photos.notes:
            self._say(note)
        self._train_stage1()
        network = self.network.to(self.fabric.device).deployed()
        self._train_stage2(network)
        if self.fabric.global_rank == 0:
            saved = SavedModel(network=network, preprocessing=self.preprocessing, config=self.config.model)
            save_model(saved, self.folder.model)
        metrics = self._test(network)
        return Run(path=self.folder.path, model_dir=self.folder.model, metrics=metrics)

    def _train_stage1(self) -> None:
        stage = Stage1(self.network, self.config.stage1, self._objective(self.config.stage1))
        weights = load_stage1(self.folder.stage1)
        if weights is not None:
            copy_into(trained(stage), weights)
            return
        batches = _PhotoBatches(self._training_loader(), self._say)
        validation = self.photos.subset("validation")
        validate = partial(self._validate, "validation", Stage1.sources) if validation else None
        weights = self._loop(stage, batches, validate).run()
        if self.fabric.global_rank == 0:
            save_stage1(self.folder.stage1, weights)

    def _train_stage2(self, network: MPFGVC) -> None:
        settings = self.config.stage2
        if settings.epochs == 0:
            return
        encoder = network.image_encoder
        embeddings = embed_photos(encoder, self._views(settings.views), fabric=self.fabric)
        batches = EmbeddingLoader(
            embeddings,
            batch_size=settings.batch_size,
            seed=self.config.seed,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )
        validate, validation = None, self.photos.subset("validation")
        if validation:
            held_out = embed_photos(encoder, [self._evaluation_batches(validation)], fabric=self.fabric)
            validate = partial(
                evaluate_embeddings, network, held_out, split="validation", sources=Stage2.sources
            )
        stage = Stage2(network.fusion, network.text(), settings, self._objective(settings))
        self._loop(stage, batches, validate).run()

    def _loop(self, stage: Stage1 | Stage2, batches: Any, validate: Any) -> Loop:
        state = self.state
        if state is None or state.stage != stage.name:
            state = TrainingState(stage=stage.name, identity=self.identity)
        return Loop(stage, batches, self.session, validate=validate, state=state)

    def _validate(self, split: Split, sources: tuple[str, ...]) -> Evaluation:
        network = self.network.deployed()
        batches = self._evaluation_batches(self.photos.subset(split))
        return evaluate_photos(network, batches, split=split, fabric=self.fabric, sources=sources)

    def _views(self, count: int) -> list[Batches]:
        """The training photographs as in the test, then `count` - 1 times as stage 1 might show them."""
        samples = self.photos.subset("train")
        plain = self._evaluation_batches(samples)
        if count == 1:
            return [plain]
        transform = train_transform(self.preprocessing, self.config.data.augment)
        seed = seed_of(self.config.seed, "views")
        return [plain, self._evaluation_batches(samples * (count - 1), transform=transform, seed=seed)]

    def _test(self, network: MPFGVC) -> Evaluation | None:
        if not (self.config.final_test and self.photos.subset("test")):
            return None
        batches = self._evaluation_batches(self.photos.subset("test"))
        evaluation = evaluate_photos(network, batches, split="test", fabric=self.fabric)
        if self.fabric.global_rank == 0:
            self.folder.save_evaluation(evaluation.to_dict())
        return evaluation

    def _training_loader(self) -> TrainingLoader:
        return TrainingLoader(
            self.photos.subset("train"),
            train_transform(self.preprocessing, self.config.data.augment),
            batch_size=self.config.stage1.batch_size,
            seed=self.config.seed,
            workers=self._workers(),
            **self._loader_options(),
        )

    def _evaluation_batches(
        self, samples: Sequence[Sample], *, transform: Transform | None = None, seed: int | None = None
    ) -> Batches:
        return evaluation_loader(
            samples,
            transform or test_transform(self.preprocessing),
            batch_size=self.config.stage1.batch_size,
            seed=seed,
            workers=self._workers(model_on_cpu=self.fabric.device.type == "cpu"),
            **self._loader_options(),
        )

    def _workers(self, *, model_on_cpu: bool = False) -> int:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return worker_count(self.config.data.workers, processes=processes, model_on_cpu=model_on_cpu)

    def _loader_options(self) -> dict[str, Any]:
        return {
            "rank": self.fabric.global_rank,
            "world": self.fabric.world_size,
            "on_error": self.config.data.on_error,
        }

    def _objective(self, settings: StageConfig) -> Objective:
        weights = None
        if settings.class_weights == "balanced":
            labels = torch.tensor([sample.label for sample in self.photos.subset("train")])
            weights = balanced_weights(labels.bincount(minlength=len(self.photos.classes)))
            weights = weights.to(self.fabric.device)
        return Objective(settings.label_smoothing, weights)

    def _load_state(self) -> TrainingState | None:
        state = load_state(self.folder.checkpoint)
        if state is not None and state.identity != self.identity:
            reason = "belongs to other classes, photographs or towers than the ones found now"
            hint = "put back the ones of the run, or start a new one with another --out"
            raise CheckpointError(f"{self.folder.checkpoint} {reason}; {hint}")
        return state

    def _refuse_uneven_batches(self) -> None:
        for name in ("stage1", "stage2"):
            size = getattr(self.config, name).batch_size
            if size % self.fabric.world_size:
                rule = f"must be a multiple of the {self.fabric.world_size} processes"
                raise ConfigError(f"{name}.batch_size {rule}, got {size}")

    def _compiles(self) -> bool:
        """Whether to compile: it changes the speed alone, so a machine that cannot goes on without."""
        reason = why_not_compile(self.fabric) if self.config.compile else None
        if reason is not None:
            self._say(f"compile: the step runs uncompiled, {reason}")
        return self.config.compile and reason is None

    def _say(self, line: str) -> None:
        if self.fabric.global_rank == 0:
            say(line)


class _PhotoBatches:
    """Photograph batches as pairs, naming each broken photograph once."""

    def __init__(self, loader: TrainingLoader, tell: Any):
        self.loader, self.tell = loader, tell
        self.steps = loader.steps
        self.broken: set[str] = set()

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader.epoch(epoch, first_step):
            for path in set(batch.broken) - self.broken:
                self.broken.add(path)
                self.tell(f"skipped {path}: it cannot be read ({len(self.broken)} so far)")
            yield batch.images, batch.labels


def preprocessing_of(tower: ImageTower, config: Config) -> Preprocessing:
    """How test photographs are prepared: by the tower's own data, where the config leaves it open."""
    return Preprocessing(
        image_size=tower.input.image_size,
        resize=config.data.resize,
        crop_ratio=config.data.crop_ratio or tower.input.crop_ratio,
        mean=tower.input.mean,
        std=tower.input.std,
        interpolation=tower.input.interpolation,  # type: ignore[arg-type]
    )


def _identity(network: MPFGVC, photos: PhotoSet) -> str:
    """What a checkpoint shares with the run that continues it: classes, photographs, frozen text tower."""
    names = [f"{sample.path.name}:{sample.label}:{sample.split}" for sample in photos.samples]
    frozen = network.text.state_dict()
    tensors = [tensor for name, tensor in frozen.items() if name.startswith("tower.")]
    return fingerprint(tensors, [*photos.classes, *names])


def _free_folder(config: Config) -> Path:
    """The first of runs/<dataset>-1, runs/<dataset>-2, ... that does not exist."""
    number = 1
    while Path(f"runs/{config.data.dataset}-{number}").exists():
        number += 1
    return Path(f"runs/{config.data.dataset}-{number}")
