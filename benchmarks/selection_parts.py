"""Do the kept patches show the bird and its parts, on photographs?

    python benchmarks/selection_parts.py RUN ...      runs on CUB that differ only in their seed

On the test photographs of the runs, for K kept patches of N:

    parts       share of the visible parts (part_locs.txt) whose patch is kept
    box         share of the area of the bounding box that lies in kept patches

Both are 1 for K = N and K / N by chance. The image is scaled and cropped as for the test; a part that the
crop cuts away is not visible, and the box is what the crop leaves of it. How many parts and photographs that
concerns is said. Rankings, `before`, `after` and `rollout`, as in selection_quality.py. Each share is a mean
over photographs, after a mean over the runs; the intervals (95 %) are over photographs, for `after minus
before` over the differences within each photograph. No setting is chosen by these figures.

Writes results/selection_parts.json and draws selection_parts.png from it; `--draw` only draws.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from common import HERE, interval, result_file, write_result
from cub_parts import Annotation, Floats, PatchGrid, read_annotations
from mpfgvc import Config
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import Transform, eval_transform
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.saved_model import load_model
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.run_folder import RunFolder
from selection_quality import STYLES, Curves, Ranking, best_first, covered, rankings

KEPT = (8, 16, 24, 32, 48, 64, 96, 128, 196)
TARGETS = {"parts": "visible parts in kept patches", "box": "area of the bird's box in kept patches"}
BATCH = 100


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Some photographs, prepared, and what is in their patches; those that show no part are left out."""

    images: Tensor
    shares: dict[str, Floats]
    """By target: the share of it that lies in each patch, (photographs, patches)."""
    parts: int
    """Visible parts in the view, of these photographs."""
    cut: int
    """Visible parts that the crop cuts away, of all photographs."""
    left_out: int


def main() -> None:
    options = _parse()
    if not options.draw:
        _measure(options.runs)
    _draw(json.loads(result_file("selection_parts").read_text()))


def _measure(runs: Sequence[Path]) -> None:
    """Write the result file."""
    config = _config_of_all(runs)
    encoders = [load_model(run).network.image_encoder for run in runs]
    patches = encoders[0].tower.patches
    kept = [count for count in KEPT if count <= patches]
    batches, curves = [], []
    each_run = [rankings(config, encoder) for encoder in encoders]
    for photos in _photos(config, encoders[0]):
        batches.append(photos)
        curves.append(_curves(photos, each_run, kept))
    document = {
        "claim": "selection_parts",
        "runs": len(runs),
        "patches": patches,
        "photographs": sum(len(photos.images) for photos in batches),
        "photographs left out": sum(photos.left_out for photos in batches),
        "parts": sum(photos.parts for photos in batches),
        "parts cut away": sum(photos.cut for photos in batches),
        "kept": kept,
        "shares": {target: _figures([each[target] for each in curves], kept, patches) for target in TARGETS},
    }
    _print(document)
    write_result("selection_parts", document)


def _config_of_all(runs: Sequence[Path]) -> Config:
    """The settings of the first run, which all share but for the seed."""
    configs = [RunFolder(run).read_config() for run in runs]
    if len({(config.data, repr(config.model.image_tower)) for config in configs}) > 1:
        raise SystemExit("the runs show different photographs or have different towers: let only seeds differ")
    if configs[0].data.dataset != "cub":
        raise SystemExit("selection_parts needs runs on CUB: its parts are known (data.dataset: cub)")
    return configs[0]


def _photos(config: Config, encoder: ImageEncoder) -> Iterator[Photos]:
    """The test photographs, a batch at a time."""
    preprocessing = preprocessing_of(encoder.tower.input, config.data)
    transform = eval_transform(preprocessing)
    patches = PatchGrid(preprocessing=preprocessing, grid=encoder.tower.grid)
    annotations = read_annotations(Path(str(config.data.root)).expanduser())
    samples = read_photos(config.data, seed=config.seed).subset("test")
    for start in range(0, len(samples), BATCH):
        yield _batch(samples[start : start + BATCH], annotations, patches, transform)


def _batch(
    samples: Sequence[Sample], annotations: Mapping[Path, Annotation], patches: PatchGrid, transform: Transform
) -> Photos:
    images, parts, boxes, cut = [], [], [], 0
    for sample in samples:
        annotation, image = annotations[sample.path], sample.read()
        shape = image.height, image.width
        counts = patches.parts(annotation, shape)
        cut += len(annotation.parts) - int(counts.sum())
        if counts.sum() > 0:  # a part in the view is in the view of the box, too
            images.append(transform(image))
            parts.append(counts)
            boxes.append(patches.box(annotation, shape))
    return Photos(
        images=torch.stack(images),
        shares={"parts": _normalised(parts), "box": _normalised(boxes)},
        parts=int(np.sum(parts)),
        cut=cut,
        left_out=len(samples) - len(images),
    )


def _normalised(rows: Sequence[Floats]) -> Floats:
    """Each row over its sum."""
    table = np.stack(rows)
    shares: Floats = table / table.sum(axis=1, keepdims=True)
    return shares


def _curves(photos: Photos, each_run: Sequence[dict[str, Ranking]], kept: Sequence[int]) -> dict[str, Curves]:
    """By target and ranking: the share for each K, as a mean over the runs. (photographs, K)"""
    columns = np.array(kept) - 1
    sums: dict[str, Curves] = {target: {} for target in TARGETS}
    for run in each_run:
        for name, ranking in run.items():
            order = best_first(ranking, photos.images)
            for target, shares in photos.shares.items():
                curve = covered(shares, order)[:, columns] / len(each_run)
                sums[target][name] = sums[target].get(name, 0) + curve
    return sums


def _figures(batches: Sequence[Curves], kept: Sequence[int], patches: int) -> dict[str, list[dict[str, float]]]:
    """By ranking, for each K: mean and interval."""
    curves = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}
    curves["after minus before"] = curves["after"] - curves["before"]
    figures = {name: [interval(column) for column in curve.T] for name, curve in curves.items()}
    return {"chance": [{"mean": count / patches} for count in kept], **figures}


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="*")
    parser.add_argument("--draw", action="store_true", help="draw the last result, measure nothing")
    options = parser.parse_args()
    if not (options.runs or options.draw):
        parser.error("give at least one RUN, or --draw")
    return options


def _print(document: dict[str, Any]) -> None:
    photographs = f"{document['photographs']} photographs ({document['photographs left out']} left out)"
    parts = f"{document['parts']} visible parts ({document['parts cut away']} cut away)"
    print(f"{photographs}, {parts}, {document['runs']} runs")
    for target, figures in document["shares"].items():
        print(f"\n{TARGETS[target]}, %")
        print(f"{'K':20s}", "".join(f"{count:>19d}" for count in document["kept"]))
        for name, values in figures.items():
            print(f"{name:20s}", "".join(f"{_shown(value):>19s}" for value in values))


def _shown(value: dict[str, float]) -> str:
    mean = f"{100 * value['mean']:.1f}"
    return f"{mean} ({100 * value['low']:.1f}, {100 * value['high']:.1f})" if "low" in value else mean


def _draw(document: dict[str, Any]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    kept = document["kept"]
    for each, (target, title) in zip(axes, TARGETS.items(), strict=True):
        for name, (label, color, line) in STYLES.items():
            values = document["shares"][target][name]
            mean, low, high = ([value[key] for value in values] for key in ("mean", "low", "high"))
            each.plot(kept, mean, color=color, linestyle=line, label=label)
            each.fill_between(kept, low, high, color=color, alpha=0.2, linewidth=0)
        chance = [value["mean"] for value in document["shares"][target]["chance"]]
        each.plot(kept, chance, color="gray", linestyle=":", label="chance")
        each.set(xlabel="kept patches K", title=title, xlim=(0, document["patches"]), ylim=(0, 1))
    axes[0].set(ylabel="share, mean over photographs")
    axes[1].legend(loc="lower right", frameon=False)
    figure.savefig(HERE / "selection_parts.png", dpi=150)


if __name__ == "__main__":
    main()
