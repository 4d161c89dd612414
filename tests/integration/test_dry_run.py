"""A dry run measures the steps that a training does, refuses what it refuses, and leaves nothing behind."""

import csv
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cli

from mpfgvc import Config, ConfigError, MpfgvcError, train
from mpfgvc.training import dry_run as module
from mpfgvc.training.dry_run import dry_run

Tiny = Callable[..., Config]
EVERYTHING = {"stage1.start": "features", "data.validation": 0.2, "stage1.accumulate": 2}


def _entries(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.iterdir()}


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_it_has_the_steps_of_the_training_and_leaves_nothing_behind(
    tiny: Tiny, tmp_path: Path, settings: dict[str, Any]
) -> None:
    before = _entries(tmp_path, Path(tempfile.gettempdir()))
    result = dry_run(tiny(settings), out=tmp_path / "new" / "run")
    assert {path for path in _entries(tmp_path, Path(tempfile.gettempdir())) - before if "mpfgvc" in path.name} == set()
    assert list(tmp_path.iterdir()) == []
    run = train(tiny(settings), out=tmp_path / "run").path
    done: dict[str, int] = defaultdict(int)
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            done[row["stage"]] = max(done[row["stage"]], int(row["step"]))
    planned = {part.name: part.count for part in result.parts}
    assert {stage: planned[stage] for stage in done} == done
    assert result.photographs["train"] == 27
    passes = [part.count for part in result.parts if part.name == "embedding for stage 2"]
    assert passes == [27 + result.photographs["validation"]]


def test_its_figures_are_plausible(tiny: Tiny, tmp_path: Path) -> None:
    result = dry_run(tiny(EVERYTHING))
    assert result.fits
    assert all(0 < part.seconds_each < 60 for part in result.parts)
    assert result.seconds == pytest.approx(sum(part.count * part.seconds_each for part in result.parts))
    needs = {store.name: store.needs for store in result.stores}
    run = train(tiny(EVERYTHING), out=tmp_path / "run").path
    stored = sum(file.stat().st_size for file in run.rglob("*") if file.suffix in (".pt", ".safetensors"))
    assert stored < needs["disk"] < 10 * stored
    assert 10**8 < needs["memory"] < 10**10


def test_what_does_not_fit_is_said_with_the_setting_that_helps(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_capacity", lambda _: {"memory": 10**8})
    result = dry_run(tiny())
    assert not result.fits
    assert "this machine's memory is too small for " in result.advice[0]


@pytest.mark.parametrize(
    "changes", [{"stage1.pretrained_share": 0.2}, {"model.kept_tokens": 999}, {"data.root": "nowhere"}]
)
def test_it_refuses_what_a_training_refuses_with_the_same_line(
    tiny: Tiny, tmp_path: Path, changes: dict[str, Any]
) -> None:
    said = []
    for start in (train, dry_run):
        with pytest.raises(MpfgvcError) as error:
            start(tiny(changes), out=tmp_path / "run")
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused(tiny: Tiny, finished: Path) -> None:
    with pytest.raises(MpfgvcError, match="already holds a run"):
        dry_run(tiny(), out=finished)


def test_the_command_names_recipe_and_towers(cli: Cli, tiny_words: list[str]) -> None:
    code, out, err = cli("train", "--dry-run", "--json", *tiny_words)
    assert code == 0, err
    document = json.loads(out)
    assert (document["recipe"], document["image_tower"]) == ("folder", "test_vit")
    assert document["seconds"] > 0
    assert document["fits"] is True
    code, out, err = cli("train", "--dry-run", *tiny_words)
    assert code == 0, err
    assert "recipe       folder" in out
    assert "in all" in out
    assert "it fits" in out
    assert "measured now on" in err


def test_a_resumed_run_has_no_dry_run(cli: Cli, finished: Path) -> None:
    code, _, err = cli("train", "--dry-run", "--resume", finished)
    assert code == 2
    assert "leave out --dry-run" in err


def test_only_settings_are_taken() -> None:
    with pytest.raises(ConfigError, match="takes the settings that load_config gives"):
        dry_run({"seed": 3})  # type: ignore[arg-type]
