"""What a bird looks like: fourteen attributes, words for them, and the benchmark's classes.

A class is one combination of values. `PARTS_OF` names the parts of the body that an attribute shows on, so
the parts that tell two birds apart follow from the attributes in which they differ.

The classes are families of birds. Each family starts from a random combination; each further member changes
one or two attributes of an earlier one. So every class has a neighbour from which a small part of the picture
tells it apart; only where a list ends after the first of a family, that one stands alone. Class 7 of 30 is
class 7 of 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal, get_args, get_type_hints

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Plumage:
    """One combination of attributes. The fields are the attributes, their types the values."""

    beak_shape: Literal["conical", "thin", "long", "hooked"]
    beak_color: Literal["black", "orange", "yellow", "red"]
    crown: Literal["black", "red", "yellow", "white", "blue"]
    face: Literal["plain", "eyebrow", "mask"]
    eye_ring: Literal["none", "white", "yellow"]
    throat: Literal["white", "black", "red", "yellow"]
    back: Literal["brown", "gray", "blue", "green", "black"]
    wing: Literal["brown", "gray", "blue", "black"]
    wing_bars: Literal["none", "one", "two"]
    belly: Literal["white", "yellow", "orange", "gray"]
    breast: Literal["plain", "spotted", "streaked", "banded"]
    tail_shape: Literal["square", "forked", "pointed", "fan"]
    tail_tip: Literal["plain", "white", "yellow"]
    legs: Literal["black", "orange", "pink", "blue"]


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    field.name: get_args(get_type_hints(Plumage)[field.name]) for field in fields(Plumage)
}
"""The values of each attribute, in a fixed order."""

PARTS_OF: dict[str, tuple[str, ...]] = {
    "beak_shape": ("beak",),
    "beak_color": ("beak",),
    "crown": ("crown",),
    "face": ("face",),
    "eye_ring": ("eye",),
    "throat": ("throat",),
    "back": ("back", "face", "eye"),
    "wing": ("wing", "tail", "wing bars", "tail tip"),
    "wing_bars": ("wing bars",),
    "belly": ("belly", "breast"),
    "breast": ("breast",),
    "tail_shape": ("tail", "tail tip"),
    "tail_tip": ("tail tip",),
    "legs": ("legs",),
}
"""The parts of the body that each attribute can show on: a face without a mark has the colour of the back."""

PARTS: tuple[str, ...] = tuple(dict.fromkeys(part for parts in PARTS_OF.values() for part in parts))
"""The parts; a region map holds 1 + the index of a part, 0 for anything else."""

_PHRASES = {
    "beak_shape": "a {} beak",
    "beak_color": "{a} {} bill",
    "crown": "a {} crown",
    "throat": "a {} throat",
    "back": "a {} back",
    "wing": "{} wings",
    "belly": "{a} {} belly",
    "breast": "a {} breast",
    "tail_shape": "a {} tail",
    "legs": "{} legs",
}
_WORDS = {
    "face": {"plain": "a plain face", "eyebrow": "a white eyebrow", "mask": "a dark mask"},
    "eye_ring": {"none": "no eye ring", "white": "a white eye ring", "yellow": "a yellow eye ring"},
    "wing_bars": {"none": "no wing bars", "one": "one wing bar", "two": "two wing bars"},
    "tail_tip": {"plain": "a plain tail tip", "white": "a white tail tip", "yellow": "a yellow tail tip"},
}

MOST_SPECIES = 200
_FAMILY_SIZE = 5
_SEED = 2309_08912  # the paper's number; not a setting, or two benchmarks would not compare
_MEMBERS = ("Common", "Northern", "Island", "Mountain", "Lesser")
_FAMILIES = """
    Thornbill Reedling Sunchat Marshfinch Bluetail Fernlark Oakwren Duskling Brightwing Hedgepipit
    Sandcreeper Mistbunting Rockchat Glowthroat Willowtit Pinetanager Stonewarbler Cliffmartin Barkhopper
    Meadowquill Moorcap Riverthrush Heathgrosbeak Snowsiskin Emberfinch Brooklark Leafgleaner Thicketvireo
    Gorsebird Streamdipper Orchardjay Valleyredstart Tideplover Forestpitta Dunewheatear Plainlongspur
    Canyonswift Ridgenuthatch Hollowowlet Lakewagtail
""".split()  # noqa: SIM905 (a list of forty would fill the screen)


def plumage_of(values: Mapping[str, str]) -> Plumage:
    """The combination of these values. Raises TypeError for an attribute too many or too few."""
    return Plumage(**values)  # type: ignore[arg-type]


def phrase(attribute: str, value: str) -> str:
    """A few words for one value: `a red crown`, `two wing bars`."""
    if attribute in _WORDS:
        return _WORDS[attribute][value]
    article = "an" if value[0] in "aeiou" else "a"
    return _PHRASES[attribute].format(value, a=article)


def caption(plumage: Plumage, attributes: tuple[str, ...] = tuple(ATTRIBUTES)) -> str:
    """One sentence about some attributes of a bird, in the order given."""
    phrases = [phrase(name, getattr(plumage, name)) for name in attributes]
    return "a bird with " + ", ".join(phrases)


def differences(first: Plumage, second: Plumage) -> tuple[str, ...]:
    """The attributes in which two birds differ."""
    return tuple(name for name in ATTRIBUTES if getattr(first, name) != getattr(second, name))


@dataclass(frozen=True, kw_only=True)
class Species:
    """A class of the benchmark. `neighbour` is the index of the class that is most like it."""

    index: int
    name: str
    plumage: Plumage
    neighbour: int
    differing: tuple[str, ...]
    """The attributes in which it differs from its neighbour."""


@cache
def all_species(count: int = MOST_SPECIES) -> tuple[Species, ...]:
    """The first `count` classes; neighbours are sought among these."""
    plumages = _plumages()[:count]
    return tuple(_species(index, plumages) for index in range(count))


def random_plumage(generator: np.random.Generator) -> Plumage:
    """Any combination, each value equally likely."""
    return plumage_of({name: str(generator.choice(values)) for name, values in ATTRIBUTES.items()})


@cache
def _plumages() -> tuple[Plumage, ...]:
    generator = np.random.default_rng(_SEED)
    found: list[Plumage] = []
    while len(found) < MOST_SPECIES:
        family = [random_plumage(generator)]
        while len(family) < _FAMILY_SIZE:
            parent = family[int(generator.integers(len(family)))]
            child = _changed(parent, int(generator.integers(1, 3)), generator)
            if child not in family:
                family.append(child)
        found.extend(family)
    return tuple(found)


def _changed(plumage: Plumage, count: int, generator: np.random.Generator) -> Plumage:
    """The same bird with `count` attributes changed."""
    values = dict(vars(plumage))
    for name in generator.choice(list(ATTRIBUTES), size=count, replace=False):
        others = [value for value in ATTRIBUTES[name] if value != getattr(plumage, name)]
        values[str(name)] = str(generator.choice(others))
    return plumage_of(values)


def _species(index: int, plumages: tuple[Plumage, ...]) -> Species:
    others = [other for other in range(len(plumages)) if other != index]
    neighbour = min(others, key=lambda other: len(differences(plumages[index], plumages[other])))
    family, member = divmod(index, _FAMILY_SIZE)
    return Species(
        index=index,
        name=f"{_MEMBERS[member]} {_FAMILIES[family]}",
        plumage=plumages[index],
        neighbour=neighbour,
        differing=differences(plumages[index], plumages[neighbour]),
    )
