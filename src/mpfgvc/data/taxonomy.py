"""The tree above the classes: genus, family, order; no torch.

A level is a way to put all classes into groups, and each level joins whole groups of the one below it. So
the groups of a class are its path to the root, and the distance of a mistake is how far up that path the two
classes meet (Bertinetto et al., "Making Better Mistakes", CVPR 2020): 0 for the right class, 1 for another
of the same genus, and one more than there are levels for two that never meet. `taxonomy_file.py` reads it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.names import composed
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.terms import CLASS as CLASS


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Levels above the classes, finest first, and for each level the group of every class.

    Raises DataError for levels that are not a tree.
    """

    levels: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    """groups[level][label]: the group of a class at a level."""

    def __post_init__(self) -> None:
        names = (CLASS, *self.levels)
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise DataError(f"levels of a taxonomy must have names that differ, got {', '.join(names)}")
        if len(self.groups) != len(self.levels) or len({len(groups) for groups in self.groups}) > 1:
            raise DataError("a taxonomy must give every class one group at each level")
        for level, below, above in zip(self.levels[1:], self.groups, self.groups[1:], strict=False):
            _refuse_torn(level, below, above)

    @property
    def names(self) -> tuple[str, ...]:
        """The levels with that of the classes, finest first."""
        return (CLASS, *self.levels)

    def members(self, level: int) -> NDArray[np.int64]:
        """For each class the number of its group at a level of `levels`, groups in order of appearance."""
        number = {group: index for index, group in enumerate(self.groups_of(level))}
        return np.array([number[group] for group in self.groups[level]], dtype=np.int64)

    def groups_of(self, level: int) -> tuple[str, ...]:
        """The groups of a level, in order of appearance."""
        return tuple(dict.fromkeys(self.groups[level]))

    def probabilities(self, level: int, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Those of the groups at a level: the sum over their classes. (batch, classes) -> (batch, groups)"""
        members = self.members(level)
        one_hot = np.zeros((len(members), members.max() + 1))
        one_hot[np.arange(len(members)), members] = 1
        summed: NDArray[np.float64] = probabilities @ one_hot
        return summed

    def distance(self, first: int, second: int) -> int:
        """How many levels up two classes meet; 0 for the same class."""
        if first == second:
            return 0
        for height, groups in enumerate(self.groups, start=1):
            if groups[first] == groups[second]:
                return height
        return len(self.levels) + 1

    def of(self, labels: Sequence[int]) -> "Taxonomy":
        """The same for some of the classes, in the order of `labels`."""
        return Taxonomy(
            levels=self.levels, groups=tuple(tuple(groups[label] for label in labels) for groups in self.groups)
        )


def check_taxonomy(taxonomy: Taxonomy | None, classes: Sequence[str]) -> None:
    """Raise DataError for a taxonomy of other classes."""
    if taxonomy is not None and (not taxonomy.groups or len(taxonomy.groups[0]) != len(classes)):
        raise DataError(f"taxonomy must give a group to each of the {len(classes)} classes")


def classes_within(branches: Sequence[str], classes: Sequence[str], taxonomy: Taxonomy | None) -> NDArray[np.bool_]:
    """Which classes the words of `within` name: a class, a group (`Larus`), or `genus Larus`.

    Capitals do not count. Raises ConfigError for a word that names nothing, or groups of two levels.
    """
    within = np.zeros(len(classes), dtype=bool)
    for branch in branches:
        within |= _branch(branch, classes, taxonomy)
    return within


def taxonomy_of_folders(paths: Sequence[Sequence[str]]) -> Taxonomy | None:
    """The tree above class folders, each given by the folders that lead to it and its own name last.

    None if no folder stands above any of them. A class that has fewer folders above it than
    others is a group of its own on the levels between.
    """
    depth = max(map(len, paths)) - 1
    if depth < 1:
        return None
    whole = [filled(path[:-1], path[-1], depth) for path in paths]
    levels = tuple(f"level {index}" for index in range(depth, 0, -1))
    groups = tuple(tuple(path[index - 1] for path in whole) for index in range(depth, 0, -1))
    return Taxonomy(levels=levels, groups=groups)


def filled(groups: Sequence[str], name: str, depth: int) -> list[str]:
    """A path of the full depth: the class itself stands in for the levels that it does not have."""
    return [*groups] + [name] * (depth - len(groups))


def _branch(branch: str, classes: Sequence[str], taxonomy: Taxonomy | None) -> NDArray[np.bool_]:
    wanted = _folded(branch)
    named: dict[str, NDArray[np.bool_]] = {}
    levels = [(CLASS, tuple(classes))]
    if taxonomy is not None:
        levels += zip(taxonomy.levels, taxonomy.groups, strict=True)
    for level, groups in levels:
        is_named = np.array([_folded(group) == wanted for group in groups])
        if not is_named.any():
            is_named = np.array([_folded(f"{level} {group}") == wanted for group in groups])
        if is_named.any():
            named[level] = is_named
    if not named:
        what = "a class" if taxonomy is None else f"a class, or a group of {', '.join(taxonomy.levels)}"
        hint = " (this model has no taxonomy)" if taxonomy is None else ""
        raise ConfigError(f"within must name {what}, such as {classes[0]}, got {branch!r:.80}{hint}")
    found = list(named.values())
    if any((groups != found[0]).any() for groups in found):
        hint = " or ".join(f"'{level} {branch}'" for level in named)
        raise ConfigError(f"within {branch!r:.80} is the name of a {' and of a '.join(named)}; write {hint}")
    return found[0]


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", " ", composed(name)).strip().casefold()


def _refuse_torn(level: str, below: Sequence[str], above: Sequence[str]) -> None:
    """Refuse a group of the finer level that is in two groups of the coarser one."""
    parent: dict[str, str] = {}
    for group, whole in zip(below, above, strict=True):
        if parent.setdefault(group, whole) != whole:
            rule = f"{group} is in the {level} {parent[group]} and in {whole}"
            raise DataError(f"a taxonomy must be a tree, but {rule}; correct one of the rows")
