"""The samples of packed shards, made from the mapped index one by one: nothing of them stays in memory.

What a table keeps is one number for every CHUNK photographs and split, and the names of the shards. So a
dataset of 100 million photographs takes a process some ten megabytes, a loader process as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mpfgvc.data.samples import CHUNK, Labels, Sample, SampleTable, Split, chunks
from mpfgvc.data.shard_index import ROWS, SPLITS, Layout, ShardSample, map_index, member_name
from mpfgvc.data.tars import Member, inside, tar_of

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardTable(SampleTable):
    """The photographs of an index, or those of one split, in its order.

    Pickled, it is the paths of its files and the splits that are not on the disk.
    """

    folder: Path
    """Where the shards are."""
    layout: Layout
    file: Path
    """The file with the rows of the layout."""
    splits: NDArray[np.uint8] | None = field(default=None, repr=False)
    """Other splits than those of the index: for each row a place in SPLITS."""
    split: Split | None = None
    """The only split that it shows; None for all."""

    def __len__(self) -> int:
        return len(self.rows) if self._members is None else len(self._members)

    @overload
    def __getitem__(self, place: int) -> ShardSample: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[ShardSample, ...]: ...
    def __getitem__(self, place: int | slice) -> ShardSample | tuple[ShardSample, ...]:
        if isinstance(place, slice):
            return tuple(self._made(self.rows_at(range(*place.indices(len(self))))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        (sample,) = self._made(self.rows_at([place % len(self)]))
        return sample

    def __iter__(self) -> Iterator[ShardSample]:
        for places in chunks(len(self)):
            yield from self._made(self.rows_at(places))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """The rows of the index, mapped."""
        return map_index(self.file, self.layout)

    @property
    def split_codes(self) -> NDArray[np.uint8]:
        """The split of each row, as a place in SPLITS."""
        codes: NDArray[np.uint8] = self.rows["split"] if self.splits is None else self.splits
        return codes

    @property
    def has_digests(self) -> bool:
        """Whether the index says the digest of each photograph; those of the first format do not."""
        return "digest" in (ROWS[self.layout.format].names or ())

    def subset(self, split: Split) -> ShardTable:
        """The photographs of one split, in their order."""
        if split not in self._subsets:
            self._subsets[split] = replace(self, split=split)
        return self._subsets[split]

    def moved(self, places: Places, split: Split) -> ShardTable:
        """The photographs of the whole dataset, those at `places` of this table in another split."""
        codes = self.split_codes.copy()
        codes[self.rows_at(places)] = SPLITS.index(split)
        return replace(self, splits=codes, split=None)

    def labels_at(self, places: Sequence[int]) -> Labels:
        """The labels of the photographs at these places."""
        return self.rows["label"][self.rows_at(places)].astype(np.int64)

    def names_at(self, places: range) -> list[str]:
        """The paths of the photographs at these places, below the folder."""
        rows = self.rows[self.rows_at(places)]
        columns = (rows[name].tolist() for name in ("shard", "number", "suffix"))
        return [self._name(*values) for values in zip(*columns, strict=True)]

    def contents(self) -> Iterator[NDArray[np.void]]:
        """The rows of all photographs with the splits of this table, CHUNK at a time."""
        for part in chunks(len(self.rows)):
            rows = self.rows[part.start : part.stop].copy()
            rows["split"] = self.split_codes[part.start : part.stop]
            yield rows

    def _made(self, places: Places) -> Iterator[ShardSample]:
        rows, codes = self.rows[places], self.split_codes[places].tolist()
        columns = (rows[name].tolist() for name in ("shard", "number", "suffix", "label", "offset", "size"))
        digests = rows["digest"] if self.has_digests else [b""] * len(rows)
        for code, digest, shard, number, suffix, label, offset, size in zip(
            codes, digests, *columns, strict=True
        ):
            yield ShardSample(
                path=inside(self.folder / self.layout.shards[shard].name, self._member(number, suffix)),
                label=label,
                split=SPLITS[code],
                member=Member(offset, size),
                digest=bytes(digest).hex(),
            )

    def _name(self, shard: int, number: int, suffix: int) -> str:
        return inside(Path(self.layout.shards[shard].name), self._member(number, suffix)).name

    def _member(self, number: int, suffix: int) -> str:
        return member_name(number, self.layout.suffixes[suffix])

    def rows_at(self, places: Sequence[int] | Places) -> Places:
        """The numbers of the rows of the photographs at these places."""
        wanted = np.asarray(places, np.int64)
        return wanted if self._members is None else self._members.rows_of(wanted)

    @cached_property
    def _members(self) -> _Members | None:
        return None if self.split is None else _Members.of(self.split_codes, SPLITS.index(self.split))

    @cached_property
    def _subsets(self) -> dict[Split, ShardTable]:
        return {}


def shard_ends(samples: Sequence[Sample]) -> Places:
    """Where the photographs of each tar file end; those of one tar file stand together."""
    known: dict[Path, int] = {}
    ends, last = [], -1
    for places in chunks(len(samples)):
        if isinstance(samples, ShardTable):
            shards = samples.rows["shard"][samples.rows_at(places)].astype(np.int64)
        else:
            tars = (tar_of(samples[place].path) for place in places)
            shards = np.array([known.setdefault(tar, len(known)) for tar in tars])
        ends.append(np.flatnonzero(np.diff(shards, prepend=last)) + places.start)
        last = int(shards[-1])
    return np.concatenate([*ends, [len(samples)]])[1:]


@dataclass(frozen=True)
class _Members:
    """The rows of one split, found by how many of them come before each chunk instead of in a list."""

    codes: NDArray[np.uint8]
    code: int
    before: Places
    """One number more than there are chunks."""

    @classmethod
    def of(cls, codes: NDArray[np.uint8], code: int) -> _Members:
        """Count the rows of a split."""
        counts = [np.count_nonzero(codes[part.start : part.stop] == code) for part in chunks(len(codes))]
        return cls(codes, code, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))

    def __len__(self) -> int:
        return int(self.before[-1])

    def rows_of(self, places: Places) -> Places:
        """The rows of the members at these places."""
        rows = np.empty_like(places)
        chunk_of = np.searchsorted(self.before, places, side="right") - 1
        order = np.argsort(chunk_of, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(chunk_of[order])) + 1):
            if len(group):
                chunk = int(chunk_of[group[0]])
                codes = self.codes[chunk * CHUNK : (chunk + 1) * CHUNK]
                found = np.flatnonzero(codes == self.code) + chunk * CHUNK
                rows[group] = found[places[group] - self.before[chunk]]
        return rows
