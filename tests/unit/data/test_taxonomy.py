"""A taxonomy is a tree; its levels, distances and branches are what a hand would find."""

import unicodedata

import numpy as np
import pytest

from mpfgvc.data.taxonomy import Taxonomy, classes_within, taxonomy_of_folders
from mpfgvc.errors import ConfigError, DataError

CLASSES = ("Western Gull", "California Gull", "Sooty Albatross", "Larus", "Least Tern")
GULLS = Taxonomy(
    levels=("genus", "family"),
    groups=(
        ("Larus", "Larus", "Phoebetria", "Odd", "Sternula"),
        ("Laridae", "Laridae", "Diomedeidae", "Laridae", "Laridae"),
    ),
)


def test_the_distance_is_the_level_where_two_classes_meet() -> None:
    assert [GULLS.distance(0, other) for other in range(5)] == [0, 1, 3, 2, 2]


def test_probabilities_of_groups_are_sums_over_their_classes() -> None:
    shares = np.array([[0.4, 0.3, 0.2, 0.1, 0.0], [0.0, 0.0, 0.5, 0.25, 0.25]])
    assert GULLS.groups_of(0) == ("Larus", "Phoebetria", "Odd", "Sternula")
    np.testing.assert_allclose(GULLS.probabilities(0, shares), [[0.7, 0.2, 0.1, 0.0], [0.0, 0.5, 0.25, 0.25]])
    np.testing.assert_allclose(GULLS.probabilities(1, shares), [[0.8, 0.2], [0.5, 0.5]])


def test_what_is_not_a_tree_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="Larus is in the family Laridae and in Alcidae"):
        Taxonomy(levels=("genus", "family"), groups=(("Larus", "Larus"), ("Laridae", "Alcidae")))
    with pytest.raises(DataError, match="names that differ, got class, class"):
        Taxonomy(levels=("class",), groups=(("a", "b"),))
    with pytest.raises(DataError, match="one group at each level"):
        Taxonomy(levels=("genus", "family"), groups=(("a", "b"), ("c",)))


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (("sooty_albatross",), [2]),
        (("family Laridae",), [0, 1, 3, 4]),
        (("genus larus", "Least Tern"), [0, 1, 4]),
        (("class Larus",), [3]),
        ((), []),
    ],
)
def test_a_branch_is_a_class_or_a_group_with_or_without_its_level(words: tuple[str, ...], labels: list[int]) -> None:
    assert np.flatnonzero(classes_within(words, CLASSES, GULLS)).tolist() == labels


def test_a_name_fits_in_whichever_unicode_form_it_is_written() -> None:
    classes = [unicodedata.normalize("NFD", "Zaunkönig"), "Zilpzalp"]
    assert classes_within([unicodedata.normalize("NFC", "zaunkönig")], classes, None).tolist() == [True, False]
    assert classes_within([classes[0]], ["Zaunkönig", "Zilpzalp"], None).tolist() == [True, False]


def test_a_name_that_means_two_things_or_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="name of a class and of a genus; write 'class Larus' or 'genus Larus'"):
        classes_within(("Larus",), CLASSES, GULLS)
    with pytest.raises(ConfigError, match="or a group of genus, family, such as Western Gull, got 'Corvus'"):
        classes_within(("Corvus",), CLASSES, GULLS)
    with pytest.raises(ConfigError, match="this model has no taxonomy"):
        classes_within(("genus Larus",), CLASSES, None)


def test_a_name_of_two_levels_with_the_same_classes_is_clear() -> None:
    one = Taxonomy(levels=("genus", "family"), groups=(("A", "B", "B"), ("A", "C", "C")))
    assert np.flatnonzero(classes_within(("A",), ("x", "y", "z"), one)).tolist() == [0]


def test_nested_folders_give_levels_and_shorter_paths_are_filled_with_the_class() -> None:
    tree = taxonomy_of_folders([("Corvidae", "Corvus", "Raven"), ("Corvidae", "Jay"), ("Wren",)])
    assert tree == Taxonomy(
        levels=("level 2", "level 1"), groups=(("Corvus", "Jay", "Wren"), ("Corvidae", "Corvidae", "Wren"))
    )
    assert taxonomy_of_folders([("Raven",), ("Wren",)]) is None
