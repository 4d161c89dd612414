"""A whole run: stage 1, stage 2, the model, the test. `train` starts one, `resume` continues one.

Both take the same path, and what the run folder already holds is not done again. The test split is read at
the very end, once, and decides nothing.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from mpfgvc.config import Config
from mpfgvc.data.catalog import dataset_root, moved, read_photos
from mpfgvc.data.descriptions import Descriptions, descriptions_of_run, read_descriptions
from mpfgvc.data.loading import labels_of
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import PhotoSet
from mpfgvc.data.taxonomy_file import taxonomy_of_run, with_taxonomy
from mpfgvc.distributed import from_first, start_fabric
from mpfgvc.errors import ConfigError, MpfgvcError, one_line
from mpfgvc.evaluation.calibration import FEWEST_PHOTOGRAPHS, MOST_PHOTOGRAPHS, VALIDATION, at_most, calibrate_photos
from mpfgvc.evaluation.evaluate import evaluate
from mpfgvc.evaluation.metrics import Evaluation, load_answers, save_answers
from mpfgvc.files import write_text
from mpfgvc.inference.answering import Calibration
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, save_model
from mpfgvc.model.network import check_settings
from mpfgvc.processes import Processes, refuse_unguarded_script
from mpfgvc.progress import say
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.open_run import OpenRun, list_photographs, open_run
from mpfgvc.training.train_stages import check_pretrained_share, train_stage1, train_stage2
from mpfgvc.training.training_page import training_page


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


def train(config: Config, *, out: str | Path | None = None, auto_resume: bool = False) -> Run:
    """Train both stages into a new run folder; `out` None = the next free `runs/<dataset>-<number>`.

    With `auto_resume`, a run of the same settings that `out` holds already goes on from its last checkpoint:
    the same call starts a training and starts it again, as torchrun and batch systems do after a failure.

    Raises ConfigError, DataError, CheckpointError or OutputError for a user error.
    """
    check_config(config)
    if auto_resume and out is None:
        raise ConfigError("--auto-resume needs --out, the folder of the run that may be there already")
    config, photos = resolve(config)
    if auto_resume and out is not None and _has_begun(config, RunFolder(out)):
        return resume(
            out, root=config.data.root, manifest=config.data.manifest, device=config.device, sharding=config.sharding
        )
    photos, descriptions = checked(config, photos)
    fabric = fabric_of(config)
    folder = RunFolder(out) if out is not None else _free_folder(config, fabric)
    with claimed(folder, fabric, new=True):
        photos = list_photographs(config, photos, fabric)
        return _carry_out(open_run(config, photos, fabric, folder, descriptions=descriptions))


def check_config(config: Config) -> None:
    """Raise ConfigError for what is no Config, and in a loader process that imports the script again."""
    refuse_unguarded_script()
    if not isinstance(config, Config):
        raise ConfigError(f"train takes the settings that load_config gives, got {config!r:.80}")


def resolve(config: Config, *, read: Callable[..., PhotoSet] = read_photos) -> tuple[Config, PhotoSet]:
    """The settings as a run stores them, with absolute paths and its supercategory, and the photographs.

    `read` reads the photographs as `read_photos` does. Raises ConfigError or DataError as the dataset does.
    """
    config = config.with_absolute_paths()
    photos = read(config.data, seed=config.seed)
    word = config.model.supercategory or photos.supercategory
    return config.replaced(model=config.model.replaced(supercategory=word)), photos


def checked(config: Config, photos: PhotoSet) -> tuple[PhotoSet, Descriptions]:
    """The photographs with their taxonomy and notes, and their descriptions, once all settings fit them.

    Raises ConfigError or DataError.
    """
    check_pretrained_share(config)
    descriptions = read_descriptions(config.model.descriptions, photos.classes)
    photos = with_taxonomy(photos, config.data.taxonomy)
    notes = check_settings(config.model, photos.classes, descriptions.sentences)
    return replace(photos, notes=(*photos.notes, *descriptions.notes, *notes)), descriptions


def resume(
    run: str | Path,
    *,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    device: str | None = None,
    sharding: str | None = None,
) -> Run:
    """Continue a run that was stopped, with its own settings, from its last checkpoint.

    A model that is there already stays as it is: it may have been calibrated since.

    `root` and `manifest` say where the photographs are now, if they moved; `device` and `sharding` replace
    those settings.

    Raises CheckpointError for a folder that holds no run, or a run of other photographs.
    """
    refuse_unguarded_script()
    folder = RunFolder.open(run)
    given = {"device": device, "sharding": sharding}
    config = folder.read_config({name: value for name, value in given.items() if value is not None})
    if folder.model.exists():
        return _finished(folder, config, root=root, manifest=manifest)
    config = config.replaced(data=moved(config.data, root=root, manifest=manifest))
    stored = folder.read_environment()
    if stored is not None:
        config = config.replaced(precision=stored.precision_setting)
    restored = photos_of_run(folder, root=root, manifest=manifest)
    restored.refuse_missing()
    taxonomy = taxonomy_of_run(folder, restored.photos.classes)
    photos = replace(restored.photos, notes=restored.notes, taxonomy=taxonomy)
    descriptions = descriptions_of_run(folder, config.model.descriptions, photos.classes)
    fabric = fabric_of(config)
    with claimed(folder, fabric):
        photos = list_photographs(config, photos, fabric)
        restored.refuse_changed(photos)
        opened = open_run(config, photos, fabric, folder, descriptions=descriptions, stored=stored)
        return _carry_out(opened)


def fabric_of(config: Config) -> Fabric:
    """The device, precision and processes of a training. Raises ConfigError for a missing device."""
    return start_fabric(config.device, config.precision, config.sharding, timeout=config.process_timeout)


def _has_begun(config: Config, folder: RunFolder) -> bool:
    """Whether the folder holds a run of these settings; the first process looks, so that all agree.

    Raises CheckpointError for a run of others.
    """

    def look() -> bool:
        if folder.is_run:
            folder.refuse_other_settings(config)
        return folder.is_run

    return from_first(fabric_of(config), look)


def _carry_out(run: OpenRun) -> Run:
    """Do what is left to do, in this order."""
    for note in run.photos.notes:
        run.tell(note)
    train_stage1(run)
    network = run.deployed()
    train_stage2(run, network)
    saved = SavedModel(
        network=network,
        preprocessing=run.preprocessing,
        config=run.config.model,
        name=str(run.folder.model),
        taxonomy=run.photos.taxonomy,
    )
    saved = replace(saved, calibration=_calibration(run, saved))
    if run.processes.is_first:
        _write_page(run)
        save_model(saved, run.folder.model)
    run.fabric.barrier()
    now, then = run.config.data, run.folder.read_config().data
    if (now.root, now.manifest) == (then.root, then.manifest):
        return _tested(run.folder, run.config)
    return _tested(run.folder, run.config, root=now.root, manifest=now.manifest)


def _finished(folder: RunFolder, config: Config, *, root: str | Path | None, manifest: str | Path | None) -> Run:
    """A run whose model is there: only its test may be missing."""
    if folder.evaluation.exists() or not config.final_test:
        if Processes.here().is_first:
            say(f"{folder.path} is finished, and stays as it is")
        return Run(path=folder.path, model_dir=folder.model, metrics=_stored_test(folder, config))
    with claimed(folder, fabric_of(config)):
        return _tested(folder, config, root=root, manifest=manifest)


def _stored_test(folder: RunFolder, config: Config) -> Evaluation | None:
    if not folder.evaluation.exists():
        return None
    classes = load_photos(folder.photographs).classes
    answers = load_answers(folder.predictions("test"), classes)
    return Evaluation(
        split="test",
        paths=answers.paths,
        classes=answers.classes,
        sources=answers.sources,
        prediction=config.model.prediction,
        taxonomy=taxonomy_of_run(folder, classes),
    )


def _tested(
    folder: RunFolder, config: Config, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> Run:
    """The run with its test, as `mpfgvc evaluate` makes it, if it has test photographs and is to be tested."""
    run = Run(path=folder.path, model_dir=folder.model, metrics=None)
    if not (config.final_test and load_photos(folder.photographs).subset("test")):
        return run
    evaluation = evaluate(folder.path, root=root, manifest=manifest, device=config.device)
    if Processes.here().is_first:
        data = moved(config.data, root=root, manifest=manifest)
        save_answers(evaluation.below(dataset_root(data)), folder.predictions("test"))
        folder.save_evaluation(evaluation.to_dict())
    return replace(run, metrics=evaluation)


def _calibration(run: OpenRun, saved: SavedModel) -> Calibration | None:
    """What the validation photographs say about the probabilities, in the precision of a prediction."""
    if not run.config.calibrate:
        return None
    chosen, calibration = at_most(run.photos.subset("validation"), MOST_PHOTOGRAPHS), None
    if len(chosen) >= FEWEST_PHOTOGRAPHS:
        inference = Predictor.of(saved, device=run.fabric.device, packed=False).inference
        loader, labels = run.in_order(chosen), labels_of(chosen)
        calibration = calibrate_photos(inference, loader, labels, taxonomy=saved.taxonomy, photographs=VALIDATION)
    if calibration is None:
        what = f"that needs {FEWEST_PHOTOGRAPHS} validation photographs, and there are {len(chosen)}"
        way = f"mpfgvc calibrate {shlex.quote(str(run.folder.path))} --data.root OTHERS"
        run.tell(f"the model is not calibrated: {what}; calibrate it by others with {way}, or set data.validation")
    return calibration


def _write_page(run: OpenRun) -> None:
    """Write the page about the training, if something was trained or it is missing. It is an extra."""
    log, signs, page = run.session.log, run.session.signs, run.folder.training_page
    if log is None or signs is None:
        return
    log.close()
    if page.exists() and signs.epochs == 0:
        return
    try:
        write_text(page, training_page(log.rows, list(signs.said.values())))
    except (MpfgvcError, OSError) as error:
        run.tell(f"{page} is not written: {one_line(error)}")


def _free_folder(config: Config, fabric: Fabric) -> RunFolder:
    """The first of runs/<dataset>-1, runs/<dataset>-2, ... that is free; the same for all processes."""
    return from_first(fabric, partial(RunFolder.claim_free, Path("runs"), config.data.dataset))


@contextmanager
def claimed(folder: RunFolder, fabric: Fabric, *, new: bool = False) -> Iterator[None]:
    """Own the folder within the block, through the first process.

    `new` refuses a folder that holds a run. Ctrl-C says how a run goes on. Raises CheckpointError or OutputError
    in every process.
    """
    with ExitStack() as stack:

        def claim() -> None:
            stack.enter_context(folder.claim())
            if new:
                folder.refuse_existing()

        from_first(fabric, claim)
        try:
            yield
        except KeyboardInterrupt:
            path = shlex.quote(str(folder.path))
            goes_on = f"interrupted; continue with: mpfgvc train --resume {path}"
            raise KeyboardInterrupt(goes_on if folder.is_run else "interrupted") from None
