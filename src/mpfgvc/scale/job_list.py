"""The names of a job's photographs, in a Parquet file of which each row group is a part.

Who computes a part reads its names alone, and nothing is sent to it: millions of names cost a worker the
footer of a file. Names are bytes, as those of files need not be UTF-8.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from mpfgvc.data.remote import is_url
from mpfgvc.errors import DataError, one_line
from mpfgvc.files import new_file, pyarrow_for

NAME = "name"
_WHAT = "the results of a job"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many photographs, and the digest of where they are, one after the other."""

    photographs: int
    digest: str


class PhotoList:
    """The list in a file, part by part."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def names(self, part: int) -> list[str]:
        """The names of a part. Raises DataError for a list that cannot be read."""
        try:
            cells = self._parquet.read_row_group(part)[NAME].to_pylist()
        except (OSError, ValueError, IndexError) as error:  # pyarrow's errors are ValueErrors
            raise DataError(f"cannot read {self.file}: {one_line(error)}; begin the job anew") from None
        return [os.fsdecode(cell) for cell in cells]

    @cached_property
    def _parquet(self) -> Any:
        return pyarrow_for(_WHAT).parquet.ParquetFile(self.file)


def write_names(file: Path, names: Iterable[str], *, base: Path, part_size: int) -> Counted:
    """Write the list of a job in one step, in bounded memory. Raises DataError for no names, OutputError."""
    arrow = pyarrow_for(_WHAT)
    schema = arrow.schema({NAME: arrow.binary()})
    tally = _Tally(base)
    counted = tally.passing(names)
    with new_file(file) as part, arrow.parquet.ParquetWriter(part, schema) as writer:
        while rows := [os.fsencode(name) for name in islice(counted, part_size)]:
            writer.write_table(arrow.table({NAME: rows}, schema=schema), row_group_size=part_size)
        return tally.counted()


def count_names(names: Iterable[str], *, base: Path) -> Counted:
    """What `write_names` returns, without writing."""
    tally = _Tally(base)
    for _ in tally.passing(names):
        pass
    return tally.counted()


class _Tally:
    """Counts names and digests the places that they mean, as they pass."""

    def __init__(self, base: Path) -> None:
        self.base, self.count, self.digest = str(base), 0, hashlib.sha256()

    def passing(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            place = name if is_url(name) else os.path.join(self.base, name)  # noqa: PTH118
            self.digest.update(os.fsencode(place) + b"\0")
            self.count += 1
            yield name

    def counted(self) -> Counted:
        if not self.count:
            raise DataError("there are no photographs; name files, folders, globs or tables")
        return Counted(photographs=self.count, digest=self.digest.hexdigest())
