"""Stage 1 on a GPU: images a second, and what share of the chip's matrix rate that is.

    python benchmarks/gpu_stage1.py
    python benchmarks/gpu_stage1.py --device cpu --tower test_vit --side 64 --batch 2   # only a trial

ViT-B/16 at 448 px, K = 96, J = 4, C = 200 and 555 classes, CLIP's ViT-B-16 text tower (random weights:
speed does not depend on them), bf16, fused AdamW, eager and compiled. No step waits for the device: a wait
is an error while it is measured. The floating-point operations of a step are those of its matrix products
(to half a percent), without those that are done twice to save memory; the matrix rate is that of large bf16
products. The loader's rate on this machine's cores, from 500-px JPEGs, has to keep up.
"""

import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from common import CLIP_TEXT, untrained_network, vit_base
from mpfgvc.birds.plumage import all_species
from mpfgvc.birds.scene import draw_image
from mpfgvc.config import AugmentConfig, ModelConfig, Stage1Config
from mpfgvc.data.loading import TrainingLoader, worker_count
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Samples
from mpfgvc.data.transforms import train_transform
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.losses import Objective
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.training.loop import LARGEST_NORM, build_optimizer
from mpfgvc.training.stages import Stage1
from side_by_side import Comparison, comparison, report

KEPT_SHARE = 96 / 784
TURNS, STEPS = 5, 10
MATRIX_SIDES = (4096, 8192, 16384)
WANTED = 0.5
JPEG_SIDE, JPEGS = 500, 256


def main() -> None:
    options = _parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu_stage1.py needs a CUDA device; --device cpu is only a trial of the script")
    peak = matrix_rate(options)
    print(f"matrix rate {peak / 1e12:.1f} TFLOP/s", flush=True)
    rows: list[Comparison] = []
    for classes in options.classes:
        for compiled in (False, True):
            step, operations = _step(classes, compiled, options)
            seconds = _seconds_per_step(step, options)
            rate = options.batch / statistics.median(seconds)
            way = "compiled" if compiled else "eager"
            claim = f"stage 1, C = {classes}, {way}: {rate:.0f} images/s, {operations / 1e12:.2f} TFLOP a step"
            print(claim, flush=True)
            rows.append(_row(claim, seconds, operations / peak))
            if options.device == "cuda":  # after each: a later one may run out of memory
                report("gpu_stage1", rows, device="cuda", precision="bf16-mixed")
    print(f"loader: {_loader_rate(options):.0f} images/s on {worker_count(None)} processes")


def matrix_rate(options: Namespace) -> float:
    """Floating-point operations a second of the best of some square bf16 products."""
    sides = MATRIX_SIDES if options.device == "cuda" else (512,)
    return max(2 * side**3 / min(_product_seconds(side, options)) for side in sides)


def _product_seconds(side: int, options: Namespace) -> list[float]:
    left, right = torch.randn(2, side, side, device=options.device, dtype=torch.bfloat16)
    return _seconds_per_step(partial(torch.mm, left, right), options)


def _step(classes: int, compiled: bool, options: Namespace) -> tuple[Callable[[], None], float]:
    """An optimiser step, and its floating-point operations."""
    config = ModelConfig(image_tower=vit_base(options.side, options.tower), text_tower=CLIP_TEXT, supercategory="bird")
    network = untrained_network(config, classes)
    encoder = network.image_encoder
    encoder.kept_tokens = round(KEPT_SHARE * encoder.tower.patches)
    stage = Stage1(network, Stage1Config(batch_size=options.batch), Objective()).to(options.device).train()
    optimizer = build_optimizer(stage.parameter_groups(), stage.settings)
    images = torch.randn(options.batch, 3, *encoder.tower.input.image_size, device=options.device)
    labels = torch.randint(classes, (options.batch,), device=options.device)

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16):
            loss = stage(images, labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(stage.parameters(), LARGEST_NORM)
        optimizer.step()
        optimizer.zero_grad()

    if compiled:
        stage.compile()
    return step, 3 * options.batch * _image_operations(encoder) + 2 * _text_operations(network.text)


def _image_operations(encoder: ImageEncoder) -> float:
    """Of one image, forward; the backward pass of a trained tower needs twice as many."""
    tower, width = encoder.tower, encoder.tower.width
    every, kept = tower.prefix_tokens + tower.patches, tower.prefix_tokens + encoder.kept_tokens
    pixels = 3 * tower.image_size[0] * tower.image_size[1]
    whole = (tower.depth - 3) * _block_operations(every, every, width)
    cut = _block_operations(kept, every, width) + _block_operations(1, kept, width)
    return 2 * width * pixels + whole + cut


def _text_operations(text: ClassPrompts) -> float:
    """Of all prompts, forward; the backward pass of a frozen tower needs the same number."""
    classes, context, width = text.context.shape
    tokens = 1 + context + text.ending.shape[1]
    whole = len(text.tower.transformer.transformer.resblocks) - 1  # the last has queries of end tokens only
    block, last_block = _block_operations(tokens, tokens, width), _block_operations(1, tokens, width)
    return classes * (whole * block + last_block)


def _block_operations(queries: int, keys: int, width: int) -> float:
    """Of a transformer block in which `queries` tokens attend to `keys` tokens, MLP ratio 4."""
    return 2 * (2 * keys * width**2 + 10 * queries * width**2 + 2 * queries * keys * width)


def _seconds_per_step(work: Callable[[], object], options: Namespace) -> list[float]:
    """Seconds of a call, one figure per turn, each the mean of several calls, after a few to warm up."""
    on_gpu = options.device == "cuda"
    for _ in range(3):
        work()
    seconds = []
    for _ in range(TURNS):
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        started = time.perf_counter()
        for _ in range(STEPS):
            work()
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / STEPS)
    return seconds


def _row(claim: str, seconds: list[float], least_seconds: float) -> Comparison:
    """The share of the matrix rate: the time that the products need at that rate, over the time taken."""
    return comparison(claim, "s", [(taken, least_seconds) for taken in seconds], WANTED)


def _loader_rate(options: Namespace) -> float:
    """Images a second of the training loader from 500-px JPEGs, after one epoch that warms up."""
    with tempfile.TemporaryDirectory() as folder:
        samples = _jpegs(Path(folder))
        preprocessing = Preprocessing(image_size=(options.side, options.side), mean=(0.5,) * 3, std=(0.5,) * 3)
        transform = train_transform(preprocessing, AugmentConfig())
        loader = TrainingLoader(samples, transform, batch_size=32, seed=0, workers=None)
        for _ in loader.epoch(0):
            pass
        started = time.perf_counter()
        count = sum(len(images) for epoch in (1, 2) for images, _ in loader.epoch(epoch))
        return count / (time.perf_counter() - started)


def _jpegs(folder: Path) -> Samples:
    plumages = [kind.plumage for kind in all_species(30)]
    paths = [folder / f"{index}.jpg" for index in range(JPEGS)]
    for index, path in enumerate(paths):
        picture = draw_image(plumages[index % len(plumages)], seed=0, index=index, size=JPEG_SIDE)
        picture.save(path, quality=90)
    return Samples.of(None, [(str(path), 0, "train") for path in paths])


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tower", default="vit_base_patch16_224", help="a timm model")
    parser.add_argument("--side", type=int, default=448, help="of the images, in pixels")
    parser.add_argument("--classes", type=int, nargs="+", default=[200, 555])
    parser.add_argument("--batch", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
