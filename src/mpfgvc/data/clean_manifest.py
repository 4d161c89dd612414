"""A table of a dataset without leaks and duplicates, for `data.dataset: manifest`. No photograph is touched.

Of each picture one photograph stays: that of the test split, else of validation, else of training. So the
test stays as large as it was, and comparable with what others measured on it, while training loses what it
must not have seen. Where the labels of one picture disagree, none of its photographs stays, as only a person
can say which label is right.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpfgvc.data.doctor import Report
from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.data.samples import PhotoSet, relative_path
from mpfgvc.errors import DataError
from mpfgvc.files import new_file

_KEPT_FIRST = ("test", "validation", "train")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A photograph that is not in the table, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CleanManifest:
    """What was written."""

    path: str
    root: str
    kept: int
    left_out: tuple[LeftOut, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


def write_clean_manifest(report: Report, photos: PhotoSet, *, root: Path, out: Path) -> CleanManifest:
    """Write the table, with paths below `root`.

    Raises OutputError, and DataError if what is left is no dataset: a class may have lost all its training
    photographs.
    """
    reasons = _reasons(report, photos)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "split"))
    for sample in photos.samples:
        if str(sample.path) not in reasons:
            table.writerow((relative_path(sample.path, root), photos.classes[sample.label], sample.split))
    with new_file(out) as part:
        part.write_bytes(text.getvalue().encode(errors="surrogateescape"))
        try:
            read_manifest(part, root, test_share=0, seed=0, check_files=False)
        except DataError as error:
            reason = str(error).replace(str(part), str(out))
            raise DataError(f"cannot write {out} without leaks and duplicates: {reason}") from None
    left_out = tuple(LeftOut(path=path, reason=reason) for path, reason in reasons.items())
    kept = len(photos.samples) - len(reasons)
    return CleanManifest(path=str(out), root=str(root), kept=kept, left_out=left_out)


def _reasons(report: Report, photos: PhotoSet) -> Mapping[str, str]:
    """Why each photograph that does not stay is left out."""
    reasons = {broken.path: "cannot be read" for broken in report.broken}
    splits = {str(sample.path): sample.split for sample in photos.samples}
    for group in report.duplicates:
        readable = [path for path in group.paths if path not in reasons]
        if group.disagrees:
            reasons |= {path: f"labels disagree: {', '.join(group.classes)}" for path in readable}
            continue
        kept, *others = sorted(readable, key=lambda path: _KEPT_FIRST.index(splits[path]))
        reasons |= dict.fromkeys(others, f"same picture as {kept} ({splits[kept]})")
    return reasons
