"""A recipe is found by its name, a file by its path, and a training without either has a default."""

from pathlib import Path

import pytest

from mpfgvc.config_io import default_recipe, load_config, recipe_names
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
    assert recipe_names() == ["clip", "cub", "dogs", "folder", "food101", "nabirds", "synthetic", "vit_tiny"]


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
