"""A training from shards: the same bits as from files, whatever reads them, and after a kill."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.killed import run_to_the_end, run_until

from mpfgvc import Config, evaluate, train
from mpfgvc.cli.main import main

Tiny = Callable[..., Config]
Cli = Callable[..., tuple[int, str, str]]
PLAIN = {"stage2.start": "random"}
SAME_BITS = ("model/model.safetensors", "evaluation.json")  # stage1.safetensors names the photographs, too


@pytest.fixture(scope="session")
def shards(photos: Path, once: Callable[..., Path]) -> Path:
    """The photographs of `tiny`, packed."""

    def pack(folder: Path) -> None:
        words = ["data", "pack", "--data.root", photos, "--out", folder / "shards", "--per-shard", 7]
        assert main([str(word) for word in words]) == 0

    return once("shards", pack) / "shards"


@pytest.fixture(scope="session")
def packed(tiny: Tiny, shards: Path) -> Tiny:
    """The settings of `tiny`, from shards."""
    return lambda more={}: tiny({**PLAIN, "data.dataset": "shards", "data.root": str(shards), **more})


@pytest.fixture(scope="session")
def from_files(tiny: Tiny, once: Callable[..., Path]) -> Path:
    return once("from-files", lambda folder: train(tiny(PLAIN), out=folder))


@pytest.fixture(scope="session")
def from_shards(packed: Tiny, once: Callable[..., Path]) -> Path:
    return once("from-shards", lambda folder: train(packed(), out=folder))


def same_bits(run: Path, other: Path) -> None:
    for name in SAME_BITS:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    mine, others = (load_file(folder / "stage1.safetensors") for folder in (run, other))
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)


def test_a_training_from_shards_ends_with_the_bits_of_one_from_files(from_files: Path, from_shards: Path) -> None:
    same_bits(from_shards, from_files)


@pytest.mark.slow("trainings with two and four loader processes, one of them killed in the middle")
def test_any_number_of_loader_processes_and_a_kill_give_the_same_bits(
    packed: Tiny, from_files: Path, tmp_path: Path
) -> None:
    train(packed({"data.workers": 4}), out=tmp_path / "four")
    same_bits(tmp_path / "four", from_files)
    settings = packed({"data.workers": 2})
    events = run_to_the_end(settings, tmp_path / "two")
    same_bits(tmp_path / "two", from_files)
    run_until(events // 2, settings, tmp_path / "killed")
    run_to_the_end(None, tmp_path / "killed")
    same_bits(tmp_path / "killed", from_files)


def test_the_run_is_evaluated_and_predicts_and_explains_by_the_paths_of_its_photographs(
    from_shards: Path, shards: Path, cli: Cli, tmp_path: Path
) -> None:
    stored = json.loads((from_shards / "evaluation.json").read_text())
    assert evaluate(from_shards).to_dict()["sources"] == stored["sources"]
    with (from_shards / "predictions-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    first = shards / rows[0]["path"]
    assert ".tar!" in str(first)
    code, out, _ = cli("predict", from_shards, first, "--json")
    assert code == 0
    assert json.loads(out)[0]["path"] == str(first)
    code, out, _ = cli("predict", from_shards, sorted(shards.glob("*.tar"))[0], "--json")
    assert len(json.loads(out)) == 7
    assert cli("explain", from_shards, first, "--out", tmp_path / "why.png")[0] == 0


def test_what_is_evaluated_of_a_run_whose_shard_is_gone_is_said(
    from_shards: Path, shards: Path, cli: Cli, tmp_path: Path
) -> None:
    moved = shutil.copytree(shards, tmp_path / "moved")
    gone = sorted(moved.glob("*.tar"))[3]
    gone.unlink()
    code, _, err = cli("evaluate", from_shards, "--data.root", moved)
    assert code == 0
    assert "photographs of the run that are missing: 7 of " in err
    assert f"the shard {gone} does not exist" in err
