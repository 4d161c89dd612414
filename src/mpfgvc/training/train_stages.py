"""Train the two stages of an open run: what starts each, its batches, and what validates it."""

import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mpfgvc.config import StageConfig
from mpfgvc.data.loading import labels_of
from mpfgvc.data.samples import class_counts
from mpfgvc.evaluation.evaluate import evaluate_embeddings, evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.embeddings import embed_photos
from mpfgvc.inference.forward import Compute, Inference
from mpfgvc.model.fusion_start import start_fusion
from mpfgvc.model.losses import Objective, balanced_weights
from mpfgvc.model.network import MPFGVC
from mpfgvc.terms import Source
from mpfgvc.training.checkpoint import TrainingState, load_stage1, save_stage1
from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.feature_start import FeatureStart, OneLongEpoch, batch_size_of
from mpfgvc.training.logistic_regression import fit_logistic_regression
from mpfgvc.training.loop import Loop, TrainingBatches, Validate
from mpfgvc.training.metric_log import MetricLog
from mpfgvc.training.open_run import OpenRun
from mpfgvc.training.optim import copy_into
from mpfgvc.training.stages import Stage, Stage1, Stage2
from mpfgvc.training.weight_averaging import train_averaged


def train_stage1(run: OpenRun) -> None:
    """Leave the network with what stage 1 trains, now or in an earlier attempt."""
    weights = load_stage1(run.folder.stage1, run.identity)
    has_begun = weights is not None or (run.state is not None and run.state.stage == Stage1.name)
    if run.config.stage1.start == "features" and not has_begun:
        start_from_features(run)
    stage = Stage1(run.network, run.config.stage1, _objective(run, run.config.stage1), run.spread)
    if weights is not None:
        copy_into(stage.trained(), weights)
        return
    batches = run.loaders.training(run.photos.subset("train"))
    validate = _validation(run, stage.sources)

    def train() -> dict[str, Tensor]:
        return _loop(run, stage, batches, validate).run()

    weights = train_averaged(stage, train, validate=validate, tell=run.tell)
    if run.is_first:
        save_stage1(run.folder.stage1, weights, run.identity)


def start_from_features(run: OpenRun) -> None:
    """Fit classifier, projection and prompts on the embeddings of the untrained tower."""
    network, objective = run.network.to(run.fabric.device), _objective(run, run.config.stage1)
    size = batch_size_of(len(run.photos.subset("train")))
    embeddings = _embedded_batches(run, network, FeatureStart.name, views=1, batch_size=size)
    if "vision" in run.config.stage1.sources:
        fit_logistic_regression(
            network.classifier, embeddings.embeddings, embeddings.labels, objective=objective
        )
    if "text" in run.config.stage1.sources:
        _loop(run, FeatureStart(network, objective, run.spread), OneLongEpoch(embeddings), None).run()


def train_stage2(run: OpenRun, network: MPFGVC) -> None:
    """Start and train the fusion on embeddings of the training photographs, computed once."""
    settings = run.config.stage2
    if settings.epochs == 0 and settings.start == "random":
        return
    views, size = settings.views, settings.batch_size
    batches = _embedded_batches(run, network, Stage2.name, views=views, batch_size=size)
    if settings.start == "stage1":
        start_fusion(network, batches.embeddings, loudness=settings.text_gain)
    stage = Stage2(network.fusion, network.text(), settings, _objective(run, settings))
    _loop(run, stage, batches, _embedded_validation(run, network)).run()


def _loop(run: OpenRun, stage: Stage, batches: TrainingBatches, validate: Validate | None) -> Loop:
    state = run.state
    if state is None or state.stage != stage.name:
        state = TrainingState(stage=stage.name, identity=run.identity.to_dict())
    return Loop(stage, batches, run.session, validate=validate, state=state)


def _validation(run: OpenRun, sources: Sequence[Source]) -> Validate | None:
    """What validates stage 1: all held-out photographs through the towers, by the sources that it trains."""
    samples = run.photos.subset("validation")
    if not samples:
        return None
    labels = labels_of(samples)
    constant = None if "text" in sources else run.deployed()

    def validate() -> Evaluation:
        network = run.deployed() if constant is None else constant
        inference = Inference(network=network, compute=Compute.of(run.fabric))
        loader = run.loaders.evaluation(samples)
        return evaluate_photos(inference, loader, labels, split="validation", sources=sources)

    return validate


def _embedded_batches(
    run: OpenRun, network: MPFGVC, stage: str, *, views: int, batch_size: int
) -> EmbeddingLoader:
    """Embeddings of the training photographs for a stage, computed once, with a bar and a row of its own."""
    samples = run.photos.subset("train")
    labels, log = labels_of(samples), run.session.log
    encoder, loaders = network.image_encoder, run.loaders.views(samples, views)
    started = time.perf_counter()
    if log is None:
        embedded = [embed_photos(encoder, loader, fabric=run.fabric) for loader in loaders]
    else:
        seen = partial(_count, log, run.loaders.processes.world)
        with log.progress(f"{stage}, embedding", total=views * len(samples)):
            embedded = [embed_photos(encoder, loader, fabric=run.fabric, seen=seen) for loader in loaders]
        log.passed(stage, time.perf_counter() - started)
    return EmbeddingLoader(
        torch.cat([view.values for view in embedded]),
        torch.cat([labels[view.indices % len(labels)] for view in embedded]),
        batch_size=batch_size,
        seed=run.config.seed,
        processes=run.loaders.processes,
    )


def _count(log: MetricLog, processes: int, photographs: int) -> None:
    """Advance the bar as if every process were as far as this one."""
    log.step(processes * photographs)


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
        counts = class_counts(run.photos.subset("train"), len(run.photos.classes))
        weights = balanced_weights(torch.from_numpy(counts)).to(run.fabric.device)
    return Objective(settings.label_smoothing, weights)
