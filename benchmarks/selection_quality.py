"""Do the kept patches show what distinguishes a class from its nearest neighbour?

    python benchmarks/selection_quality.py RUN ... [--kept 16]      runs of the default recipe, by seed

For each test picture of the synthetic birds the discriminative pixels are known: those of the parts in which
its class differs from the nearest other class. Coverage is the share of them in kept patches. Over K:

    chance      K of N patches at random: K / N
    rollout     attention rollout over all blocks (Abnar and Zuidema, 2020) of the trained tower
    before      selection by the class token (METHOD section 1) with the tower as it was before training
    after       the same, trained

Coverage is averaged over the runs; the interval is over pictures (without those in which twigs hide all
discriminative pixels). The figures are for `--kept` patches, by default as many as the runs keep. Writes
results/selection_quality.json and draws selection_quality.png from it; `--draw` only draws.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common import HERE, interval, result_file, write_result
from mpfgvc import Config
from mpfgvc.birds.plumage import PARTS_OF, all_species
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.readers.birds import DrawnSample
from mpfgvc.data.transforms import eval_transform
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.saved_model import load_model
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.selection import attention_rollout
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower
from mpfgvc.run_folder import RunFolder

Ranking = Callable[[Tensor], Tensor]  # images -> a score for each patch
Curves = dict[str, NDArray[np.float64]]  # by ranking: (pictures, K)
STYLES = {
    "after": ("selection, trained", "C1", "-"),
    "before": ("selection, before training", "C0", "-"),
    "rollout": ("attention rollout", "C2", "--"),
}


def main() -> None:
    options = _parse()
    if not options.draw:
        _measure(options)
    _draw(json.loads(result_file("selection_quality").read_text()))


def _measure(options: Namespace) -> None:
    """Write the result file."""
    if len({RunFolder(run).read_config().data for run in options.runs}) > 1:
        raise SystemExit("the runs show different pictures: give runs that differ only in their seed")
    results = [_curves(run) for run in options.runs]
    curves = {name: np.mean([curve[name] for curve, _ in results], axis=0) for name in results[0][0]}
    pictures, patches = curves["after"].shape
    kept = _kept(options.kept, {kept for _, kept in results}, patches)
    figures = {name: _summary(curve[:, kept - 1], kept / patches) for name, curve in curves.items()}
    figures["after minus before"] = interval(curves["after"][:, kept - 1] - curves["before"][:, kept - 1])
    print(f"{pictures} pictures, {len(results)} runs, K = {kept} of {patches}, chance {kept / patches:.3f}")
    for name, values in figures.items():
        print(f"{name:20s}", "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    document: dict[str, Any] = {"claim": "selection_quality", "pictures": pictures, "runs": len(results)}
    document |= {"kept": kept, "patches": patches, "coverage": figures}
    document["curves"] = {name: curve.mean(axis=0).tolist() for name, curve in curves.items()}
    write_result("selection_quality", document)


def _kept(wanted: int | None, own: set[int], patches: int) -> int:
    """K of the figures."""
    if wanted is None and len(own) > 1:
        raise SystemExit(f"the runs keep {sorted(own)} patches: choose with --kept")
    kept = own.pop() if wanted is None else wanted
    if not 1 <= kept <= patches:
        raise SystemExit(f"--kept must be between 1 and {patches}, got {kept}")
    return kept


def rankings(config: Config, trained: ImageEncoder) -> dict[str, Ranking]:
    """The scores of the patches by the image encoder of a run, before and after training, and by rollout."""
    before = ImageEncoder(tower=build_image_tower(config.model.image_tower), kept_tokens=None).eval()
    return {
        "after": lambda batch: trained(batch).scores,
        "before": lambda batch: before(batch).scores,
        "rollout": lambda batch: rollout(trained.tower.transformer, batch),
    }


def _curves(run: Path) -> tuple[Curves, int]:
    """Coverage over K by every ranking, for each picture of a run's test split, and the run's own K."""
    config = RunFolder(run).read_config()
    if config.data.dataset != "synthetic":
        raise SystemExit("selection_quality needs runs of the synthetic birds: their parts are known")
    trained = load_model(run).network.image_encoder
    images, shares = _pictures(config, trained.tower)
    orders = {name: best_first(ranking, images) for name, ranking in rankings(config, trained).items()}
    return {name: covered(shares, order) for name, order in orders.items()}, trained.kept_tokens


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="*")
    parser.add_argument("--draw", action="store_true", help="draw the last result, measure nothing")
    parser.add_argument("--kept", type=int, help="K of the figures (default: the runs' own)")
    options = parser.parse_args()
    if not (options.runs or options.draw):
        parser.error("give at least one RUN, or --draw")
    return options


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
    return attention_rollout(maps)[:, transformer.num_prefix_tokens :]


def _pictures(config: Config, tower: ImageTower) -> tuple[Tensor, NDArray[np.float64]]:
    """The test images, and for each the share of its discriminative pixels that lie in each patch."""
    species = all_species(config.data.birds.species)
    transform = eval_transform(preprocessing_of(tower.input, config.data))
    images, shares = [], []
    for sample in read_photos(config.data, seed=config.seed).subset("test"):
        assert isinstance(sample, DrawnSample)
        picture = sample.picture()
        differing = species[sample.label].differing
        parts = [picture.part_mask(part) for name in differing for part in PARTS_OF[name]]
        counts = _per_patch(np.any(parts, axis=0), tower.grid)
        if counts.sum() > 0:
            images.append(transform(picture.image))
            shares.append(counts / counts.sum())
    return torch.stack(images), np.stack(shares)


def _per_patch(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = grid
    height, width = mask.shape
    if height % rows or width % columns:
        raise SystemExit("data.birds.image_size must be a multiple of the patches in a row")
    blocks = mask.reshape(rows, height // rows, columns, width // columns)
    counts: NDArray[np.float64] = blocks.sum(axis=(1, 3)).ravel().astype(float)
    return counts


@torch.inference_mode()
def best_first(ranking: Ranking, images: Tensor) -> NDArray[np.int64]:
    """The patches of each image in the order of their scores: (pictures, patches)."""
    scores = torch.cat([ranking(batch) for batch in images.split(100)])
    order: NDArray[np.int64] = scores.argsort(dim=1, descending=True).numpy()
    return order


def covered(shares: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the first 1, 2, ... N patches hold of the shares of all patches: (pictures, patches)."""
    curve: NDArray[np.float64] = np.take_along_axis(shares, order, axis=1).cumsum(axis=1)
    return curve


def _summary(values: NDArray[np.float64], chance: float) -> dict[str, float]:
    summary = interval(values)
    return summary | {"times chance": summary["mean"] / chance}


def _draw(document: dict[str, Any]) -> None:
    kept, patches = document["kept"], document["patches"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    counts = np.arange(1, patches + 1)
    for name, (label, color, line) in STYLES.items():
        axes.plot(counts, document["curves"][name], color=color, linestyle=line, label=label)
    axes.plot(counts, counts / patches, color="gray", linestyle=":", label="chance")
    axes.axvline(kept, color="lightgray", zorder=0)
    axes.text(kept + 0.6, 0.02, f"K = {kept}", color="gray")
    axes.set(xlabel="kept patches K", ylabel="share of the discriminative pixels that are kept", ylim=(0, 1))
    axes.set(xlim=(1, patches), title="Do the kept patches show what distinguishes two classes?")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(HERE / "selection_quality.png", dpi=150)


if __name__ == "__main__":
    main()
