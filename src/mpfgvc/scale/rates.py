"""How fast a device is: named GPUs by their data sheets, this machine by a measurement.

A named rate is what the data sheet gives for dense products in bfloat16, times a share that is assumed
(sheets.py): no run on such a device stands behind it. The measured rate comes from a real step of the real
stage with shortened towers, so it has the layers of a training, but takes seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from mpfgvc.config import Config
from mpfgvc.devices import find_device
from mpfgvc.inference.forward import Compute, encode_in_parts
from mpfgvc.model.network import MPFGVC
from mpfgvc.scale.counting import Counting
from mpfgvc.scale.seam import PlannedStage, Training
from mpfgvc.scale.sheets import MEASURED, SHEETS, sustained
from mpfgvc.scale.step_cost import blank_network

TURNS = 3
MOST_IMAGES = 16
IMAGE_BLOCKS, TEXT_BLOCKS = 5, 3
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """FLOP/s of a device in the parts of a training, and where that is known from.

    `numbers`: parameters that the optimiser changes in a second; None = its time is not counted. `memory`: of
    the device, in bytes; None = it computes in the memory of the machine.
    """

    name: str
    source: str
    images: float
    texts: float
    forward: float
    numbers: float | None = None
    memory: float | None = None


def named_rate(name: str) -> Rate:
    """The rate of a GPU by its name, or a number of TFLOP/s that it sustains. Raises ConfigError."""
    rate, sheet = sustained(name), SHEETS.get(name)
    return Rate(
        name=name,
        source="given as a number of TFLOP/s" if sheet is None else sheet.source,
        images=rate,
        texts=rate,
        forward=rate,
        memory=None if sheet is None else sheet.gigabytes * 1e9,
    )


def measured_rate(
    config: Config,
    training: Training,
    *,
    classes: int,
    micro_batch: int,
    bf16: bool,
    clock: Clock = perf_counter,
) -> Rate:
    """The rate of the device that the settings name, by a step of shortened towers with random weights."""
    device = torch.device(find_device(config.device))
    encoded = min(classes, config.model.prompt_chunk, config.stage1.sampled_classes or classes)
    network = _short_network(config, max(2, encoded), device)
    stage = training.stage1(network, _only_images(config), processes=1)
    compute = Compute(device=device, precision="bf16" if bf16 else "fp32")
    batch = min(MOST_IMAGES, micro_batch)
    images = torch.randn(batch, 3, *network.image_encoder.tower.image_size, device=device)
    labels = torch.arange(batch, device=device) % max(2, encoded)
    step = _image_step(stage, images, labels, compute)
    image_rate = _flops_a_second(step, device, clock)
    step()
    numbers = _numbers_a_second(stage, device, clock)
    network.requires_grad_(False)
    with torch.no_grad():
        forward = _flops_a_second(
            lambda: encode_in_parts(network.image_encoder, images, compute), device, clock
        )
    texts = forward if "text" not in config.stage1.sources else _text_rate(network, compute, clock)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine's CPU"
    return Rate(
        name=MEASURED,
        source=f"measured on {name}, {IMAGE_BLOCKS} blocks of the image tower, {batch} photographs at a time",
        images=image_rate,
        texts=texts,
        forward=forward,
        numbers=numbers,
        memory=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
    )


def _only_images(config: Config) -> Config:
    """Stage 1 without its class prompts, which are measured by themselves."""
    stage1 = replace(config.stage1, text_weight=0.0, vision_weight=1.0, sampled_classes=None)
    model = replace(config.model, prediction="fusion")
    return replace(config, model=model, stage1=stage1, stage2=replace(config.stage2, start="noise"))


def _short_network(config: Config, classes: int, device: torch.device) -> MPFGVC:
    """A network with few blocks and random weights."""
    network = blank_network(config.model, classes)
    image: Any = network.image_encoder.tower.transformer
    image.blocks = image.blocks[:IMAGE_BLOCKS]
    tower: Any = network.text.tower
    tower.transformer.transformer.resblocks = tower.transformer.transformer.resblocks[:TEXT_BLOCKS]
    prompts: Any = network.text
    length = prompts.ending.shape[1] + config.model.context_tokens
    network.to_empty(device=device)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.02)
        for value in network.buffers():
            value.zero_()
    prompts.end.fill_(length)
    return network.train()


def _image_step(
    stage: PlannedStage, images: torch.Tensor, labels: torch.Tensor, compute: Compute
) -> Callable[[], None]:
    def step() -> None:
        stage.module.zero_grad(set_to_none=True)
        with compute.autocast():
            loss = stage.loss(images, labels)
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def _text_rate(network: MPFGVC, compute: Compute, clock: Clock) -> float:
    network.text.context.requires_grad_(True)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with compute.autocast():
            features = network.text()
        features.float().sum().backward()

    return _flops_a_second(step, compute.device, clock)


def _numbers_a_second(stage: PlannedStage, device: torch.device, clock: Clock) -> float:
    optimizer = stage.optimizer()
    optimizer.step()
    count = sum(weight.numel() for weight in _with_gradient(stage.module))
    return count / _seconds(optimizer.step, device, clock)


def _with_gradient(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.grad is not None]


def _flops_a_second(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    with Counting() as counting:
        work()  # the first turn also warms up
    seconds = _seconds(work, device, clock)
    return float(counting.flops) / seconds


def _seconds(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """The median of some turns."""
    turns: list[float] = []
    for _ in range(TURNS):
        started = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        turns.append(clock() - started)
    return sorted(turns)[TURNS // 2]
