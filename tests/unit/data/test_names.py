"""How classes are named."""

import pytest

from mpfgvc.data.names import (
    bird_name,
    breed_name,
    capitals_notes,
    dish_name,
    look,
    nabird_name,
    refuse_lookalikes,
    similar_names,
)
from mpfgvc.errors import DataError


@pytest.mark.parametrize(
    ("tidy", "written", "read"),
    [
        (bird_name, "001.Black_footed_Albatross", "Black footed Albatross"),
        (nabird_name, "Swainson's Hawk  (Dark morph )", "Swainson's Hawk (Dark morph)"),
        (dish_name, "apple_pie", "apple pie"),
        (breed_name, "n02085782-Japanese_spaniel", "Japanese spaniel"),
        (breed_name, "mixed", "mixed"),
    ],
)
def test_names_of_official_datasets_become_words(tidy, written, read):
    assert tidy(written) == read


@pytest.mark.parametrize("twin", ["Cafe\u0301", "Caf\u00e9 ", "Caf\u00e9\u200b"])
def test_names_that_look_the_same_are_refused_and_spelled_out(twin):
    assert look(twin) == "Caf\u00e9"
    with pytest.raises(DataError) as refusal:
        refuse_lookalikes("menu", ["tea", "Caf\u00e9", twin])
    assert f"menu: class names must look different, got 'Caf\\xe9' and {twin!a}" in str(refusal.value)


def test_names_that_differ_only_in_capitals_are_noted():
    names = ["Tern", "auk", "tern", "gull"]
    refuse_lookalikes("birds", names)
    assert capitals_notes(names) == ("classes that differ only in capitals: Tern, tern",)
    assert capitals_notes(["a", "b"]) == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Crow", "crow"),
        ("Crow", "crows"),
        ("café au lait", "Cafe-au-lait"),
        ("blue jay", "Blue_Jay"),
        ("bluejay", "blue jay"),
        ("berry", "berries"),
        ("finch", "finches"),
    ],
)
def test_names_that_may_mean_one_class_are_similar(first, second):
    assert similar_names([first, "wren", second]) == ((first, second),)


def test_other_names_are_not_similar(metadata):
    assert similar_names(["iris", "iri", "class 1", "class 11", "bass", "bas", "!", "?"]) == ()
    lines = (metadata / "nabirds" / "classes.txt").read_text().splitlines()
    names = dict.fromkeys(line.split(" ", 1)[1] for line in lines)
    assert similar_names(list(names)) == (("Bushtits", "Bushtit"),)  # a family and its one species
