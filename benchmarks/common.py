"""What the benchmarks share: result files, settings, kept scores, class tokens, towers with random weights.

side_by_side.py measures; accuracy.py holds the methods that are compared.
"""

import json
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc import MPFGVC, Config, load_config
from mpfgvc.birds.plumage import ATTRIBUTES, Species, all_species, caption
from mpfgvc.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.samples import Split
from mpfgvc.data.transforms import eval_transform
from mpfgvc.distributed import start_fabric
from mpfgvc.files import write_text
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.model.towers.image_tower import ImageTower, build_image_tower
from mpfgvc.model.towers.text_tower import TextTower, build_text_tower
from mpfgvc.recipes_io import parse_overrides, recipe
from mpfgvc.training.environment import describe_environment

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WRITTEN = ("benchmarks/results", "benchmarks/*.png", "benchmarks/README.md")
"""What benchmarks write: the commit of the next one is no less clean for it."""
RESAMPLES = 2000
CLIP_TEXT = TextTowerConfig(name="ViT-B-16", pretrained=None)
"""CLIP's ViT-B-16 text tower with random weights: speed does not depend on them."""
MEASURED_COMMAND = """
import re, resource, sys
from pathlib import Path
from mpfgvc.cli.main import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)
print(used.ru_utime + used.ru_stime, peak, file=sys.stderr)
sys.exit(code)
"""
"""Code of a command that says at its end, on standard error: its processor seconds, its peak memory in kB.

Exit code and output are those of the command. `wait4` would give the peak of the script that starts it, too.
"""
Overrides = dict[str, Any]  # by dotted name
Scores = dict[str, float]
Method = Callable[[Config, Path], Scores]
"""Takes the settings and a folder that it may make, to keep what it needs to continue."""


def write_result(name: str, document: Mapping[str, Any], **machine: str) -> None:
    """Write results/NAME.json with the environment; `machine` as `environment` takes it."""
    write_document(name, {**document, "environment": environment(**machine)})


def write_document(name: str, document: Mapping[str, Any]) -> None:
    """Write results/NAME.json as it is."""
    RESULTS.mkdir(exist_ok=True)
    write_text(result_file(name), json.dumps(document, indent=2) + "\n")


def result_file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def environment(*, device: str = "cpu", precision: str = "32-true") -> dict[str, Any]:
    """Machine, versions and commit, without the command, which holds the paths of one machine."""
    described = describe_environment(device=device, precision=precision, processes=1, results=WRITTEN)
    return {name: value for name, value in described.model_dump(mode="json").items() if name != "command"}


def environment_of(config: Config) -> dict[str, Any]:
    """The environment with the device and precision that these settings choose here."""
    fabric = start_fabric(config.device, config.precision)
    return environment(device=str(fabric.device), precision=str(fabric.strategy.precision.precision))


def parse_settings(parser: ArgumentParser, words: Sequence[str] | None = None) -> tuple[Namespace, Overrides]:
    """The options of a parser, and every other `--name value` as a setting of the package."""
    options, rest = parser.parse_known_args(words)
    return options, parse_overrides(rest)


def add_run_options(parser: ArgumentParser) -> None:
    """What every benchmark that trains is told: where its runs go, and which seeds."""
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])


def settings_of(name: str, overrides: Overrides) -> Config:
    """The settings of a recipe or of a .yaml file, with `overrides` on top."""
    return load_config(Path(name) if name.endswith(".yaml") else recipe(name), overrides=overrides)


def once(measure: Method, config: Config, folder: Path) -> Scores:
    """The scores of a method, measured unless they were before, with exactly these settings.

    FOLDER.json keeps settings and scores. It is there from the start, so that a method which was
    interrupted never continues with other settings.
    """
    file, settings = folder.with_suffix(".json"), config.model_dump()
    kept = json.loads(file.read_text()) if file.exists() else {"settings": settings}
    if kept["settings"] != settings:
        raise SystemExit(f"{file} is of other settings; choose another --work")
    if "scores" in kept:
        return dict(kept["scores"])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(kept))
    started = time.perf_counter()
    scores = measure(config, folder)
    scores["minutes"] = (time.perf_counter() - started) / 60
    write_text(file, json.dumps(kept | {"scores": scores}))
    return scores


def photographs(folder: str | Path) -> list[Path]:
    """The JPEGs below a folder, in order."""
    return sorted(Path(folder).rglob("*.jpg"))


def protocol(seed: int, validate: float) -> Overrides:
    """What a comparison decides over all other settings; `validate` is the share of training to score on."""
    return {"seed": seed, "data.validation": validate, "final_test": not validate}


def scored_split(config: Config) -> Split:
    """The split that methods are compared on: validation while settings are being chosen."""
    return "test" if config.final_test else "validation"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds; 0 for one seed."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The mean and its 95 % interval, by resampling the values."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


@torch.no_grad()
def class_tokens(tower: ImageTower, config: Config, split: Split) -> tuple[Tensor, Tensor]:
    """The class tokens and labels of a split, by timm's own forward, on the CPU."""
    samples = read_photos(config.data, seed=config.seed).subset(split)
    device = next(tower.parameters()).device
    transform = eval_transform(preprocessing_of(tower.input, config.data))
    tokens: list[Tensor] = []
    indices: list[int] = []
    for batch in EvaluationLoader(samples, transform, batch_size=64, workers=config.data.workers):
        tokens.append(class_token(tower.eval(), batch.images.to(device)).cpu())
        indices += batch.indices
    return torch.cat(tokens), labels_of(samples)[indices]


def class_token(tower: ImageTower, images: Tensor) -> Tensor:
    """What a classifier sees, by timm's own forward, not ours. (batch, width)"""
    token: Tensor = tower.transformer.fc_norm(tower.transformer.forward_features(images)[:, 0])
    return token


def zero_shot(config: Config, folder: Path) -> Scores:
    """The towers without training: the class whose sentences, one per attribute, are nearest on average."""
    tokens, labels = class_tokens(build_image_tower(config.model.image_tower), config, scored_split(config))
    text_tower = build_text_tower(config.model.text_tower, seed=config.seed)
    texts = torch.stack([_mean_sentence(text_tower, kind) for kind in all_species(config.data.birds.species)])
    similarities = F.normalize(tokens, dim=-1) @ F.normalize(texts, dim=-1).T
    return {"top1": accuracy(similarities, labels)}


@torch.no_grad()
def _mean_sentence(text_tower: TextTower, kind: Species) -> Tensor:
    sentences = [caption(kind.plumage, (name,)) for name in ATTRIBUTES]
    return F.normalize(text_tower.encode(sentences), dim=-1).mean(dim=0)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is that of the label. 0..1"""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def vit_base(side: int = 224, name: str = "vit_base_patch16_224") -> ImageTowerConfig:
    """ViT-B/16 (or another timm model) with random weights: speed does not depend on them."""
    return ImageTowerConfig(name=name, pretrained=False, image_size=side)


def untrained_network(config: ModelConfig, classes: int) -> MPFGVC:
    """A network ready for stage 1, for classes that are only numbered."""
    return MPFGVC.from_config(config, [f"class {number}" for number in range(classes)])


def bird_prompts(tower: TextTower, classes: int) -> ClassPrompts:
    """Class prompts with J = 4 that end with "bird"."""
    return ClassPrompts(tower=tower, endings=["bird"] * classes, context_tokens=4)
