"""One folder with every kind of fault in it: the doctor finds them, and nothing else."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import BirdsConfig
from mpfgvc.data.readers.birds import read_birds
from planted_copies import CHANGES

Cli = Callable[..., tuple[int, str, str]]
EACH = 4
"""Faults of each kind."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 drawn birds of 10 classes, 8 to train on and 2 to test on."""
    root = tmp_path_factory.mktemp("clean")
    birds = read_birds(BirdsConfig(species=10, train=8, test=2, image_size=96))
    for number, sample in enumerate(birds.samples):
        folder = root / sample.split / birds.classes[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        sample.read().save(folder / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def planted(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    """The same with faults, and for each kind the files that have it."""
    root = tmp_path_factory.mktemp("planted") / "photos"
    files = sorted(clean.rglob("*.png"))
    for file in files:
        target = root / file.relative_to(clean)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    train = [file for file in files if "train" in file.parts]
    generator, faults = np.random.default_rng(0), dict[str, set[str]]()
    for kind, change in CHANGES.items():  # each into the test split, of the same class
        for place in range(EACH):
            source = train.pop(int(generator.integers(len(train))))
            copy = root / "test" / source.parent.name / f"{kind.replace(' ', '-')}-{place}.png"
            change(Image.open(source), generator).save(copy)
            faults.setdefault(kind, set()).add(str(copy))
    for place in range(EACH):
        source = train.pop(int(generator.integers(len(train))))
        others = sorted({file.parent.name for file in files} - {source.parent.name})
        wrong = root / "train" / others[place] / f"mislabelled-{place}.png"
        wrong.write_bytes(source.read_bytes())
        faults.setdefault("mislabelled", set()).add(str(wrong))
        cut = root / "train" / source.parent.name / f"cut-{place}.png"
        cut.write_bytes(train.pop().read_bytes()[:2000])
        faults.setdefault("truncated", set()).add(str(cut))
    (root / "train" / "empty class").mkdir()
    name = next(iter(sorted(file.parent.name for file in files)))
    (root / "train" / name.upper()).mkdir()
    (root / "train" / name.upper() / "a.png").write_bytes(_noise(generator))
    faults["look-alike"] = {name.upper()}
    return root, faults


def test_nothing_is_wrong_with_clean_birds(clean: Path, cli: Cli) -> None:
    code, stdout, _ = cli("data", "check", "--data.root", clean, "--data.validation", "0", "--json")
    document = json.loads(stdout)
    assert (code, document["duplicates"], document["broken"]) == (0, [], [])
    assert (document["empty"], document["similar_names"]) == ([], [])


def test_every_planted_fault_is_found(planted: tuple[Path, dict[str, set[str]]], cli: Cli, tmp_path: Path) -> None:
    root, faults = planted
    code, stdout, _ = cli(
        *("data", "check", "--data.root", root, "--data.validation", "0"), *("--json", "--page", tmp_path / "page.html")
    )
    document: dict[str, Any] = json.loads(stdout)
    assert code == 2, "there are broken photographs and an empty class"
    found = {
        "leak": {path for each in document["leaks"] for path in each["paths"]},
        "conflict": {path for each in document["conflicts"] for path in each["paths"]},
        "broken": {each["path"] for each in document["broken"]},
    }
    where = {"mislabelled": "conflict", "truncated": "broken"}
    recall = {
        kind: len(paths & found[where.get(kind, "leak")]) / len(paths)
        for kind, paths in faults.items()
        if kind != "look-alike"
    }
    assert {kind: share for kind, share in recall.items() if "cropped" not in kind and share < 1} == {}
    assert min(share for kind, share in recall.items() if "cropped" in kind) >= 0.75
    planted_files = set().union(*faults.values())
    for duplicate in document["duplicates"]:
        assert planted_files & set(duplicate["paths"]), "a pair without a planted copy is a false alarm"
    assert document["empty"] == [str(root / "train" / "empty class")]
    (names,) = document["similar_names"]
    assert {name.upper() for name in names} == faults["look-alike"]
    assert (tmp_path / "page.html").stat().st_size > 10_000


def _noise(generator: np.random.Generator) -> bytes:
    content = io.BytesIO()
    Image.fromarray(generator.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(content, format="PNG")
    return content.getvalue()
