"""Config files: text keeps its letters, each key is given once, and what is written comes back."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfgvc.config import Config
from mpfgvc.config_io import dump_config, load_config, recipe_names
from mpfgvc.errors import ConfigError

ANY_TEXT = st.text(
    alphabet=st.characters(exclude_characters="\0") | st.characters(categories=["Cs", "Cc", "Zl", "Zp"]),
    min_size=1,
).filter(lambda text: "\0" not in text)


def read(folder: Path, text: str) -> Config:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


@pytest.mark.parametrize(
    ("written", "root"),
    [
        ("2011", "2011"),
        ("on", "on"),
        ("0123", "0123"),
        ("2001-01-01", "2001-01-01"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("birds#2", "birds#2"),
        ("'birds #2'", "birds #2"),
        ('"null"', "null"),
        ("null", None),
        ("~", None),
        ("", None),
        ("!!str null", "null"),
        ("é", "é"),
    ],
)
def test_a_text_setting_keeps_its_letters_in_a_file(tmp_path: Path, written: str, root: str | None) -> None:
    assert read(tmp_path, f"data:\n  root: {written}\n").data.root == root


@given(text=ANY_TEXT)
def test_any_text_comes_back_from_a_written_config(folder: Path, text: str) -> None:
    config = load_config(overrides={"data.root": text, "model.image_tower.name": text})
    file = folder / "config.yaml"
    file.write_bytes(dump_config(config).encode())
    assert load_config(file) == config


@pytest.mark.parametrize("name", recipe_names())
def test_a_whole_recipe_comes_back(tmp_path: Path, name: str) -> None:
    config = load_config(name, overrides={"stage1.lr": 1e-5, "model.image_tower.image_size": [48, 80]})
    assert read(tmp_path, dump_config(config)) == config


def test_numbers_in_both_notations_are_numbers(tmp_path: Path) -> None:
    stage = read(tmp_path, "stage1: {lr: 1e-3, tower_lr: 1.0e-4, clip: 2, weight_decay: .5}").stage1
    assert (stage.lr, stage.tower_lr, stage.clip, stage.weight_decay) == (0.001, 0.0001, 2.0, 0.5)


def test_anchors_and_merge_keys_work_and_their_neighbours_win(tmp_path: Path) -> None:
    text = "stage1: &both {epochs: 3, clip: 2}\nstage2:\n  <<: *both\n  epochs: 7\n"
    config = read(tmp_path, text)
    assert (config.stage1.epochs, config.stage2.epochs, config.stage2.clip) == (3, 7, 2)


def test_an_empty_file_means_the_defaults_and_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    assert read(tmp_path, "") == read(tmp_path, "# nothing\n") == Config()
    assert read(tmp_path, "\ufeffseed: 3\n") == replace(Config(), seed=3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nseed: 2\n", "line 2: seed is given twice; keep one of the two"),
        ("data:\n  root: a\n  test: 0.1\n  root: b\n", "line 4: data.root is given twice"),
        ("seed: 1\ndata: {root: a, root: b}\n", "line 2: data.root is given twice"),
        ("\nseed: x\n", "line 2: seed must be a whole number, got x"),
        ("seed: '3'\nsed: 4\n", "line 1: seed must be a whole number, got 3"),
        ("compile: yes\n", "line 1: compile must be true or false, got yes"),
        ("seed: 010\n", "line 1: seed must be a whole number, got 010"),
        ("stage1: {lr: .nan}\n", "line 1: stage1.lr must be a number, got .nan"),
        ("stage1:\n  lrr: 1\n", "line 2: unknown setting stage1.lrr; did you mean stage1.lr?"),
        ("data: [1]\n", "line 1: data must hold settings of its own, got a list"),
        ("data:\nseed: 1\n", "line 1: data must hold settings of its own, got nothing"),
        ("data:\n  root: [a]\n", "line 2: data.root must be text or null, got ['a']"),
        ("data:\n  root: {a: b}\n", "line 2: data.root must be a plain value, got settings of its own"),
        ("seed: !!python/name:os.system 3\n", "line 1: seed must be a plain value"),
        ("data:\n  root: &a [*a]\n", "line 2: data.root must be a plain value"),
        ("? [a]\n: 3\n", "line 1: a setting must be a word"),
    ],
)
def test_what_cannot_be_read_as_meant_is_refused_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).startswith(f"{tmp_path / 'config.yaml'}, {line}")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- 1\n", "must hold settings such as `seed: 0`, got a list"),
        ("birds\n", "must hold settings such as `seed: 0`, got birds"),
        ("seed: [\n", "is not valid YAML"),
        ("seed: 1\n--- \nseed: 2\n", "is not valid YAML"),
        ("data: " + "[" * 800, "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml") as refusal:
        read(tmp_path, text)
    assert rule in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_of_other_bytes_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"data: {root: caf\xe9}\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml is not valid YAML"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot read the config"):
        load_config(tmp_path)


def test_a_huge_file_is_not_read_as_settings() -> None:
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_config(Path("/dev/zero"))
