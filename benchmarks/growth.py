"""How time and memory grow with classes, image size, kept patches and batch, beside the usual way.

    python benchmarks/growth.py

Forward and backward, fp32. Text branch: CLIP's ViT-B-16 text tower, J = 4; the reference pads to 77 tokens.
Image branch: ViT-B/16 to a class token; the reference is timm's own forward. Memory is the peak of a forked
process above the weights. Each point is one measurement. Padded prompts stop at 200 classes; where image
size or batch grows, K is an eighth of the patches. Random weights: speed does not depend on them. Writes
growth.png and results/growth.json.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from common import CLIP_TEXT, HERE, bird_prompts, vit_base, write_result
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.text_tower import build_text_tower
from side_by_side import Work, peak_megabytes, seconds_of
from text_branch import padded

CLASSES, PADDED_CLASSES = (10, 100, 1000, 10_000), (10, 100, 200)
SIDES = (224, 336, 448, 560, 672)
KEPT = (24, 96, 196, 392, 784)
BATCHES = (1, 2, 4, 8, 16)
KEPT_SHARE = 0.125
Curve = dict[str, list[float]]  # x, seconds, megabytes
Panel = dict[str, Curve]  # by way


def main() -> None:
    panels = {
        "classes": _over_classes(),
        "image side, px": _over(SIDES, lambda side: _image_work(side=side)),
        "kept patches of 784 (448 px)": _over(KEPT, lambda kept: _image_work(side=448, kept=kept)),
        "batch (224 px)": _over(BATCHES, lambda batch: _image_work(side=224, batch=batch)),
    }
    write_result("growth", {"name": "growth", "panels": panels})
    _draw(panels, HERE / "growth.png")


def _over_classes() -> Panel:
    tower = build_text_tower(CLIP_TEXT)

    def works(classes: int) -> dict[str, Work]:
        prompts = bird_prompts(tower, classes)

        def step(encode: Callable[[], torch.Tensor]) -> None:
            encode().square().sum().backward()
            prompts.context.grad = None

        ways: dict[str, Work] = {"ours": lambda: step(prompts)}
        if classes in PADDED_CLASSES:
            ways["77 tokens"] = lambda: step(lambda: padded(prompts, tower))
        return ways

    return _over(sorted({*CLASSES, *PADDED_CLASSES}), works)


def _image_work(*, side: int, kept: int | None = None, batch: int = 1) -> dict[str, Work]:
    tower = build_image_tower(vit_base(side)).train()
    encoder = ImageEncoder(tower=tower, kept_tokens=kept or round(KEPT_SHARE * tower.patches)).train()
    images = torch.randn(batch, 3, side, side)

    def step(embed: Callable[[], torch.Tensor]) -> None:
        embed().square().sum().backward()
        tower.zero_grad()

    return {
        "ours": lambda: step(lambda: encoder(images).embedding),
        "timm": lambda: step(lambda: tower.transformer.forward_features(images)[:, 0]),
    }


def _over(values: Sequence[int], works: Callable[[int], dict[str, Work]]) -> Panel:
    panel: Panel = {}
    for value in values:
        for way, work in works(value).items():
            megabytes = peak_megabytes(work)
            if value == values[0]:
                work()  # warm up
            seconds = seconds_of(work)
            print(f"{way:10s} {value:6d} {seconds:8.2f} s {megabytes:8.0f} MB", flush=True)
            curve = panel.setdefault(way, {"x": [], "seconds": [], "megabytes": []})
            for name, number in zip(curve, (value, seconds, megabytes), strict=True):
                curve[name].append(number)
    return panel


def _draw(panels: dict[str, Panel], file: Path) -> None:
    figure, axes = plt.subplots(2, len(panels), figsize=(15, 6), layout="constrained")
    for column, (label, panel) in enumerate(panels.items()):
        for row, name in enumerate(("seconds", "megabytes")):
            axis = axes[row][column]
            for way, curve in panel.items():
                style = {"color": "tab:blue"} if way == "ours" else {"color": "tab:gray", "linestyle": "--"}
                axis.plot(curve["x"], curve[name], marker="o", label=way, **style)
            axis.set(xlabel=label, ylabel=f"{name}, forward + backward")
            if label == "classes":
                axis.set(xscale="log", yscale="log")
            else:
                axis.set_ylim(0, 1.1 * max(max(curve[name]) for curve in panel.values()))
                axis.set_xticks(panel["ours"]["x"], [f"{x:g}" for x in panel["ours"]["x"]])
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
