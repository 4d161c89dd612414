"""Train the two stages of an open run: what starts each, its batches, and what validates it."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from mpfgvc.config import Config, StageConfig
from mpfgvc.data.loading import ONE_PROCESS, epoch_batches, labels_of, steps_per_epoch
from mpfgvc.errors import ConfigError
from mpfgvc.evaluation.evaluate import evaluate_embeddings, evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.description import DESCRIPTION, WEIGHTS, ModelDescription
from mpfgvc.inference.forward import Compute, Inference, embed_photos
from mpfgvc.model.fusion import start_fusion
from mpfgvc.model.losses import Objective, balanced_weights
from mpfgvc.model.network import MPFGVC
from mpfgvc.processes import Processes
from mpfgvc.terms import Source
from mpfgvc.training.checkpoint import TrainingState, load_stage1, save_stage1
from mpfgvc.training.loop import Loop, TrainingBatches, Validate
from mpfgvc.training.open_run import OpenRun
from mpfgvc.training.sharding import copy_into
from mpfgvc.training.stages import Stage, Stage1, Stage2
from mpfgvc.training.starts import STEPS, FeatureStart, batch_size_of, fit_logistic_regression

LEAST_BETTER = 3
"""Photographs by which another source must be better on validation; fewer are chance."""


def train_stage1(run: OpenRun) -> None:
    """Leave the network with what stage 1 trains, now or in an earlier attempt."""
    weights = load_stage1(run.folder.stage1, run.identity)
    has_begun = weights is not None or (run.state is not None and run.state.stage == Stage1.name)
    tower = dict(run.network.image_encoder.tower.named_parameters())
    share = run.config.stage1.pretrained_share
    pretrained = {name: weight.detach().clone() for name, weight in tower.items()} if share else {}
    if not has_begun:
        has_classifier = start_from_run(run)
        if run.config.stage1.start == "features":
            start_from_features(run, fit_classifier=not has_classifier)
    stage = Stage1(run.network, run.config.stage1, objective_of(run, run.config.stage1), run.processes)
    if weights is not None:
        copy_into(stage.trained(), weights)
        return
    loop = loop_of(run, stage, run.training_batches(workers=run.config.data.workers), _validation(run, stage.sources))
    weights = loop.run()
    if share:
        average_towers(tower, pretrained, share)
        weights = {name: weight.detach().cpu() for name, weight in stage.trained().items()}
    if run.processes.is_first:
        save_stage1(run.folder.stage1, weights, run.identity)


@torch.no_grad()
def average_towers(trained: dict[str, torch.nn.Parameter], pretrained: dict[str, Tensor], share: float) -> None:
    """Average the trained image tower with the pretrained one, in place (beyond the paper).

        W = (1 - share) * W_trained + share * W_pretrained          share = stage1.pretrained_share

    Fine-tuning on few photographs forgets; the average keeps more of what pretraining knew (WiSE-FT:
    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, who average a whole CLIP).
    Classifier, prompts and projection stay trained.
    """
    for name, weight in trained.items():
        weight.lerp_(pretrained[name].to(weight.device), share)


@torch.no_grad()
def start_from_run(run: OpenRun) -> bool:
    """Take the classifier of the run whose model `model.image_tower.weights` is, if its classes are the same.

    Whether it was taken. The other parts belong to prompts, which a model has no more.
    """
    weights = Path(run.config.model.image_tower.weights or "")
    if weights.name != WEIGHTS or not (described := weights.with_name(DESCRIPTION)).is_file():
        return False
    is_same = ModelDescription.read(described).classes == run.network.classes
    how = "starts as that of" if is_same else "starts anew, as the classes are not those of"
    run.tell(f"the classifier {how} {weights}")
    if is_same:
        stored = load_file(weights)
        for name, parameter in run.network.classifier.named_parameters():
            parameter.copy_(stored[f"classifier.{name}"])
    return is_same


def start_from_features(run: OpenRun, *, fit_classifier: bool = True) -> None:
    """Fit classifier, projection and prompts on the embeddings of the untrained tower."""
    network, objective = run.network.to(run.fabric.device), objective_of(run, run.config.stage1)
    size = batch_size_of(len(run.photos.subset("train")))
    batches = _embedded_batches(run, network, FeatureStart.name, batch_size=size, steps=STEPS)
    if fit_classifier and "vision" in run.config.stage1.sources:
        fit_logistic_regression(network.classifier, batches.embeddings, batches.labels, objective=objective)
    if "text" in run.config.stage1.sources:
        loop_of(run, FeatureStart(network, objective, run.processes), batches, None).run()


def train_stage2(run: OpenRun, network: MPFGVC) -> None:
    """Start and train the fusion on embeddings of the training photographs, computed once."""
    settings = run.config.stage2
    if settings.epochs == 0 and settings.start == "random":
        return
    batches = _embedded_batches(run, network, Stage2.name, batch_size=settings.batch_size)
    if settings.start == "stage1":
        start_fusion(network, batches.embeddings, gain=settings.text_gain)
    stage = Stage2(network.fusion, network.text(), settings, objective_of(run, settings))
    samples = run.photos.subset("validation")
    if not samples:
        loop_of(run, stage, batches, None).run()
        return
    held_out = embed_photos(network.image_encoder, run.in_order(samples), fabric=run.fabric)
    validate = partial(evaluate_embeddings, network, held_out, labels_of(samples), split="validation")
    loop_of(run, stage, batches, partial(validate, sources=Stage2.sources)).run()
    _say_what_validation_would_choose(run, validate())


def _say_what_validation_would_choose(run: OpenRun, found: Evaluation) -> None:
    """Which source is best on the validation photographs; an early sign if another one answers."""
    shares = {source: metrics.top1 for source, metrics in found.sources.items()}
    best, answers = max(shares, key=shares.__getitem__), found.main_source
    figures = ", ".join(f"{source} {100 * share:.1f} %" for source, share in shares.items())
    what = f"on the {found.count} validation photographs: {figures}"
    if round((shares[best] - shares[answers]) * found.count) < LEAST_BETTER:
        run.tell(f"{what}; {answers} answers, and none is better by {LEAST_BETTER} photographs")
        return
    line = f"{what}; {best} is better than {answers}, which answers; to change that, set model.prediction to {best}"
    run.tell(f"{line}, or predict with --source {best}")
    if run.session.signs is not None:
        run.session.signs.said["source"] = line


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


def check_pretrained_share(config: Config) -> None:
    """Refuse a share of a tower that has no pretrained weights. Raises ConfigError."""
    share, tower = config.stage1.pretrained_share, config.model.image_tower
    if share and not (tower.pretrained or tower.weights):
        rule = "must be 0 for an image tower without pretrained weights"
        raise ConfigError(f"stage1.pretrained_share {rule}, got {share}")


class EmbeddingLoader:
    """Shuffled batches of embeddings, with the interface of a training loader.

    Every process holds them all and takes every `world`-th of a batch from `rank` on. `steps` makes an epoch so
    many batches long, over as many passes as that takes.
    """

    def __init__(
        self,
        embeddings: Float[Tensor, "photographs width"],
        labels: Int[Tensor, " photographs"],
        *,
        batch_size: int,
        seed: int,
        processes: Processes = ONE_PROCESS,
        steps: int | None = None,
    ):
        self.embeddings, self.labels = embeddings, labels
        self.batch_size, self.seed, self.processes = batch_size, seed, processes
        self.a_pass = steps_per_epoch(len(labels), batch_size)
        self.steps = steps or self.a_pass

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings and labels of an epoch's batches from `first_step` on."""
        passed, skipped = divmod(first_step, self.a_pass)
        passes = count(epoch + passed)
        batches = (
            batch for number in passes for batch in self._pass(number, skipped if number == epoch + passed else 0)
        )
        return islice(batches, self.steps - first_step)

    def _pass(self, number: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for own in epoch_batches(
            len(self.labels),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=number,
            first_step=first_step,
            processes=self.processes,
        ):
            yield self.embeddings[own], self.labels[own]


def _embedded_batches(
    run: OpenRun, network: MPFGVC, stage: str, *, batch_size: int, steps: int | None = None
) -> EmbeddingLoader:
    """Embeddings of the training photographs for a stage, computed once, with a bar and a row of its own."""
    samples, log = run.photos.subset("train"), run.session.log
    embed = partial(embed_photos, network.image_encoder, run.in_order(samples), fabric=run.fabric)
    started = time.perf_counter()
    if log is None:
        embedded = embed()
    else:
        world = run.processes.world  # the bar goes on as if every process were as far as this one
        with log.progress(f"{stage}, embedding", total=len(samples)):
            embedded = embed(seen=lambda photographs: log.step(world * photographs))
        log.passed(stage, time.perf_counter() - started)
    return EmbeddingLoader(
        embedded.values,
        labels_of(samples)[embedded.indices],
        batch_size=batch_size,
        seed=run.config.seed,
        processes=run.processes,
        steps=steps,
    )


def _validation(run: OpenRun, sources: Sequence[Source]) -> Validate | None:
    """What validates stage 1: all held-out photographs through the towers, by the sources that it trains."""
    samples = run.photos.subset("validation")
    if not samples:
        return None
    constant = None if "text" in sources else run.deployed()

    def validate() -> Evaluation:
        network = run.deployed() if constant is None else constant
        inference = Inference(network=network, compute=Compute.of(run.fabric))
        return evaluate_photos(
            inference, run.in_order(samples), labels_of(samples), split="validation", sources=sources
        )

    return validate
