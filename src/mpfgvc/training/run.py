"""A whole run: stage 1, stage 2, the model, the test. `train` starts one, `resume` continues one.

Both take the same path, and what the run folder already holds is not done again. The test split is read at
the very end, once, and decides nothing.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mpfgvc.config import Config, StageConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import labels_of
from mpfgvc.data.place import moved
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.devices import from_first, start_fabric
from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.evaluate import evaluate_embeddings, evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.embeddings import embed_photos
from mpfgvc.inference.forward import Compute, Inference
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel, save_model
from mpfgvc.launcher import refuse_unguarded_script
from mpfgvc.model.losses import Objective, balanced_weights
from mpfgvc.model.network import MPFGVC, check_settings
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.checkpoint import TrainingState, load_stage1, save_stage1
from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.loop import Loop, TrainingBatches, Validate
from mpfgvc.training.open_run import OpenRun, list_photographs, open_run
from mpfgvc.training.optim import copy_into
from mpfgvc.training.stages import Stage, Stage1, Stage2
from mpfgvc.training.weight_averaging import check_pretrained_share, train_averaged


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

    Raises ConfigError, DataError, CheckpointError or OutputError for a user error.
    """
    refuse_unguarded_script()
    if not isinstance(config, Config):
        raise ConfigError(f"train takes the settings that load_config gives, got {config!r:.80}")
    config = _with_absolute_paths(config)
    photos = read_photos(config.data, seed=config.seed)
    word = config.model.supercategory or photos.supercategory
    config = replace(config, model=replace(config.model, supercategory=word))
    check_pretrained_share(config, photos)
    check_settings(config.model, photos.classes)
    fabric = start_fabric(config.device, config.precision)
    folder = RunFolder(out) if out is not None else _free_folder(config, fabric)
    with _claimed(folder, fabric, new=True):
        photo_list = list_photographs(config, photos, fabric)
        return carry_out(open_run(config, photos, photo_list, fabric, folder))


def resume(
    run: str | Path,
    *,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    device: str | None = None,
) -> Run:
    """Continue a run that was stopped, with its own settings, from its last checkpoint.

    `root` and `manifest` say where the photographs are now, if they moved.

    Raises CheckpointError for a folder that holds no run, or a run of other photographs.
    """
    refuse_unguarded_script()
    folder = RunFolder.open(run)
    config = folder.read_config({} if device is None else {"device": device})
    config = replace(config, data=moved(config.data, root=root, manifest=manifest))
    stored = folder.read_environment()
    if stored is not None:
        config = replace(config, precision=stored.precision_setting)
    restored = photos_of_run(folder, root=root, manifest=manifest)
    restored.refuse_missing()
    photos = replace(restored.photos, notes=restored.notes)
    fabric = start_fabric(config.device, config.precision)
    with _claimed(folder, fabric):
        photo_list = list_photographs(config, photos, fabric)
        restored.refuse_changed(photo_list)
        return carry_out(open_run(config, photos, photo_list, fabric, folder, stored=stored))


def carry_out(run: OpenRun) -> Run:
    """Do what is left to do, in this order."""
    for note in run.photos.notes:
        run.tell(note)
    train_stage1(run)
    network = run.network.to(run.fabric.device).deployed()
    train_stage2(run, network)
    saved = SavedModel(
        network=network,
        preprocessing=run.loaders.preprocessing,
        config=run.config.model,
        name=str(run.folder.model),
    )
    if run.is_first:
        save_model(saved, run.folder.model)
    metrics = _test(run, saved)
    return Run(path=run.folder.path, model_dir=run.folder.model, metrics=metrics)


def train_stage1(run: OpenRun) -> None:
    """Leave the network with what stage 1 trains, now or in an earlier attempt."""
    stage = Stage1(run.network, run.config.stage1, _objective(run, run.config.stage1))
    weights = load_stage1(run.folder.stage1, run.identity)
    if weights is not None:
        copy_into(stage.trained(), weights)
        return
    batches = run.loaders.training(run.photos.subset("train"))
    validate = _validation(run)
    weights = train_averaged(
        stage, lambda: _loop(run, stage, batches, validate).run(), validate=validate, tell=run.tell
    )
    if run.is_first:
        save_stage1(run.folder.stage1, weights, run.identity)


def train_stage2(run: OpenRun, network: MPFGVC) -> None:
    """Train the fusion on embeddings of the training photographs, computed once."""
    settings = run.config.stage2
    if settings.epochs == 0:
        return
    stage = Stage2(network.fusion, network.text(), settings, _objective(run, settings))
    _loop(run, stage, _embedded_batches(run, network), _embedded_validation(run, network)).run()


def _test(run: OpenRun, saved: SavedModel) -> Evaluation | None:
    """Evaluate on the test split as `mpfgvc evaluate` does, in fp32. Packs the network, so it comes last."""
    samples = run.photos.subset("test")
    if not (run.config.final_test and samples):
        return None
    inference = Predictor.packed(saved, device=run.fabric.device).inference
    loader = run.loaders.evaluation(samples)
    evaluation = evaluate_photos(inference, loader, labels_of(samples), split="test")
    if run.is_first:
        run.folder.save_evaluation(evaluation.to_dict())
    return evaluation


def _loop(run: OpenRun, stage: Stage, batches: TrainingBatches, validate: Validate | None) -> Loop:
    state = run.state
    if state is None or state.stage != stage.name:
        state = TrainingState(stage=stage.name, identity=run.identity.to_dict())
    return Loop(stage, batches, run.session, validate=validate, state=state)


def _validation(run: OpenRun) -> Validate | None:
    """What validates stage 1: all held-out photographs through the towers."""
    samples = run.photos.subset("validation")
    if not samples:
        return None
    labels = labels_of(samples)

    def validate() -> Evaluation:
        inference = Inference(network=run.network.deployed(), compute=Compute.of(run.fabric))
        loader = run.loaders.evaluation(samples)
        return evaluate_photos(inference, loader, labels, split="validation", sources=Stage1.sources)

    return validate


def _embedded_batches(run: OpenRun, network: MPFGVC) -> EmbeddingLoader:
    samples = run.photos.subset("train")
    labels, settings = labels_of(samples), run.config.stage2
    loaders = run.loaders.views(samples, settings.views)
    views = [embed_photos(network.image_encoder, loader, fabric=run.fabric) for loader in loaders]
    return EmbeddingLoader(
        torch.cat([view.values for view in views]),
        torch.cat([labels[view.indices % len(labels)] for view in views]),
        batch_size=settings.batch_size,
        seed=run.config.seed,
        processes=run.loaders.processes,
    )


def _embedded_validation(run: OpenRun, network: MPFGVC) -> Validate | None:
    """What validates stage 2: the held-out photographs, embedded once."""
    samples = run.photos.subset("validation")
    if not samples:
        return None
    held_out = embed_photos(network.image_encoder, run.loaders.evaluation(samples), fabric=run.fabric)
    labels = labels_of(samples)
    return partial(evaluate_embeddings, network, held_out, labels, split="validation", sources=Stage2.sources)


def _objective(run: OpenRun, settings: StageConfig) -> Objective:
    weights = None
    if settings.class_weights == "balanced":
        labels = labels_of(run.photos.subset("train"))
        weights = balanced_weights(labels.bincount(minlength=len(run.photos.classes)))
        weights = weights.to(run.fabric.device)
    return Objective(settings.label_smoothing, weights)


def _with_absolute_paths(config: Config) -> Config:
    """The config with paths that hold in any working directory."""
    image_tower, text_tower = config.model.image_tower, config.model.text_tower
    model = replace(
        config.model,
        image_tower=replace(image_tower, weights=_absolute(image_tower.weights)),
        text_tower=replace(text_tower, weights=_absolute(text_tower.weights)),
    )
    data = replace(config.data, root=_absolute(config.data.root), manifest=_absolute(config.data.manifest))
    return replace(config, model=model, data=data)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _free_folder(config: Config, fabric: Fabric) -> RunFolder:
    """The first of runs/<dataset>-1, runs/<dataset>-2, ... that is free; the same for all processes."""
    return from_first(fabric, partial(RunFolder.claim_free, Path("runs"), config.data.dataset))


@contextmanager
def _claimed(folder: RunFolder, fabric: Fabric, *, new: bool = False) -> Iterator[None]:
    """Own the folder within the block, through the first process.

    `new` refuses a folder that holds a run. Raises CheckpointError or OutputError in every process.
    """
    with ExitStack() as stack:

        def claim() -> None:
            stack.enter_context(folder.claim())
            if new:
                folder.refuse_existing()

        from_first(fabric, claim)
        yield
