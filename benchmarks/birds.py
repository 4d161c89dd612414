"""What the synthetic benchmark shows: MP-FGVC beside zero-shot, a linear probe and full fine-tuning.

    python benchmarks/birds.py --work runs/birds                          # all of it: hours on two cores
    python benchmarks/birds.py --work runs/birds --species 30 --shots 20  # one column

The default recipe and its towers, 5, 10 and 20 training pictures of each of 30 and 200 classes, three
seeds of training (the pictures are the same). All training pictures, fixed epochs, the test read once at
the end. What is finished stays in --work, so an interrupted benchmark continues where it was; each
column of the table is written as soon as it is done, beside those of earlier calls.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from accuracy import RESULTS, Scores, finetune, load_class_tokens, mpfgvc, once, probe, spread
from mpfgvc import Config, load_config
from mpfgvc.birds.plumage import ATTRIBUTES, caption
from mpfgvc.birds.species import all_species
from mpfgvc.config_io import recipe
from mpfgvc.devices import start_fabric
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.text_tower import build_text_tower
from mpfgvc.storage import write_text
from mpfgvc.training.environment import describe_environment


def main() -> None:
    options = _parse()
    fabric = start_fabric(Config())
    environment = describe_environment(
        device=str(fabric.device), precision=str(fabric.strategy.precision.precision), processes=1
    )
    del environment["command"]  # it holds the paths of one machine
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{options.name}.json"
    for species in options.species:
        for shots in options.shots:
            title = f"{species} classes, {shots} pictures"
            scores = _scores(species, shots, options)
            _print(title, scores, len(options.seeds))
            _keep(file, title, {"seeds": options.seeds, "top1": scores, "environment": environment})


@torch.inference_mode()
def zero_shot(config: Config, folder: Path, options: Namespace) -> Scores:
    """The bundled towers as they are: the class whose sentences, one an attribute, are nearest on average."""
    text_tower = build_text_tower(config.model.text_tower, seed=config.seed)
    texts = []
    for kind in all_species(config.data.birds.species):
        sentences = [caption(kind.plumage, (name,)) for name in ATTRIBUTES]
        texts.append(F.normalize(text_tower.encode(sentences), dim=-1).mean(dim=0))
    tower = build_image_tower(config.model.image_tower).eval()
    tokens, labels = load_class_tokens(tower.transformer, config, "test")
    right = (F.normalize(tokens, dim=-1) @ F.normalize(torch.stack(texts), dim=-1).T).argmax(dim=1) == labels
    return {"top1": right.float().mean().item()}


METHODS = {"zero-shot": zero_shot, "probe": probe, "finetune": finetune, "mpfgvc": mpfgvc}
ONCE = {"zero-shot", "probe"}
"""Methods without anything random: one seed is enough."""


def _scores(species: int, shots: int, options: Namespace) -> dict[str, dict[str, float]]:
    """Mean and spread of top-1 by method and source."""
    scores: dict[str, list[float]] = {}
    for method, measure in METHODS.items():
        for seed in options.seeds[:1] if method in ONCE else options.seeds:
            settings: dict[str, Any] = {
                "seed": seed,
                "data.birds.species": species,
                "data.birds.train": shots,
            }
            config = load_config(recipe("synthetic"), overrides=settings)
            result = once(measure, config, options.work / f"{species}x{shots}" / f"{method}-{seed}", options)
            for source in ("top1", "vision", "text", "fusion"):
                if source in result:
                    name = method if source == "top1" else f"{method} {source}"
                    scores.setdefault(name, []).append(result[source])
    return {name: spread(values) for name, values in scores.items()}


def _keep(file: Path, title: str, column: dict[str, Any]) -> None:
    """Put a column into the result file, beside those that are there."""
    document = json.loads(file.read_text()) if file.exists() else {"claim": "birds", "columns": {}}
    document["columns"][title] = column
    write_text(file, json.dumps(document, indent=2) + "\n")


def _print(title: str, scores: dict[str, dict[str, float]], seeds: int) -> None:
    print(f"{title}, {seeds} seeds")
    for name, value in scores.items():
        print(f"  {name:16s} {100 * value['mean']:5.1f} ± {100 * value['std']:.1f} %", flush=True)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--name", default="birds", help="name of the result file")
    parser.add_argument("--species", type=int, nargs="+", default=[30, 200])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args(namespace=Namespace(validate=0.0))


if __name__ == "__main__":
    main()
