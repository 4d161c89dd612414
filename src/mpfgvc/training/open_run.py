"""Open a run: check what can be checked, build the network, and hand each part what it needs.

The order is that of cost: settings first, then the photographs, then towers that may have to be fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from mpfgvc.config import Config, StageConfig
from mpfgvc.data.descriptions import NO_DESCRIPTIONS, Descriptions
from mpfgvc.data.loading import worker_count
from mpfgvc.data.photographs_file import save_photos
from mpfgvc.data.run_photos import with_digests
from mpfgvc.data.samples import PhotoSet
from mpfgvc.data.taxonomy_file import save_taxonomy
from mpfgvc.distributed import from_first, why_not_compile
from mpfgvc.errors import ConfigError
from mpfgvc.files import make_folder
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.model.network import MPFGVC
from mpfgvc.processes import Processes
from mpfgvc.progress import say
from mpfgvc.run_folder import Environment, RunFolder
from mpfgvc.training.checkpoint import Identity, TrainingState, load_state
from mpfgvc.training.environment import describe_environment
from mpfgvc.training.loaders import Loaders
from mpfgvc.training.log import MetricLog
from mpfgvc.training.loop import Session
from mpfgvc.training.signs import EarlySigns
from mpfgvc.training.spread_prompts import Spread

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that was opened: its settings, its photographs, and its parts. `state` is its last checkpoint."""

    config: Config
    photos: PhotoSet
    fabric: Fabric
    folder: RunFolder
    network: MPFGVC
    identity: Identity
    state: TrainingState | None
    loaders: Loaders
    session: Session
    spread: Spread

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.loaders.processes.is_first

    @torch.no_grad()
    def deployed(self) -> MPFGVC:
        """The network as it is now, on its device; all processes compute its text features together."""
        network = self.network.to(self.fabric.device)
        return network.deployed(self.spread.text_features(network.prompts))

    def tell(self, line: str) -> None:
        """Say a line, once for all processes."""
        self.loaders.tell(line)


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
        _refuse_uneven_batch(stage, processes.world)
    sentences = descriptions.sentences
    network = MPFGVC.from_config(config.model, photos.classes, sentences=sentences, seed=config.seed)
    for note in network.start.notes:
        tell(note)
    if config.sharding == "full" and processes.world == 1:
        tell("sharding: full changes nothing, as this process has no other to share with")
    identity = Identity.of(network, photos, sentences)
    state = load_state(folder.checkpoint, identity)
    rows = [] if state is None else state.rows
    if processes.is_first:
        _record(config, photos, descriptions, fabric, folder, stored)
    return OpenRun(
        config=config,
        photos=photos,
        fabric=fabric,
        folder=folder,
        network=network,
        identity=identity,
        state=state,
        loaders=Loaders(
            settings=config.data,
            preprocessing=preprocessing_of(network.image_encoder.tower.input, config.data),
            batch_size=config.stage1.batch_size,
            seed=config.seed,
            processes=processes,
            model_on_cpu=fabric.device.type == "cpu",
            tell=tell,
        ),
        session=Session(
            fabric=fabric,
            folder=folder,
            log=MetricLog(folder.metrics, folder.tensorboard, rows) if processes.is_first else None,
            seed=config.seed,
            checkpoint_steps=config.checkpoint_steps,
            compile=config.compile and _can_compile(fabric, tell),
            signs=_signs(config, photos, tell) if processes.is_first else None,
        ),
        spread=Spread.here(),
    )


def _signs(config: Config, photos: PhotoSet, tell: Tell) -> EarlySigns:
    counts = photos.subset("train").counts(len(photos.classes))
    return EarlySigns(
        classes=photos.classes,
        photographs=counts.tolist(),
        workers=worker_count(config.data.workers, processes=Processes.here().local),
        tell=tell,
    )


def _can_compile(fabric: Fabric, tell: Tell) -> bool:
    """Compiling changes only the speed, so a machine that cannot goes on without."""
    reason = why_not_compile(fabric)
    if reason is not None:
        tell(f"compile: the step runs uncompiled, {reason}")
    return reason is None


def _keep_quiet(_: str) -> None:
    """What the other processes say."""


def _refuse_uneven_batch(settings: StageConfig, processes: int) -> None:
    """Refuse a batch that cannot be divided among the processes. Raises ConfigError."""
    if settings.batch_size % processes:
        rule = f"must be a multiple of the {processes} processes"
        raise ConfigError(f"{settings.prefix}batch_size {rule}, got {settings.batch_size}")


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
