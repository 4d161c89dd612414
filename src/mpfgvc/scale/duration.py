"""How long a training takes: FLOPs of each part of it, divided by the rate of the device.

Reading photographs is not counted: loader processes do it meanwhile, if there are enough of them. Neither is
what processes tell each other, nor the time in which they wait.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mpfgvc.data.loading import steps_per_epoch
from mpfgvc.scale.moments import Load
from mpfgvc.scale.rates import Rate
from mpfgvc.scale.seam import Training

HOST_DOUBLES = 50e9
"""FLOP/s of a machine's CPU in float64, for the logistic regression beside a GPU; assumed."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a training. `flops` and `seconds` are those of one process."""

    name: str
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Forward:
    """FLOPs of one photograph and of one class prompt, forward only."""

    image: float
    text: float


def stretches(load: Load, rate: Rate, forward: Forward, training: Training) -> tuple[Phase, ...]:
    """The parts of a training, in the order of time."""
    return tuple(_stretches(load, rate, forward, training))


def stage1_step(load: Load, rate: Rate) -> float:
    """Seconds of one optimiser step of stage 1."""
    cost, settings = load.stage1, load.config.stage1
    seconds = settings.accumulate * (cost.input_flops / rate.images + cost.text_flops / rate.texts)
    return seconds + (0 if rate.numbers is None else cost.sizes.numbers / rate.numbers)


def text_share(load: Load, rate: Rate) -> float:
    """Share of the class prompts in the time of a step of stage 1. 0..1"""
    cost = load.stage1
    texts, images = cost.text_flops / rate.texts, cost.input_flops / rate.images
    return texts / (texts + images)


def _stretches(load: Load, rate: Rate, forward: Forward, training: Training) -> Iterator[Phase]:
    config, cost = load.config, load.stage1
    own = load.photographs / load.processes
    if config.stage1.start == "features":
        yield _forward("embedding for the start", own * forward.image, rate)
        yield from _start(load, rate, training)
    steps = config.stage1.epochs * steps_per_epoch(load.photographs, config.stage1.batch_size)
    if steps:
        flops = steps * config.stage1.accumulate * (cost.input_flops + cost.text_flops)
        yield Phase(name="stage 1", flops=flops, seconds=steps * stage1_step(load, rate))
    held_out = config.data.validation * load.photographs / (1 - config.data.validation) / load.processes
    if held_out and steps:
        each = held_out * forward.image + load.classes / load.processes * forward.text
        yield _forward("validation in stage 1", config.stage1.epochs * each, rate)
    if config.stage2.epochs or config.stage2.start == "stage1":
        yield _forward("embedding for stage 2", config.stage2.views * own * forward.image, rate)
    views = config.stage2.views * load.photographs
    steps = config.stage2.epochs * steps_per_epoch(views, config.stage2.batch_size)
    if steps:
        yield _forward("stage 2", steps * load.stage2.input_flops, rate)


def _start(load: Load, rate: Rate, training: Training) -> Iterator[Phase]:
    """Logistic regression in every process, then the steps that train projection and prompts."""
    if "vision" in load.config.stage1.sources:
        flops = 4.0 * training.regression_steps * load.photographs * load.classes * load.width
        doubles = HOST_DOUBLES if load.gpu else rate.forward / 2
        name = f"logistic regression, at most {training.regression_steps} steps"
        yield Phase(name=name, flops=flops, seconds=flops / doubles)
    if "text" in load.config.stage1.sources:
        each = load.stage1.text_flops
        if (sampled := load.config.stage1.sampled_classes) is not None:
            each *= load.classes / min(load.classes, sampled)  # this part encodes all of them
        flops = training.feature_steps * each
        yield Phase(name="start of the prompts", flops=flops, seconds=flops / rate.texts)


def _forward(name: str, flops: float, rate: Rate) -> Phase:
    return Phase(name=name, flops=flops, seconds=flops / rate.forward)
