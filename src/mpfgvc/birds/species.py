"""The benchmark's classes: families of birds whose members differ in one or two attributes.

Each family starts from a random combination; each further member changes one
or two attributes of an earlier one. So every class has a neighbour from which
a small part of the picture tells it apart; only where a list ends after the
first of a family, that one stands alone. Class 7 of 30 is class 7 of 200.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mpfgvc.birds.plumage import ATTRIBUTES, PARTS_OF, Plumage, differences, plumage_of

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


@dataclass(frozen=True, kw_only=True)
class Species:
    """A class of the benchmark. `neighbour` is the index of the class that is most like it."""

    index: int
    name: str
    plumage: Plumage
    neighbour: int
    differing: tuple[str, ...]
    """The attributes in which it differs from its neighbour."""

    @property
    def differing_parts(self) -> tuple[str, ...]:
        """The parts of the body that tell it from its neighbour."""
        return tuple(dict.fromkeys(part for name in self.differing for part in PARTS_OF[name]))


@cache
def all_species(count: int = MOST_SPECIES) -> tuple[Species, ...]:
    """The first `count` classes; neighbours are sought among these."""
    plumages = _plumages()[:count]
    return tuple(_species(index, plumages) for index in range(count))


@cache
def benchmark_plumages() -> frozenset[Plumage]:
    """Every combination that is a class; the bundled towers never saw one."""
    return frozenset(_plumages())


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
