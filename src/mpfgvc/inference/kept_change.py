"""Which kept patches two photographs share: of the same place at two times, or before and after an edit.

Patches are compared by their place in the grid, so the photographs should show the same scene.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import ConfigError
from mpfgvc.inference.explain import Explanation

Place = tuple[int, int]
"""(row, column) of a patch in the grid."""


@dataclass(frozen=True, kw_only=True)
class KeptChange:
    """The kept patches of two photographs, each kind in reading order."""

    both: list[Place]
    only_first: list[Place]
    only_second: list[Place]

    def to_dict(self) -> dict[str, Any]:
        """The entry `changed` of the document of `mpfgvc explain --changes --json`."""
        return {"both": self.both, "only_first": self.only_first, "only_second": self.only_second}


def kept_change(first: Explanation, second: Explanation) -> KeptChange:
    """What changed from the first photograph to the second. Raises ConfigError for grids that differ."""
    one, other = first.kept_mask, second.kept_mask
    if one.shape != other.shape:
        raise ConfigError("the two explanations are of models with different grids of patches")
    return KeptChange(
        both=_places(one & other), only_first=_places(one & ~other), only_second=_places(other & ~one)
    )


def _places(mask: NDArray[np.bool_]) -> list[Place]:
    return [(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)]
