"""Read the lists that a dataset keeps in MATLAB 5.0 files, and say exactly what is wrong with one.

Needs scipy, the extra `matlab`. What MATLAB writes is odd in two ways: a list is a matrix with
one row or one column, and whole numbers may be stored as floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfgvc.errors import DataError

Variable = NDArray[Any]
"""A variable of a MATLAB file, flat: numbers, or cells that `cell_text` unwraps."""


def read_variables(index: Path, names: tuple[str, ...], *, dataset: str, layout: str) -> list[Variable]:
    """The variables of these names, each flat, in that order.

    `dataset` is what people call it, `layout` what data.root must hold. Raises DataError for a file that
    is missing or cannot be read, for a variable that is missing, and without scipy.
    """
    content = _load(index, dataset, layout)
    for name in names:
        if name not in content:
            held = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
            raise DataError(f"{index} must hold {held}, {name} is missing; download the lists again")
    return [np.ravel(content[name]) for name in names]


def whole_numbers(values: Variable, index: Path, what: str) -> list[int]:
    """Whole numbers, which MATLAB may store as floats. `what` ends "the file must ...", for a refusal."""
    return [_whole(value, index, what) for value in values]


def cell_text(cell: object) -> str:
    """The text in a cell, through the one-element arrays that scipy wraps around it."""
    while isinstance(cell, np.ndarray):
        cell = np.ravel(cell)[0] if cell.size else ""
    return str(cell)


def _load(index: Path, dataset: str, layout: str) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f"{dataset} needs scipy to read its lists: pip install 'mpfgvc[matlab]'") from None
    try:
        with index.open("rb") as file:
            return dict(loadmat(file))
    except FileNotFoundError:
        raise DataError(f"{index} does not exist; data.root must hold {layout}") from None
    except PermissionError as error:
        raise DataError(f"cannot read {index}: {error.strerror}; check the file's permissions") from None
    except Exception:  # a broken file leaves scipy as almost any exception
        raise DataError(f"{index} is not a readable MATLAB file; download the lists again") from None


def _whole(number: object, index: Path, what: str) -> int:
    value = float(number) if isinstance(number, np.integer | np.floating) else float("nan")
    if not value.is_integer():
        raise DataError(f"{index} must {what} whole numbers, got {number}; download the lists again")
    return int(value)
