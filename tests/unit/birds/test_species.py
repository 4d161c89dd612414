"""The classes are distinct, and each has a neighbour from which little tells it apart."""

import numpy as np
import pytest

from mpfgvc.birds.plumage import ATTRIBUTES, all_species, caption, differences, phrase, random_plumage


def test_two_hundred_classes_have_names_and_plumages_of_their_own() -> None:
    species = all_species()
    assert len(species) == len({kind.name for kind in species}) == len({kind.plumage for kind in species}) == 200


@pytest.mark.parametrize("count", [30, 200])
def test_a_class_differs_from_its_neighbour_in_one_or_two_attributes(count: int) -> None:
    for kind in all_species(count):
        differing = differences(kind.plumage, all_species(count)[kind.neighbour].plumage)
        assert differing == kind.differing
        assert 1 <= len(differing) <= 2


def test_the_first_classes_are_the_same_however_many_there_are() -> None:
    few, many = all_species(30), all_species(200)
    assert [kind.plumage for kind in few] == [kind.plumage for kind in many[:30]]
    assert [kind.name for kind in few] == [kind.name for kind in many[:30]]


def test_every_attribute_tells_some_class_from_its_neighbour() -> None:
    assert {name for kind in all_species() for name in kind.differing} == set(ATTRIBUTES)


def test_random_birds_take_every_value_equally_often() -> None:
    generator = np.random.default_rng(3)
    birds = [random_plumage(generator) for _ in range(2000)]
    for name, values in ATTRIBUTES.items():
        shares = [sum(getattr(bird, name) == value for bird in birds) / 2000 for value in values]
        assert shares == pytest.approx([1 / len(values)] * len(values), abs=0.05)


def test_a_caption_says_the_value_of_each_attribute_asked_for() -> None:
    plumage = all_species()[0].plumage
    assert caption(plumage, ("crown", "wing_bars", "belly")) == (
        "a bird with a red crown, one wing bar, an orange belly"
    )
    assert len({phrase(name, value) for name, values in ATTRIBUTES.items() for value in values}) == sum(
        map(len, ATTRIBUTES.values())
    )
