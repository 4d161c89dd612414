"""What one optimiser step costs a process: memory by the phase of the step, and FLOPs.

The step of the real stage is run on fake tensors (counting.py): forward, backward, gradients, and a second
micro-batch if there is one. Of several processes each encodes its share of the class prompts. With more than
a few chunks of them, two smaller numbers of classes are run, and a straight line through them gives the one
that was asked for, phase by phase.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mpfgvc.config import Config, ImageTowerConfig, ModelConfig
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.scale.counting import FIRST, Counting, make_fake
from mpfgvc.scale.seam import PlannedStage, Training

CHUNKS = (2, 3)
"""Chunks of class prompts through which the line is drawn."""
TEXTS, IMAGES, TEXTS_AGAIN = "class prompts", "images", "class prompts again"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of the parts of a network, and of what a stage trains of it."""

    image_tower: int
    text_tower: int
    prompts: int
    heads: int
    trained: int
    numbers: int
    """Parameters that are trained."""
    gathered: int
    """Of the weights that lie whole during a step where they are spread over processes."""
    gathered_trained: int
    """Of their gradients."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a step of stage 1 is counted for: so many photographs, in one of so many processes."""

    training: Training
    micro_batch: int
    bf16: bool
    processes: int


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One micro-batch of a stage in one process. `peaks`: bytes beyond the weights, gradients included."""

    sizes: Sizes
    peaks: dict[str, float]
    input_flops: float
    text_flops: float

    @property
    def peak(self) -> float:
        """The most bytes beyond the weights and the optimiser's state."""
        return max(self.peaks.values())

    @property
    def peak_phase(self) -> str:
        """The phase of the step in which it is reached."""
        return max(self.peaks, key=self.peaks.__getitem__)


def stage1_cost(
    config: Config, training: Training, *, classes: int, micro_batch: int, bf16: bool, processes: int = 1
) -> StepCost:
    """A micro-batch of stage 1 with so many photographs, in one of so many processes."""
    chunk, sampled = config.model.prompt_chunk, config.stage1.sampled_classes
    encoded = classes if sampled is None else min(classes, sampled)
    setting = Setting(training=training, micro_batch=micro_batch, bf16=bf16, processes=processes)
    if "text" not in config.stage1.sources or encoded <= CHUNKS[-1] * chunk * processes:
        return _stage1_cost(config, classes, setting)
    points = [chunks * chunk * processes for chunks in CHUNKS]
    costs = [_stage1_cost(*_with_encoded(config, classes, count), setting) for count in points]
    stage = training.stage1(blank_network(config.model, classes), config, processes=processes)
    sizes = _sizes(stage)
    return _at(encoded, points, costs, sizes)


def stage2_cost(config: Config, training: Training, *, classes: int, batch: int) -> StepCost:
    """A step of stage 2, on embeddings."""
    network = blank_network(config.model, classes)
    mode = FakeTensorMode()
    with torch.device("meta"):
        texts = torch.empty(classes, network.embed)
    stage = training.stage2(network, texts, config)
    make_fake(stage.module, mode)
    with mode:
        inputs, labels = torch.empty(batch, network.image_encoder.tower.width), torch.zeros(batch).long()
        return _run(stage, inputs, labels, micro_batches=1, autocast=nullcontext(), text_flops=0)


def encoding_flops(config: ModelConfig) -> tuple[float, float]:
    """FLOPs of one photograph and of one class prompt without training: forward only."""
    network, mode = blank_network(config, 1), FakeTensorMode()
    make_fake(network, mode)
    height, width = network.image_encoder.tower.image_size
    with mode, torch.no_grad():
        image = _flops(lambda: network.image_encoder(torch.empty(1, 3, height, width)))
        return image, _flops(lambda: network.text())


def blank_network(config: ModelConfig, classes: int) -> MPFGVC:
    """The network for so many classes, on the meta device: nothing is fetched, and it takes no counting.

    Class names are not known, so each counts as two words; descriptions are left out.
    """
    blank = replace(
        config,
        image_tower=_without_weights(config.image_tower),
        text_tower=replace(config.text_tower, pretrained=None, weights=None),
        projection="random",
        descriptions=None,
    )
    with torch.device("meta"):
        return MPFGVC.from_config(blank, ["painted bunting"] * classes)


def _without_weights(tower: ImageTowerConfig) -> ImageTowerConfig:
    return replace(tower, pretrained=False, weights=None)


def _with_encoded(config: Config, classes: int, count: int) -> tuple[Config, int]:
    """The same with `count` classes that the text towers read: of all classes, or of the sample.

    A sample must be larger than the micro-batch, so the settings get a small one, which is not used here.
    """
    if config.stage1.sampled_classes is None:
        return config, count
    stage1 = replace(config.stage1, sampled_classes=count, batch_size=config.stage1.accumulate)
    return replace(config, stage1=stage1), classes


def _stage1_cost(config: Config, classes: int, setting: Setting) -> StepCost:
    mode = FakeTensorMode()
    network = blank_network(config.model, classes)
    stage = setting.training.stage1(network, config, processes=setting.processes)
    make_fake(stage.module, mode)
    stage.module.train()
    encoded = min(classes, config.stage1.sampled_classes or classes)
    context: AbstractContextManager[object] = nullcontext()
    if setting.bf16:
        context = torch.autocast("cpu", torch.bfloat16)
    with mode:
        text_flops = 0.0
        if "text" in config.stage1.sources:
            text_flops = _text_flops(network, -(-encoded // setting.processes))
        height, width = network.image_encoder.tower.image_size
        size = setting.micro_batch
        inputs, labels = torch.empty(size, 3, height, width), torch.zeros(size).long()
        return _run(
            stage,
            inputs,
            labels,
            micro_batches=min(2, config.stage1.accumulate),
            autocast=context,
            text_flops=text_flops,
        )


def _text_flops(network: MPFGVC, count: int) -> float:
    """Forward and backward of so many class prompts; the tower is frozen, so only towards the prompts."""

    def encode() -> None:
        network.text(torch.arange(count)).sum().backward()

    flops = _flops(encode)
    network.zero_grad(set_to_none=True)
    return flops


def _run(
    stage: PlannedStage,
    inputs: Tensor,
    labels: Tensor,
    *,
    micro_batches: int,
    autocast: AbstractContextManager[object],
    text_flops: float,
) -> StepCost:
    """Run a step of fake tensors. A second micro-batch is run with the gradients of the first in place."""
    module = stage.module
    known = [*module.parameters(), *module.buffers(), inputs, labels]
    counting = Counting(known)
    hooks = _mark_phases(module, counting)
    with counting:
        for _ in range(micro_batches):
            with autocast:
                loss = stage.loss(inputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
    for hook in hooks:
        hook.remove()
    total = counting.flops / micro_batches
    return StepCost(
        sizes=_sizes(stage),
        peaks={phase: float(peak) for phase, peak in counting.peaks.items()},
        input_flops=total - text_flops,
        text_flops=text_flops,
    )


def _mark_phases(module: nn.Module, counting: Counting) -> list[torch.utils.hooks.RemovableHandle]:
    """Enter a phase where the text tower begins to read, and where the image tower begins to see."""
    network = getattr(module, "network", None)
    if network is None or not isinstance(network.text, ClassPrompts):
        return []

    def texts(*_: object) -> None:
        counting.enter(TEXTS if counting.phase in (FIRST, TEXTS) else TEXTS_AGAIN)

    def images(*_: object) -> None:
        counting.enter(IMAGES)

    towers = (network.text.tower, network.image_encoder.tower.transformer.patch_embed)
    return [
        tower.register_forward_pre_hook(hook) for tower, hook in zip(towers, (texts, images), strict=True)
    ]


def _sizes(stage: PlannedStage) -> Sizes:
    module = stage.module
    gathered = _gathered(stage)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    network = getattr(module, "network", None)
    parts = dict.fromkeys(("image_tower", "text_tower", "prompts"), 0)
    if network is not None:
        text_tower = _bytes(network.text.tower)
        parts = {
            "image_tower": _bytes(network.image_encoder),
            "text_tower": text_tower,
            "prompts": _bytes(network.text) - text_tower,
        }
    return Sizes(
        **parts,
        heads=_bytes(module) - sum(parts.values()),
        trained=sum(weight.nbytes for weight in trained),
        numbers=sum(weight.numel() for weight in trained),
        gathered=sum(weight.nbytes for weight in gathered),
        gathered_trained=sum(weight.nbytes for weight in gathered if weight.requires_grad),
    )


def _gathered(stage: PlannedStage) -> list[nn.Parameter]:
    """What is in no unit, and the two largest units with their gradients: one that runs, and the next."""
    units = [list(unit.parameters()) for unit in stage.units() if not isinstance(unit, nn.Embedding)]
    inside = {id(weight) for unit in stage.units() for weight in unit.parameters()}
    always = [weight for weight in stage.module.parameters() if id(weight) not in inside]
    units.sort(key=lambda unit: sum(weight.nbytes * (1 + weight.requires_grad) for weight in unit))
    return always + [weight for unit in units[-2:] for weight in unit]


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


def _flops(work: Callable[[], object]) -> float:
    with Counting() as counting:
        work()
    return float(counting.flops)


def _at(encoded: int, points: list[int], costs: list[StepCost], sizes: Sizes) -> StepCost:
    """The cost at so many encoded classes, on the line through two points."""
    share = (encoded - points[0]) / (points[1] - points[0])

    def line(low: float, high: float) -> float:
        return low + share * (high - low)

    low, high = costs
    return StepCost(
        sizes=sizes,
        peaks={phase: line(low.peaks[phase], high.peaks[phase]) for phase in low.peaks},
        input_flops=line(low.input_flops, high.input_flops),
        text_flops=line(low.text_flops, high.text_flops),
    )
