"""A recipe is found by its name, a file by its path, and a training without either has a default."""

from pathlib import Path

import pytest

from mpfgvc.config import Config
from mpfgvc.config_io import (
    ablation_names,
    changed_settings,
    default_recipe,
    load_ablation,
    load_config,
    recipe,
    recipe_names,
)
from mpfgvc.errors import ConfigError


def test_a_recipe_is_named_without_a_path_and_overrides_go_on_top() -> None:
    config = load_config("cub", overrides={"model.kept_tokens": 12})
    assert (config.data.dataset, config.model.kept_tokens) == ("cub", 12)


def test_the_recipe_wins_over_a_file_of_its_name_which_is_given_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cub").write_text("seed: 7")
    (tmp_path / "mine.yml").write_text("seed: 8")
    monkeypatch.chdir(tmp_path)
    assert load_config("cub").data.dataset == "cub"
    assert [load_config(source).seed for source in ("./cub", Path("cub"), "mine.yml")] == [7, 7, 8]


def test_an_unknown_recipe_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config("cubs")
    assert str(refusal.value) == (
        f"unknown recipe cubs; there are {', '.join(recipe_names())}; did you mean cub?"
    )
    with pytest.raises(ConfigError, match=r"a file needs a path, such as \./zzz"):
        load_config("zzz")


def test_the_recipes_are_those_of_the_package() -> None:
    assert recipe_names() == [
        "clip",
        "cub",
        "dogs",
        "flowers102",
        "folder",
        "food101",
        "nabirds",
        "synthetic",
        "vit_tiny",
    ]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "synthetic"),
        ({"seed": 3}, "synthetic"),
        ({"data.birds.species": 4}, "synthetic"),
        ({"data.dataset": "synthetic"}, "synthetic"),
        ({"data.root": None}, "folder"),
        ({"data.root": "x"}, "folder"),
        ({"data.manifest": "x.csv"}, "folder"),
        ({"data.dataset": "cub"}, "folder"),
    ],
)
def test_a_training_takes_folder_for_named_data_else_synthetic(
    overrides: dict[str, object], name: str
) -> None:
    assert default_recipe(overrides) == name


def test_a_file_may_state_only_how_it_differs_from_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: {kept_tokens: 5}\nbase: cub\n")
    (tmp_path / "yours.yaml").write_text("base: ./mine.yaml\nseed: 3\n")
    mine, yours = load_config(tmp_path / "mine.yaml"), load_config(tmp_path / "yours.yaml")
    assert changed_settings(load_config("cub"), mine) == {
        "model.kept_tokens": (load_config("cub").model.kept_tokens, 5)
    }
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


def test_the_default_base_is_what_a_training_without_a_recipe_has() -> None:
    assert load_config("ablations/full") == load_config("synthetic")
    photos = {"data.root": "photos"}
    assert load_config("ablations/full", overrides=photos) == load_config("folder", overrides=photos)


def test_an_ablation_can_be_named_without_its_folder() -> None:
    assert load_config("frozen", base="vit_tiny") == load_config("ablations/frozen", base="vit_tiny")
    with pytest.raises(ConfigError, match=r"unknown recipe frozenn; there are clip, .*did you mean frozen\?"):
        load_config("frozenn")


def test_another_base_takes_the_place_of_the_last_one() -> None:
    probe = load_config("ablations/full-fine-tuning-from-features", base="vit_tiny")
    assert set(changed_settings(load_config("vit_tiny"), probe)) == {
        *("model.kept_tokens", "model.prediction", "stage1.text_weight"),
        *("stage2.start", "stage2.epochs"),
    }
    with pytest.raises(ConfigError, match=r"cub states all its settings and has no base to replace by dogs"):
        load_config("cub", base="dogs")


@pytest.mark.parametrize("base", ["vit_tiny", "synthetic", "cub", "folder"])
@pytest.mark.parametrize("name", ablation_names())
def test_an_ablation_loads_on_any_base_and_does_what_it_says(name: str, base: str) -> None:
    ablation, method = load_config(name, base=base), load_config(base)
    changed = changed_settings(method, ablation)
    nothing = {"ablations/full", "ablations/without-descriptions"}
    as_it_is = name == "ablations/stage1-from-noise" and base == "synthetic"
    assert changed or name in nothing or as_it_is
    assert {setting.split(".")[0] for setting in changed} <= {"model", "stage1", "stage2"}, (
        "data are the base's"
    )


def test_an_ablation_changes_what_its_name_says() -> None:
    def of(name: str) -> Config:
        return load_config(f"ablations/{name}", base="vit_tiny")

    assert of("without-selection").model.kept_tokens is None
    assert (of("random-patches").model.selection, of("rollout-patches").model.selection) == (
        "random",
        "rollout",
    )
    for name, epochs in (("probe", 0), ("full-fine-tuning", 4), ("without-text", 4)):
        config = of(name)
        assert (config.model.prediction, config.stage1.sources) == ("vision", ("vision",))
        assert (config.stage1.epochs, config.stage2.epochs) == (epochs, 0)
    assert [of(name).stage1.start for name in ("probe", "full-fine-tuning")] == ["features", "noise"]
    coop, zero_shot = of("coop"), of("zero-shot")
    assert (coop.stage1.tower_lr, coop.stage1.sources, coop.model.prediction) == (0, ("text",), "text")
    assert (zero_shot.stage1.epochs, zero_shot.stage2.epochs, zero_shot.model.prediction) == (0, 0, "text")
    assert (of("frozen").stage1.epochs, of("frozen").stage2.epochs) == (0, 20)


def test_settings_of_a_comparison_lie_below_what_an_ablation_says(tmp_path: Path) -> None:
    settings = {"model.kept_tokens": 32, "stage1.epochs": 3, "seed": 4}
    plain = load_ablation("ablations/without-selection", settings=settings, base="vit_tiny")
    assert (plain.model.kept_tokens, plain.stage1.epochs, plain.seed) == (None, 3, 4)
    frozen = load_ablation("ablations/frozen", settings=settings, base="vit_tiny")
    assert (frozen.model.kept_tokens, frozen.stage1.epochs) == (32, 0)
    assert load_ablation("cub", settings=settings).model.kept_tokens == 32


@pytest.mark.parametrize("name", ablation_names())
def test_an_ablation_is_short_and_says_what_it_is(name: str) -> None:
    lines = recipe(name).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= 12
    assert sum(line.startswith("base: ") for line in lines) == 1
