"""Words of the command line and values from Python are read by the type of their setting."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpfgvc.config_io import load_config, parse_overrides
from mpfgvc.errors import ConfigError

NAMES = [
    "birds #2",
    "2011",
    "on",
    "0123",
    "[new]",
    "a: b",
    "&a b",
    "1e3",
    "~",
    "true",
    "-x",
    "{a}",
    "'",
    "!x",
    "No",
]


@pytest.mark.parametrize("name", [*NAMES, "No", "NULL", "Null", "None", "é\udce9", " ", "a\nb", "%s"])
def test_a_text_setting_takes_the_word_as_it_was_typed(name: str) -> None:
    overrides = parse_overrides(["--data.root", name, f"--model.supercategory=x{name}"])
    assert overrides == {"data.root": name, "model.supercategory": f"x{name}"}
    assert load_config(overrides=overrides).data.root == name


@given(st.text(alphabet=st.characters(exclude_characters="\0"), min_size=1))
@example("null")
def test_no_word_is_special_for_a_folder(word: str) -> None:
    assert parse_overrides([f"--data.root={word}"]) == {"data.root": word}


def test_the_word_null_unsets_only_what_is_set_by_default() -> None:
    assert parse_overrides(["--model.text_tower.pretrained", "null"]) == {"model.text_tower.pretrained": None}
    assert parse_overrides(["--model.supercategory", "null"]) == {"model.supercategory": "null"}
    assert parse_overrides(["--model.image_tower.name", "null"]) == {"model.image_tower.name": "null"}


def test_a_value_that_begins_with_dashes_is_written_with_an_equals_sign() -> None:
    assert parse_overrides(["--data.root=--x"]) == {"data.root": "--x"}
    with pytest.raises(ConfigError, match=r"--data\.root needs a value; .* --data\.root=--value"):
        parse_overrides(["--data.root", "--seed", "3"])
    with pytest.raises(ConfigError, match="--seed needs a value"):
        parse_overrides(["--seed"])


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--compile"], True),
        (["--compile", "--seed=1"], True),
        (["--compile", "false"], False),
        (["--compile=True"], True),
        (["--stage1.lr", "1e-3"], 0.001),
        (["--stage1.lr", "1"], 1.0),
        (["--stage1.lr", ".5"], 0.5),
        (["--model.kept_tokens", "null"], None),
        (["--model.kept_tokens", "+12"], 12),
        (["--model.image_tower.image_size", "[48, 80]"], [48, 80]),
        (["--model.image_tower.image_size", "48"], 48),
        (["--data.dataset", "cub"], "cub"),
    ],
)
def test_numbers_truths_lists_and_choices_are_read_as_yaml_1_2(words: list[str], value: object) -> None:
    found = next(iter(parse_overrides(words).values()))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--compile=yes", "compile must be true or false, got yes"),
        ("--compile=1", "compile must be true or false, got 1"),
        ("--stage1.epochs=2.5", "stage1.epochs must be a whole number, got 2.5"),
        ("--stage1.epochs=010", "stage1.epochs must be a whole number, got 010"),
        ("--stage1.epochs=1_000", "stage1.epochs must be a whole number, got 1_000"),
        ("--stage1.epochs=٣", "stage1.epochs must be a whole number, got ٣"),
        ("--stage1.epochs=", "stage1.epochs must be a whole number, got nothing"),
        ("--stage1.lr=nan", "stage1.lr must be a number, got nan"),
        ("--stage1.lr=.inf", "stage1.lr must be a number, got .inf"),
        ("--stage1.lr=1e999", "stage1.lr must be a number, got inf"),
        ("--model.kept_tokens=None", "model.kept_tokens must be a whole number or null, got None"),
        (
            "--data.dataset=birds",
            "data.dataset must be one of cub, dogs, nabirds, food101, flowers102, folder, "
            "manifest, shards, synthetic, got birds",
        ),
        (
            "--model.image_tower.image_size=[48, x]",
            "model.image_tower.image_size must be a whole number or a list of whole numbers or null, got [48",
        ),
        ("--data.root=", "data.root must not be empty or contain a NUL character; leave it out instead, got"),
        ("--data={root: x}", "data is a group of settings; set one of them, such as --data.dataset"),
        ("--model.kept_token=4", "unknown setting model.kept_token; did you mean model.kept_tokens?"),
        ("--seed.x=4", "unknown setting seed.x; seed holds no settings of its own"),
        ("--stage2.flip=true", "unknown setting stage2.flip; it was replaced by stage2.views"),
        ("--stage1.name=x", "unknown setting stage1.name"),
        ("--data..root=x", "unknown setting data."),
        ("birds", "settings look like --model.kept_tokens 96, got birds"),
    ],
)
def test_a_word_that_does_not_fit_is_refused_by_its_setting(word: str, line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_overrides([word])
    assert str(refusal.value).startswith(line)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("data.root", Path("birds #2"), "birds #2"),
        ("data.root", None, None),
        ("model.kept_tokens", np.int64(7), 7),
        ("stage1.lr", 1, 1.0),
        ("stage1.lr", np.float32(0.5), 0.5),
        ("model.image_tower.image_size", (48, 80), [48, 80]),
    ],
)
def test_python_values_are_taken_as_they_are(name: str, value: object, kept: object) -> None:
    found: Any = load_config(overrides={name: value})
    for part in name.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("data.root", 2011, "data.root must be text or null, got 2011"),
        ("data.root", b"birds", "data.root must be text or null, got b'birds'"),
        ("data.root", "a\0b", "data.root must not be empty or contain a NUL character"),
        ("seed", True, "seed must be a whole number, got True"),
        ("seed", "3", "seed must be a whole number, got 3"),
        ("seed", 3.0, "seed must be a whole number, got 3.0"),
        ("seed", None, "seed must be a whole number, got null"),
        ("stage1.lr", math.inf, "stage1.lr must be a number, got inf"),
        ("stage1.lr", 10**400, "stage1.lr must be a number, got 1000"),
        ("compile", "true", "compile must be true or false, got true"),
        ("data", 3, "data must hold settings of its own, got 3"),
        ("seed.x", 3, "seed must be a whole number, got {'x': 3}"),
        ("sed", 3, "unknown setting sed; did you mean seed?"),
    ],
)
def test_a_python_value_of_the_wrong_type_is_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(overrides={name: value})
    assert str(refusal.value).startswith(rule)


def test_a_dictionary_sets_some_settings_of_a_group_and_leaves_the_others() -> None:
    config = load_config("cub", overrides={"data.augment": {"flip": 0}, "data": {"root": "x"}})
    assert (config.data.augment.flip, config.data.augment.crop) == (0.0, "random")
    assert (config.data.root, config.data.dataset) == ("x", "cub")
