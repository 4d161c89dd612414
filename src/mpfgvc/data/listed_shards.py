"""What the list of a run knows of a photograph, and how it keeps those of packed shards.

Of packed shards a run stores a copy of their index with its own splits, `photographs.idx`, and in
`photographs.json` what `shards.json` says. So it knows the path, class, split and digest of each photograph
even where the shards are not, and holds none of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from mpfgvc.data.samples import Split
from mpfgvc.data.shard_index import Layout, ShardSample, refuse_unknown
from mpfgvc.data.shard_table import ShardTable
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.files import check_digest, write_with_digest

_KEPT_APART = ("name", "classes", "supercategory")
"""What `shards.json` says, and the list itself, too."""


@dataclass(frozen=True, kw_only=True)
class ListedPhoto:
    """One photograph. `path` is posix and starts from the dataset's root, unless the file is elsewhere.

    `digest` is that of `photo_digest`; empty if it is unknown, or if the picture is drawn and has no file.
    """

    path: str
    label: int
    split: Split
    digest: str = ""

    def at(self, root: Path | None) -> Path:
        """Where the photograph is if the dataset is at `root`."""
        return Path(self.path) if root is None else root / self.path


@dataclass(frozen=True)
class ListedShards(Sequence[ListedPhoto]):
    """The photographs of packed shards, each made when it is asked for."""

    table: ShardTable

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, place: int) -> ListedPhoto: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[ListedPhoto, ...]: ...
    def __getitem__(self, place: int | slice) -> ListedPhoto | tuple[ListedPhoto, ...]:
        found = self.table[place]
        return tuple(map(_listed, found)) if isinstance(found, tuple) else _listed(found)

    def __iter__(self) -> Iterator[ListedPhoto]:
        return (_listed(sample) for sample in self.table)

    def subset(self, split: Split) -> ListedShards:
        """The photographs of one split, in their order."""
        return ListedShards(self.table.subset(split))

    def save(self, path: Path) -> dict[str, Any]:
        """Write the index beside the list at `path`; what the list itself is to hold. Raises OutputError."""
        write_with_digest(_index_of(path), b"".join(rows.tobytes() for rows in self.table.contents()))
        document = self.table.layout.to_dict()
        return {key: value for key, value in document.items() if key not in _KEPT_APART}

    @classmethod
    def load(cls, document: Mapping[str, Any], path: Path) -> ListedShards:
        """What `save` wrote, from the document of the list at `path`.

        Raises CheckpointError if the index is damaged, TypeError, ValueError or KeyError for no layout.
        """
        known = {"name": document["dataset"], **{key: document[key] for key in _KEPT_APART[1:]}}
        layout = Layout.of({**document["shards"], **known})
        index = _index_of(path)
        if not index.is_file():
            raise CheckpointError(f"{index} does not exist; restore it beside {path.name}")
        check_digest(index)
        try:
            refuse_unknown(index, layout)
        except DataError as error:
            raise CheckpointError(str(error)) from None
        return cls(ShardTable(folder=Path(), layout=layout, file=index))


def _index_of(path: Path) -> Path:
    return path.with_suffix(".idx")


def _listed(sample: ShardSample) -> ListedPhoto:
    return ListedPhoto(path=sample.path.name, label=sample.label, split=sample.split, digest=sample.digest)
