"""A training from shards: the same bits as from files, whatever reads them, and after a kill."""

import csv
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.integration.test_resume import _in_process

from mpfgvc import Config, evaluate
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.pack import Pack
from mpfgvc.data.shard_index import INDEX, LAYOUT, ROWS, index_digest
from mpfgvc.devices import start_fabric
from mpfgvc.training.open_run import list_photographs

Tiny = Callable[..., Config]
Cli = Callable[..., tuple[int, str, str]]
PLAIN = {"stage2.start": "noise"}
SAME_BITS = ("model/model.safetensors", "evaluation.json")  # stage1.safetensors names the photographs, too


@pytest.fixture(scope="module")
def shards(photos: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs of `tiny`, packed."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    dataset = replace(read_photos(tiny().data, seed=0), name="photos")
    Pack(out=out, root=photos, per_shard=7).write(dataset)
    return out


@pytest.fixture(scope="module")
def packed(tiny: Tiny, shards: Path) -> Callable[..., Config]:
    """The settings of `tiny`, from shards."""

    def make(**more: object) -> Config:
        return tiny({**PLAIN, "data.dataset": "shards", "data.root": str(shards), **more})

    return make


@pytest.fixture(scope="module")
def from_files(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("files") / "run"
    assert _in_process(tiny(PLAIN), run) == 0
    return run


@pytest.fixture(scope="module")
def from_shards(packed: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("shards") / "run"
    assert _in_process(packed(), run) == 0
    return run


def same_bits(run: Path, other: Path) -> None:
    for name in SAME_BITS:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    mine, others = (load_file(folder / "stage1.safetensors") for folder in (run, other))
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)


def test_a_training_from_shards_ends_with_the_bits_of_one_from_files(
    from_files: Path, from_shards: Path
) -> None:
    same_bits(from_shards, from_files)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_loader_processes_gives_the_same_bits(
    packed: Callable[..., Config], from_files: Path, tmp_path: Path, workers: int
) -> None:
    assert _in_process(packed(**{"data.workers": workers}), tmp_path / "run") == 0
    same_bits(tmp_path / "run", from_files)


@pytest.mark.parametrize(
    ("moment", "count"), [("step of stage1", 2), ("step of stage1", 5), ("step of stage2", 3)]
)
def test_a_training_killed_in_the_middle_of_an_epoch_is_resumed_to_the_same_bits(
    packed: Callable[..., Config], from_files: Path, tmp_path: Path, moment: str, count: int
) -> None:
    assert _in_process(packed(**{"data.workers": 2}), tmp_path / "run", moment, count) == -signal.SIGKILL
    assert _in_process(None, tmp_path / "run") == 0
    same_bits(tmp_path / "run", from_files)


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
    code, out, _ = cli("predict", from_shards, shards / "photos-000000.tar", "--json")
    assert len(json.loads(out)) == 7
    code, _, _ = cli("explain", from_shards, first, "--out", tmp_path / "why.png")
    assert code == 0
    assert (tmp_path / "why.png").stat().st_size > 1000


def test_a_run_whose_shard_is_gone_refuses_in_one_line(
    from_shards: Path, shards: Path, cli: Cli, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in shards.iterdir():
        if not file.name.endswith("000003.tar"):
            (moved / file.name).write_bytes(file.read_bytes())
    code, out, err = cli("evaluate", from_shards, "--data.root", moved)
    assert (code, out) == (2, "")
    assert "photos-000003.tar does not exist" in err
    assert err.count("\n") == 1


def test_a_training_on_a_pack_of_the_first_format_reads_the_digests_itself(
    packed: Callable[..., Config], shards: Path, tmp_path: Path
) -> None:
    """Without them nobody would know later which photographs were trained on."""
    older = shutil.copytree(shards, tmp_path / "older")
    rows = np.fromfile(older / INDEX, ROWS[2])
    first = np.zeros(len(rows), ROWS[1])
    for name in ROWS[1].names or ():
        first[name] = rows[name]
    document = json.loads((older / LAYOUT).read_text()) | {"format": 1, "index_digest": index_digest(first)}
    (older / INDEX).write_bytes(first.tobytes())
    (older / LAYOUT).write_text(json.dumps(document))
    lists = []
    for root in (older, shards):
        config = packed(**{"data.root": str(root)})
        photos = read_photos(config.data, seed=config.seed)
        lists.append(list_photographs(config, photos, start_fabric("cpu", "fp32")))
    assert [(each.path, each.label, each.split, each.digest) for each in lists[0].photographs] == [
        (each.path, each.label, each.split, each.digest) for each in lists[1].photographs
    ]
    assert all(each.digest for each in lists[0].photographs)
