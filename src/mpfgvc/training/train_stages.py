"""Train the two stages of an open run: what starts each, its batches, and what validates it."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mpfgvc.config import Config, StageConfig
from mpfgvc.data.loading import labels_of
from mpfgvc.data.samples import PhotoSet
from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.evaluate import evaluate_embeddings, evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.forward import Compute, Inference, embed_photos
from mpfgvc.model.fusion import start_fusion
from mpfgvc.model.losses import Objective, balanced_weights
from mpfgvc.model.network import MPFGVC
from mpfgvc.terms import Source
from mpfgvc.training.checkpoint import TrainingState, load_stage1, save_stage1
from mpfgvc.training.loaders import EmbeddingLoader, OneLongEpoch
from mpfgvc.training.loop import Loop, TrainingBatches, Validate
from mpfgvc.training.open_run import OpenRun
from mpfgvc.training.sharding import copy_into
from mpfgvc.training.stages import Stage, Stage1, Stage2
from mpfgvc.training.starts import STEPS, FeatureStart, batch_size_of, fit_logistic_regression

SHARES = tuple(tenths / 10 for tenths in range(10))
"""What `stage1.pretrained_share: validation` tries: as many evaluations."""
NOTHING_TO_CHOOSE_BY = (
    "stage1.pretrained_share must be a number without validation photographs, got validation; "
    "set data.validation above 0, or give a number"
)


def train_stage1(run: OpenRun) -> None:
    """Leave the network with what stage 1 trains, now or in an earlier attempt."""
    weights = load_stage1(run.folder.stage1, run.identity)
    has_begun = weights is not None or (run.state is not None and run.state.stage == Stage1.name)
    if run.config.stage1.start == "features" and not has_begun:
        start_from_features(run)
    stage = Stage1(run.network, run.config.stage1, objective_of(run, run.config.stage1), run.spread)
    if weights is not None:
        copy_into(stage.trained(), weights)
        return
    validate = _validation(run, stage.sources)
    loop = loop_of(run, stage, run.loaders.training(run.photos.subset("train")), validate)
    weights = train_averaged(stage, loop.run, validate=validate, tell=run.tell)
    if run.is_first:
        save_stage1(run.folder.stage1, weights, run.identity)


def start_from_features(run: OpenRun) -> None:
    """Fit classifier, projection and prompts on the embeddings of the untrained tower."""
    network, objective = run.network.to(run.fabric.device), objective_of(run, run.config.stage1)
    size = batch_size_of(len(run.photos.subset("train")))
    embeddings = _embedded_batches(run, network, FeatureStart.name, views=1, batch_size=size)
    if "vision" in run.config.stage1.sources:
        fit_logistic_regression(network.classifier, embeddings.embeddings, embeddings.labels, objective=objective)
    if "text" in run.config.stage1.sources:
        stage = FeatureStart(network, objective, run.spread)
        loop_of(run, stage, OneLongEpoch(embeddings, steps=STEPS), None).run()


def train_stage2(run: OpenRun, network: MPFGVC) -> None:
    """Start and train the fusion on embeddings of the training photographs, computed once."""
    settings = run.config.stage2
    if settings.epochs == 0 and settings.start == "random":
        return
    views, size = settings.views, settings.batch_size
    batches = _embedded_batches(run, network, Stage2.name, views=views, batch_size=size)
    if settings.start == "stage1":
        start_fusion(network, batches.embeddings, gain=settings.text_gain)
    stage = Stage2(network.fusion, network.text(), settings, objective_of(run, settings))
    loop_of(run, stage, batches, _embedded_validation(run, network)).run()


def loop_of(run: OpenRun, stage: Stage, batches: TrainingBatches, validate: Validate | None) -> Loop:
    """The loop of a stage, from the checkpoint if that is one of this stage."""
    state = run.state
    if state is None or state.stage != stage.name:
        state = TrainingState(stage=stage.name, identity=vars(run.identity))
    return Loop(stage, batches, run.session, validate=validate, state=state)


def objective_of(run: OpenRun, settings: StageConfig) -> Objective:
    """What the loss of a stage weighs."""
    weights = None
    if settings.class_weights == "balanced":
        counts = run.photos.subset("train").counts(len(run.photos.classes))
        weights = balanced_weights(torch.from_numpy(counts)).to(run.fabric.device)
    return Objective(settings.label_smoothing, weights)


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


def _embedded_batches(run: OpenRun, network: MPFGVC, stage: str, *, views: int, batch_size: int) -> EmbeddingLoader:
    """Embeddings of the training photographs for a stage, computed once, with a bar and a row of its own."""
    samples = run.photos.subset("train")
    labels, log = labels_of(samples), run.session.log
    encoder, loaders = network.image_encoder, run.loaders.views(samples, views)
    started = time.perf_counter()
    if log is None:
        embedded = [embed_photos(encoder, loader, fabric=run.fabric) for loader in loaders]
    else:
        world = run.loaders.processes.world  # the bar goes on as if every process were as far as this one
        with log.progress(f"{stage}, embedding", total=views * len(samples)):
            seen = lambda photographs: log.step(world * photographs)  # noqa: E731
            embedded = [embed_photos(encoder, loader, fabric=run.fabric, seen=seen) for loader in loaders]
        log.passed(stage, time.perf_counter() - started)
    return EmbeddingLoader(
        torch.cat([view.values for view in embedded]),
        torch.cat([labels[view.indices % len(labels)] for view in embedded]),
        batch_size=batch_size,
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


def check_pretrained_share(config: Config, photos: PhotoSet) -> None:
    """Refuse a share that there is nothing to average with, or nothing to choose by. Raises ConfigError."""
    share, tower = config.stage1.pretrained_share, config.model.image_tower
    if share == 0:
        return
    if not (tower.pretrained or tower.weights):
        rule = "must be 0 for an image tower without pretrained weights"
        raise ConfigError(f"stage1.pretrained_share {rule}, got {share}")
    if share == "validation" and not photos.subset("validation"):
        raise ConfigError(NOTHING_TO_CHOOSE_BY)


def train_averaged(
    stage: Stage1, train: Callable[[], dict[str, Tensor]], *, validate: Validate | None, tell: Callable[[str], None]
) -> dict[str, Tensor]:
    """Train stage 1, then average its image tower with the pretrained one (beyond the paper).

        W = (1 - share) * W_trained + share * W_pretrained          share = stage1.pretrained_share

    Fine-tuning on few photographs forgets; the average keeps more of what pretraining knew (WiSE-FT:
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, who average a whole CLIP).
    Classifier, prompts and projection stay trained. `validation` chooses the share by the mean accuracy of
    vision and text, of equal ones the smallest. It follows from the trained weights alone, so a run that is
    killed meanwhile chooses again, and alike. The stage then holds the weights that are returned.
    """
    share = stage.settings.pretrained_share
    if share == 0:
        return train()
    tower = dict(stage.network.image_encoder.tower.named_parameters())
    pretrained = _copies(tower)
    train()
    trained = _copies(tower)

    def average(share: float) -> None:
        with torch.no_grad():
            for name, weight in tower.items():
                weight.copy_(torch.lerp(trained[name], pretrained[name], share))

    average(_best_share(average, validate, tell) if share == "validation" else share)
    return _copies(stage.trained())


def _best_share(average: Callable[[float], None], validate: Validate | None, tell: Callable[[str], None]) -> float:
    if validate is None:
        raise ConfigError(NOTHING_TO_CHOOSE_BY)
    accuracies = []
    for share in SHARES:
        average(share)
        sources = validate().sources.values()
        accuracies.append(sum(metrics.top1 for metrics in sources) / len(sources))
    best = max(range(len(SHARES)), key=accuracies.__getitem__)
    tell(
        f"stage1.pretrained_share {SHARES[best]:g}: {100 * accuracies[best]:.1f} % on the validation "
        f"photographs, {100 * accuracies[0]:.1f} % without averaging ({len(SHARES)} evaluations)"
    )
    return SHARES[best]


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}
