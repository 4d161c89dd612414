"""Recipes, files and words of the command line: what they mean, and that what is written comes back."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpfgvc.config import Config
from mpfgvc.errors import ConfigError
from mpfgvc.recipes_io import (
    ablation_names,
    changed_settings,
    default_recipe,
    dump_config,
    load_config,
    parse_overrides,
    recipe,
    recipe_names,
)

ANY_TEXT = st.text(
    alphabet=st.characters(exclude_characters="\0") | st.characters(categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1
).filter(lambda text: "\0" not in text)


def read(folder: Path, text: str) -> Config:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


def test_the_recipe_wins_over_a_file_of_its_name_which_is_given_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cub").write_text("seed: 7")
    (tmp_path / "mine.yml").write_text("seed: 8")
    monkeypatch.chdir(tmp_path)
    config = load_config("cub", overrides={"model.kept_tokens": 12})
    assert (config.data.dataset, config.model.kept_tokens) == ("cub", 12)
    assert [load_config(source).seed for source in ("./cub", Path("cub"), "mine.yml")] == [7, 7, 8]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cubs", "there are clip, cub, .*; did you mean cub?"),
        ("frozenn", "there are clip, cub, .*; did you mean frozen?"),
        ("zzz", r"a file needs a path, such as \./zzz"),
    ],
)
def test_an_unknown_recipe_is_refused_with_the_list(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown recipe {name}; .*{hint}"):
        load_config(name)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "synthetic"),
        ({"data.birds.species": 4}, "synthetic"),
        ({"data.dataset": "synthetic"}, "synthetic"),
        ({"data.root": None}, "folder"),
        ({"data.manifest": "x.csv"}, "folder"),
        ({"data.dataset": "cub"}, "folder"),
    ],
)
def test_a_training_takes_folder_for_named_data_else_synthetic(overrides: dict[str, object], name: str) -> None:
    assert default_recipe(overrides) == name
    if overrides.get("data.dataset", name) == name:  # the base of an ablation is the same
        expected = load_config(name, overrides=overrides)
        assert load_config("ablations/full", overrides=overrides) == expected


def test_a_file_may_state_only_how_it_differs_from_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {kept_tokens: 5}\nbase: cub\n")
    (tmp_path / "yours.yaml").write_text("base: ./mine.yaml\nseed: 3\n")
    mine, yours = load_config(tmp_path / "mine.yaml"), load_config(tmp_path / "yours.yaml")
    assert changed_settings(load_config("cub"), mine) == {"model.kept_tokens": (96, 5)}
    assert changed_settings(mine, yours) == {"seed": (0, 3)}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base: ./a.yaml", r"a\.yaml, line 1: base: \./a\.yaml is based on this file"),
        ("seed: 0\nbase: ./b.yaml", r"b\.yaml, line 1: base: \./a\.yaml is based on this file"),
        ("seed: 0\nbase: cubs", r"a\.yaml, line 2: base: unknown recipe cubs; .* did you mean cub\?"),
        ("base: ablations/prob", r"base: unknown recipe ablations/prob; .* did you mean ablations/probe\?"),
        ("base: ./none.yaml", r"a\.yaml, line 1: base: cannot read the config .*none\.yaml"),
        ("base: cub\nbase: dogs", r"a\.yaml, line 2: base is given twice"),
        ("base:", r"a\.yaml, line 1: base must name a recipe, such as cub"),
        ("base: [cub]", r"a\.yaml, line 1: base must name a recipe, such as cub"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("base: ./a.yaml")
    with pytest.raises(ConfigError, match=line) as refusal:
        load_config(tmp_path / "a.yaml")
    assert "\n" not in str(refusal.value)


def test_another_base_takes_the_place_of_the_last_one() -> None:
    tuning = load_config("full-fine-tuning-from-features", base="vit_tiny")
    assert set(changed_settings(load_config("vit_tiny"), tuning)) == {
        *("model.kept_tokens", "model.prediction", "stage1.text_weight"),
        *("stage2.start", "stage2.epochs"),
    }
    with pytest.raises(ConfigError, match=r"cub names no base to replace by dogs; begin it with base: default"):
        load_config("cub", base="dogs")


@pytest.mark.parametrize("base", ["synthetic", "cub"])
@pytest.mark.parametrize("name", ablation_names())
def test_an_ablation_says_what_it_is_and_changes_that_on_any_base(name: str, base: str) -> None:
    changed = changed_settings(load_config(base), load_config(name, base=base))
    as_it_is = name == "ablations/full" or (name, base) == ("ablations/stage1-from-random", "synthetic")
    assert changed or as_it_is
    assert {setting.split(".")[0] for setting in changed} <= {"model", "stage1", "stage2"}
    assert recipe(name).read_text(encoding="utf-8").startswith("# ")


def test_settings_of_a_comparison_lie_below_what_an_ablation_says() -> None:
    settings = {"model.kept_tokens": 32, "stage1.epochs": 3, "seed": 4}
    plain = load_config("ablations/without-selection", below=settings, base="vit_tiny")
    assert (plain.model.kept_tokens, plain.stage1.epochs, plain.seed) == (None, 3, 4)
    assert load_config("cub", below=settings).model.kept_tokens == 32


@settings(deadline=None)
@given(ANY_TEXT)
@example("null")
@example("0123")
@example("[new]")
def test_a_text_setting_takes_the_word_as_it_was_typed(word: str) -> None:
    overrides = parse_overrides([f"--data.root={word}", "--model.supercategory", f"x{word}"])
    assert overrides == {"data.root": word, "model.supercategory": f"x{word}"}
    assert load_config(overrides=overrides).data.root == word


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--model.text_tower.pretrained", "null"], None),
        (["--model.supercategory", "null"], "null"),
        (["--model.image_tower.name", "null"], "null"),
        (["--model.kept_tokens", "null"], None),
        (["--model.kept_tokens", "+12"], 12),
        (["--data.root=--x"], "--x"),
        (["--compile"], True),
        (["--compile", "--seed=1"], True),
        (["--compile", "false"], False),
        (["--stage1.lr", "1e-3"], 0.001),
        (["--stage1.lr", ".5"], 0.5),
        (["--model.image_tower.image_size", "[48, 80]"], [48, 80]),
        (["--data.dataset", "cub"], "cub"),
    ],
)
def test_the_type_of_a_setting_decides_how_its_word_is_read(words: list[str], value: object) -> None:
    found = next(iter(parse_overrides(words).values()))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--compile=yes", "compile must be true or false, got yes"),
        ("--stage1.epochs=2.5", "stage1.epochs must be a whole number, got 2.5"),
        ("--stage1.epochs=010", "stage1.epochs must be a whole number, got 010"),
        ("--stage1.epochs=1_000", "stage1.epochs must be a whole number, got 1_000"),
        ("--stage1.epochs=٣", "stage1.epochs must be a whole number, got ٣"),
        ("--stage1.epochs=", "stage1.epochs must be a whole number, got nothing"),
        ("--stage1.lr=nan", "stage1.lr must be a number, got nan"),
        ("--stage1.lr=1e999", "stage1.lr must be a number, got inf"),
        ("--model.kept_tokens=None", "model.kept_tokens must be a whole number or null, got None"),
        (
            "--data.dataset=birds",
            "data.dataset must be one of cub, dogs, nabirds, food101, flowers102, folder, "
            "manifest, shards, synthetic, got birds",
        ),
        (
            "--model.image_tower.image_size=[48, x]",
            "model.image_tower.image_size must be a whole number or a list of whole numbers or null, got ",
        ),
        ("--data.root=", "data.root must not be empty or contain a NUL character; leave it out instead, got"),
        ("--data.root", "--data.root needs a value; a value that begins with -- is written --data.root=--value"),
        ("--data={root: x}", "data must hold settings of its own, got {root: x}"),
        ("--seed.x=4", "seed must be a whole number, got {'x': '4'}"),
        ("--data..root=x", "unknown setting data."),
        ("birds", "settings look like --model.kept_tokens 96, got birds"),
    ],
)
def test_a_word_that_does_not_fit_is_refused_by_its_setting(word: str, line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(overrides=parse_overrides([word]))
    assert str(refusal.value).startswith(line)


@pytest.mark.parametrize(
    ("written", "root"),
    [
        *((name, name) for name in ("2011", "on", "0123", "2001-01-01", "1e3", "true", "birds#2", "é")),
        ("'birds #2'", "birds #2"),
        *((null, None) for null in ("null", "~", "")),
        *((word, "null") for word in ('"null"', "!!str null")),
    ],
)
def test_a_text_setting_keeps_its_letters_in_a_file(tmp_path: Path, written: str, root: str | None) -> None:
    assert read(tmp_path, f"data:\n  root: {written}\n").data.root == root


@settings(deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back_from_a_written_config(folder: Path, text: str) -> None:
    config = load_config(overrides={"data.root": text, "model.image_tower.name": text})
    file = folder / "config.yaml"
    file.write_bytes(dump_config(config).encode())
    assert load_config(file) == config


@pytest.mark.parametrize("name", recipe_names())
def test_a_whole_recipe_comes_back_and_its_head_shows_it_by_name(tmp_path: Path, name: str) -> None:
    config = load_config(name, overrides={"stage1.lr": 1e-5, "model.image_tower.image_size": [48, 80]})
    assert read(tmp_path, dump_config(config)) == config
    assert f"--config {name} " in recipe(name).read_text(encoding="utf-8") or name == "synthetic"


def test_numbers_anchors_and_a_byte_order_mark_are_read_as_yaml_has_them(tmp_path: Path) -> None:
    stage = read(tmp_path, "\ufeffstage1: {lr: 1e-3, tower_lr: 1.0e-4, weight_decay: .5}").stage1
    assert (stage.lr, stage.tower_lr, stage.weight_decay) == (0.001, 0.0001, 0.5)
    both = read(tmp_path, "stage1: &both {epochs: 3, patience: 2}\nstage2: *both\n")
    assert (both.stage1.epochs, both.stage2.epochs, both.stage2.patience) == (3, 3, 2)
    assert read(tmp_path, "") == read(tmp_path, "# nothing\n") == Config()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nseed: 2\n", "line 2: seed is given twice; keep one of the two"),
        ("data:\n  root: a\n  test: 0.1\n  root: b\n", "line 4: data.root is given twice"),
        ("\nseed: x\n", "line 2: seed must be a whole number, got x"),
        ("seed: '3'\n", "line 1: seed must be a whole number, got 3"),
        ("seed: -1\n", "line 1: seed must be at least 0, got -1"),
        ("compile: yes\n", "line 1: compile must be true or false, got yes"),
        ("stage1: {lr: .nan}\n", "line 1: stage1.lr must be a number, got .nan"),
        ("stage1:\n  lrr: 1\n", "line 2: unknown setting stage1.lrr; did you mean stage1.lr?"),
        ("stage1:\n  accumulate: 5\n  batch_size: 8\n", "line 3: stage1.batch_size must be a multiple of"),
        ("data: [1]\n", "line 1: data must hold settings of its own, got a list"),
        ("data:\nseed: 1\n", "line 1: data must hold settings of its own, got nothing"),
        ("data:\n  root: [a]\n", "line 2: data.root must be text or null, got ['a']"),
        ("data:\n  root: {a: b}\n", "line 2: data.root must be a plain value"),
        ("seed: !!python/name:os.system 3\n", "line 1: seed must be a plain value"),
        ("data:\n  root: &a [*a]\n", "line 2: data.root must be a plain value"),
        ("data: &a {data: *a}\n", "line 1: data.data must be a plain value"),
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


def test_a_file_of_other_bytes_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"data: {root: caf\xe9}\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml is not valid YAML"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot read the config"):
        load_config(tmp_path)
