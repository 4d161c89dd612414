"""Do the kept patches show what tells a class from its nearest neighbour?

    python benchmarks/selection_quality.py RUN ... [--kept 16]      runs of the default recipe, by seed

For each test picture of the synthetic birds the pixels that tell its class from the nearest other class
are known. Coverage is the share of these pixels that lie in kept patches. Over K:

    chance      K of N patches at random: K / N
    rollout     attention rollout over all blocks (Abnar and Zuidema, 2020) of the trained tower
    before      selection by the class token (METHOD section 1) with the tower as it was before training
    after       the same, trained

Coverage is averaged over the runs; the interval is over pictures (those in which twigs hide the telling
pixels altogether are left out). The figures are for `--kept` patches, by default as many as the runs
keep. Writes results/selection_quality.json and selection_quality.png.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accuracy import RESULTS
from mpfgvc import load_config
from mpfgvc.birds.species import all_species
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.readers.synthetic import DrawnSample
from mpfgvc.data.transforms import test_transform
from mpfgvc.inference.saved_model import load_model
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower
from mpfgvc.training.run import preprocessing_of

Ranking = Callable[[Tensor], Tensor]  # images -> a score for each patch
Curves = dict[str, NDArray[np.float64]]  # by ranking: (pictures, K)
RESAMPLES = 2000


def main() -> None:
    options = _parse()
    if len({load_config(run / "config.yaml").data for run in options.runs}) > 1:
        raise SystemExit("the runs show different pictures: give runs that differ by seed alone")
    results = [_curves(run) for run in options.runs]
    curves = {name: np.mean([curve[name] for curve, _ in results], axis=0) for name in results[0][0]}
    patches, own = len(curves["after"][0]), {kept for _, kept in results}
    if options.kept is None and len(own) > 1:
        raise SystemExit(f"the runs keep {sorted(own)} patches: choose with --kept")
    kept = own.pop() if options.kept is None else options.kept
    if not 1 <= kept <= patches:
        raise SystemExit(f"--kept must be between 1 and {patches}, got {kept}")
    summary = {name: _summary(curve[:, kept - 1], kept / patches) for name, curve in curves.items()}
    gain = curves["after"][:, kept - 1] - curves["before"][:, kept - 1]
    summary["after minus before"] = dict(zip(("mean", "low", "high"), _interval(gain), strict=True))
    pictures, runs = len(curves["after"]), len(results)
    print(f"{pictures} pictures, {runs} runs, K = {kept} of {patches}, chance {kept / patches:.3f}")
    for name, values in summary.items():
        print(f"{name:20s}", "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    document = {"claim": "selection_quality", "pictures": pictures, "runs": runs}
    document |= {"kept": kept, "patches": patches, "coverage": summary}
    document["curves"] = {name: curve.mean(axis=0).tolist() for name, curve in curves.items()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "selection_quality.json").write_text(json.dumps(document, indent=2) + "\n")
    _plot(curves, kept, patches)


def _curves(run: Path) -> tuple[Curves, int]:
    """Coverage over K by every ranking, for each picture of a run's test split, and the run's own K."""
    config = load_config(run / "config.yaml")
    if config.data.dataset != "synthetic":
        raise SystemExit("selection_quality needs runs of the synthetic birds: their parts are known")
    trained = load_model(run).network.image_encoder
    before = ImageEncoder(tower=build_image_tower(config.model.image_tower), kept_tokens=None)
    images, told = _pictures(run, trained.tower)
    rankings: dict[str, Ranking] = {
        "after": lambda batch: trained(batch).scores,
        "before": lambda batch: before.eval()(batch).scores,
        "rollout": lambda batch: rollout(trained.tower.transformer, batch),
    }
    curves = {name: _coverage(ranking, images, told) for name, ranking in rankings.items()}
    return curves, trained.kept_tokens


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--kept", type=int, help="K of the figures (default: the runs' own)")
    return parser.parse_args()


@torch.inference_mode()
def rollout(transformer: nn.Module, images: Tensor) -> Tensor:
    """How much of the class token each patch is after all blocks: the product of (attention + I) / 2."""
    maps: list[Tensor] = []
    hooks = []
    for block in transformer.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
        hooks.append(block.attn.attn_drop.register_forward_hook(lambda _, __, out: maps.append(out.mean(1))))
    transformer.forward_features(images)  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    identity = torch.eye(maps[0].shape[-1])
    flow = identity.expand_as(maps[0])
    for attention in maps:
        flow = (attention + identity) / 2 @ flow
    return flow[:, 0, transformer.num_prefix_tokens :]  # type: ignore[misc]


def _pictures(run: Path, tower: ImageTower) -> tuple[Tensor, NDArray[np.float64]]:
    """The test images, and for each the share of its telling pixels that lie in each patch."""
    config = load_config(run / "config.yaml")
    species = all_species(config.data.birds.species)
    transform = test_transform(preprocessing_of(tower, config))
    images, told = [], []
    for sample in read_photos(config.data, seed=config.seed).subset("test"):
        assert isinstance(sample, DrawnSample)
        picture = sample.picture()
        parts = [picture.part_mask(part) for part in species[sample.label].telling_parts]
        counts = _per_patch(np.any(parts, axis=0), tower.grid)
        if counts.sum() > 0:
            images.append(transform(picture.image))
            told.append(counts / counts.sum())
    return torch.stack(images), np.stack(told)


def _per_patch(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = grid
    height, width = mask.shape
    if height % rows or width % columns:
        raise SystemExit("data.birds.image_size must be a multiple of the patches in a row")
    blocks = mask.reshape(rows, height // rows, columns, width // columns)
    counts: NDArray[np.float64] = blocks.sum(axis=(1, 3)).ravel().astype(float)
    return counts


@torch.inference_mode()
def _coverage(ranking: Ranking, images: Tensor, told: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coverage by the first 1, 2, ... N patches: (pictures, patches)."""
    order = torch.cat([ranking(batch) for batch in images.split(100)]).argsort(dim=1, descending=True)
    curve: NDArray[np.float64] = np.take_along_axis(told, order.numpy(), axis=1).cumsum(axis=1)
    return curve


def _summary(values: NDArray[np.float64], chance: float) -> dict[str, float]:
    mean, low, high = _interval(values)
    return {"mean": mean, "low": low, "high": high, "times chance": mean / chance}


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and its 95 % interval, by resampling pictures."""
    generator = np.random.default_rng(0)
    picks = generator.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def _plot(curves: dict[str, NDArray[np.float64]], kept: int, patches: int) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    counts = np.arange(1, patches + 1)
    styles = {"after": ("C1", "-"), "before": ("C0", "-"), "rollout": ("C2", "--")}
    labels = {
        "after": "selection, trained",
        "before": "selection, before training",
        "rollout": "attention rollout",
    }
    for name, (color, line) in styles.items():
        axes.plot(counts, curves[name].mean(axis=0), color=color, linestyle=line, label=labels[name])
    axes.plot(counts, counts / patches, color="gray", linestyle=":", label="chance")
    axes.axvline(kept, color="lightgray", zorder=0)
    axes.text(kept + 0.6, 0.02, f"K = {kept}", color="gray")
    axes.set(xlabel="kept patches K", ylabel="share of the telling pixels that are kept", ylim=(0, 1))
    axes.set(xlim=(1, patches), title="Do the kept patches show what tells two classes apart?")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(Path(__file__).parent / "selection_quality.png", dpi=150)


if __name__ == "__main__":
    main()
