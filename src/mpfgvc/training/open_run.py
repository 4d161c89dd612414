"""Open a run: check what can be checked, build the network, and hand each part what it needs.

The order is that of cost: settings first, then the photographs, then towers that may have to be fetched.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from mpfgvc.config import Config
from mpfgvc.data.descriptions import NO_DESCRIPTIONS, Descriptions
from mpfgvc.data.loading import EvaluationLoader, TrainingLoader, worker_count
from mpfgvc.data.photographs_file import save_photos
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.run_photos import with_digests
from mpfgvc.data.samples import PhotoSet, Samples
from mpfgvc.data.taxonomy_file import save_taxonomy
from mpfgvc.data.transforms import eval_transform, train_transform
from mpfgvc.distributed import from_first, why_not_compile
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.files import make_folder
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.model.network import MPFGVC
from mpfgvc.processes import Processes
from mpfgvc.progress import say
from mpfgvc.run_folder import Environment, Row, RunFolder, read_rows
from mpfgvc.training.checkpoint import Identity, TrainingState, load_state
from mpfgvc.training.environment import describe_environment
from mpfgvc.training.log import MetricLog
from mpfgvc.training.loop import Session
from mpfgvc.training.signs import EarlySigns
from mpfgvc.training.stages import text_features


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that was opened: its settings, its photographs, and its parts. `state` is its last checkpoint."""

    config: Config
    photos: PhotoSet
    folder: RunFolder
    network: MPFGVC
    preprocessing: Preprocessing
    identity: Identity
    state: TrainingState | None
    session: Session
    processes: Processes
    tell: Callable[[str], None]
    """Says a line, once for all processes."""

    @property
    def fabric(self) -> Fabric:
        """Device, precision and processes."""
        return self.session.fabric

    @torch.no_grad()
    def deployed(self) -> MPFGVC:
        """The network as it is now, on its device; all processes compute its text features together."""
        network = self.network.to(self.fabric.device)
        return network.deployed(text_features(network.prompts, self.processes))

    def training_batches(self, *, workers: int | None) -> TrainingLoader:
        """Random crops of the training photographs in random order, for stage 1."""
        return TrainingLoader(
            self.photos.subset("train"),
            train_transform(self.preprocessing, self.config.data.augment),
            batch_size=self.config.stage1.batch_size,
            seed=self.config.seed,
            processes=self.processes,
            workers=workers,
            on_error=self.config.data.on_error,
            tell=self.tell,
        )

    def in_order(self, samples: Samples) -> EvaluationLoader:
        """Photographs as in the test, in order."""
        return EvaluationLoader(
            samples,
            eval_transform(self.preprocessing),
            batch_size=self.config.stage1.batch_size,
            processes=self.processes,
            workers=self.config.data.workers,
            model_on_cpu=self.fabric.device.type == "cpu",
            on_error=self.config.data.on_error,
        )


def list_photographs(config: Config, photos: PhotoSet, fabric: Fabric) -> PhotoSet:
    """The photographs of a run as `with_digests` reads them, once for all processes."""
    return from_first(fabric, lambda: with_digests(photos, config.data.on_error))


def open_run(
    config: Config,
    photos: PhotoSet,
    fabric: Fabric,
    folder: RunFolder,
    *,
    descriptions: Descriptions = NO_DESCRIPTIONS,
    stored: Environment | None = None,
) -> OpenRun:
    """Open a new run or one that was stopped, which `stored` says what it was made with.

    `descriptions` are those of the settings, or those that the run keeps.

    Raises ConfigError for settings that do not fit the processes, CheckpointError for towers that are not
    available or tensors of another run, OutputError for a folder that cannot be written.
    """
    processes = Processes.here()
    tell = say if processes.is_first else _keep_quiet
    for stage in (config.stage1, config.stage2):
        if stage.batch_size % processes.world:
            rule = f"must be a multiple of the {processes.world} processes"
            raise ConfigError(f"{stage.prefix}batch_size {rule}, got {stage.batch_size}")
    sentences = descriptions.sentences
    network = MPFGVC.from_config(config.model, photos.classes, sentences=sentences, seed=config.seed)
    for note in network.start.notes:
        tell(note)
    if config.sharding == "full" and processes.world == 1:
        tell("sharding: full changes nothing, as this process has no other to share with")
    reason = why_not_compile(fabric) if config.compile else None
    if reason is not None:  # compiling changes only the speed
        tell(f"compile: the step runs uncompiled, {reason}")
    identity = Identity.of(network, photos, sentences)
    state = load_state(folder.checkpoint, identity)
    log = signs = None
    if processes.is_first:
        rows = _rows_of_stage1(folder) if state is None else state.rows
        _record(config, photos, descriptions, fabric, folder, stored)
        log = MetricLog(folder.metrics, folder.tensorboard, rows)
        signs = EarlySigns(
            classes=photos.classes,
            photographs=photos.subset("train").counts(len(photos.classes)).tolist(),
            workers=worker_count(config.data.workers, processes=processes.local),
            tell=tell,
        )
    return OpenRun(
        config=config,
        photos=photos,
        folder=folder,
        network=network,
        preprocessing=preprocessing_of(network.image_encoder.tower.input, config.data),
        identity=identity,
        state=state,
        processes=processes,
        tell=tell,
        session=Session(
            fabric=fabric,
            folder=folder,
            log=log,
            seed=config.seed,
            checkpoint_steps=config.checkpoint_steps,
            compile=config.compile and reason is None,
            signs=signs,
        ),
    )


def _rows_of_stage1(folder: RunFolder) -> list[Row]:
    """The rows of a run whose checkpoint is gone: its stage 1 may have ended, its stage 2 begins anew."""
    rows: list[Row] = []
    with suppress(CheckpointError):  # the file is written again
        rows = read_rows(folder.metrics) if folder.stage1.exists() else []
    return [row for row in rows if row["stage"] != "stage2"]


def _keep_quiet(_: str) -> None:
    """What the other processes say."""


def _record(
    config: Config,
    photos: PhotoSet,
    descriptions: Descriptions,
    fabric: Fabric,
    folder: RunFolder,
    stored: Environment | None,
) -> None:
    """Write down what a new run depends on; for a run that goes on, say what differs."""
    now = describe_environment(
        device=str(fabric.device), precision=str(fabric.strategy.precision.precision), processes=fabric.world_size
    )
    if not folder.is_run:
        make_folder(folder.path)
        save_photos(photos, folder.photographs)  # before the config, which makes the folder a run
        descriptions.save(folder.descriptions)
        if photos.taxonomy is not None:
            save_taxonomy(photos.taxonomy, photos.classes, folder.taxonomy)
        folder.create(config, now)
    elif stored is not None and (changed := stored.differences(now)):
        say(f"the weights may differ in their last bits from those of an unbroken run: {', '.join(changed)}")
