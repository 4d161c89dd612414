"""What the benchmarks share: kept scores, settings, and figures over seeds and pictures."""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from common import interval, once, parse_settings, scored_split, settings_of, spread
from mpfgvc import Config


class _Method:
    """Counts its calls; the first one is interrupted."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.calls, self.interrupted = 0, interrupted

    def __call__(self, config: Config, folder: Path) -> dict[str, float]:
        self.calls += 1
        if self.interrupted and self.calls == 1:
            raise KeyboardInterrupt
        return {"top1": 0.25}


def test_a_method_is_measured_once(tmp_path: Path) -> None:
    method = _Method()
    first, second = (once(method, Config(), tmp_path / "probe-0") for _ in range(2))
    assert first == second
    assert first["top1"] == 0.25
    assert method.calls == 1


def test_an_interrupted_method_is_measured_again_with_the_same_settings_only(tmp_path: Path) -> None:
    method = _Method(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        once(method, Config(), tmp_path / "probe-0")
    with pytest.raises(SystemExit, match="other settings"):
        once(method, Config(seed=1), tmp_path / "probe-0")
    assert once(method, Config(), tmp_path / "probe-0")["top1"] == 0.25


def test_scores_of_other_settings_are_refused(tmp_path: Path) -> None:
    once(_Method(), Config(), tmp_path / "probe-0")
    with pytest.raises(SystemExit, match="other settings"):
        once(_Method(), Config(seed=1), tmp_path / "probe-0")


def test_options_and_settings_come_from_one_command_line(tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--work", type=Path)
    words = ["--work", str(tmp_path), "--seed", "3", "--data.birds.species", "5"]
    options, overrides = parse_settings(parser, words)
    config = settings_of("synthetic", overrides)
    assert options.work == tmp_path
    assert (config.seed, config.data.birds.species) == (3, 5)


def test_a_config_file_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 4\n")
    assert settings_of(str(file), {}).seed == 4


def test_the_test_split_is_not_read_while_settings_are_being_chosen() -> None:
    assert scored_split(Config(final_test=True)) == "test"
    assert scored_split(Config(final_test=False)) == "validation"


def test_the_spread_over_seeds_is_the_standard_deviation_of_a_sample() -> None:
    assert spread([0.5]) == {"mean": 0.5, "std": 0.0}
    assert spread([1.0, 2.0, 3.0]) == pytest.approx({"mean": 2.0, "std": 1.0})


def test_the_interval_holds_the_mean_and_narrows_with_more_pictures() -> None:
    few, many = (np.random.default_rng(0).normal(0.5, 0.1, count) for count in (20, 2000))
    narrow, wide = interval(many), interval(few)
    assert narrow["low"] < narrow["mean"] < narrow["high"]
    assert narrow["high"] - narrow["low"] < (wide["high"] - wide["low"]) / 5
    assert narrow["high"] - narrow["low"] == pytest.approx(2 * 1.96 * 0.1 / 2000**0.5, rel=0.1)
