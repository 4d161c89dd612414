"""The doctor's findings as one HTML page: the photographs in question, in pairs, by kind and class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mpfgvc.data.doctor import Report
from mpfgvc.data.images import read_image
from mpfgvc.data.samples import relative_path
from mpfgvc.errors import MpfgvcError
from mpfgvc.pages import Album, render

SIDE = 220
"""Longer side of a photograph on the page in pixels."""
MOST_BYTES = 12_000_000
MOST_OF_A_KIND = 300
"""Findings of one kind that are shown; the others are counted."""
Captions = Mapping[str, tuple[str, str]]
"""The class and the split of each photograph, by its path."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A photograph of a finding, and what stands below it."""

    path: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One or two photographs, and what is wrong with them."""

    kind: str
    text: str
    photos: tuple[Shown, ...]
    classes: tuple[str, ...]
    serious: bool = False


def doctor_page(report: Report, root: Path, samples: Captions, more: Sequence[Finding] = ()) -> str:
    """The whole page. `more` are findings of a trained run."""
    findings = [*photograph_findings(report, samples), *more]
    shown = _first_of_each_kind(findings)
    album = Album(most_bytes=MOST_BYTES, side=SIDE)
    for photo in (photo for finding in shown for photo in finding.photos):
        album.add(photo.path, lambda path=photo.path: _small(path))  # type: ignore[misc]
    return render(
        "data/doctor_page.html.j2",
        report=report,
        findings=shown,
        kinds=Counter(finding.kind for finding in findings),
        hidden=Counter(finding.kind for finding in findings) - Counter(finding.kind for finding in shown),
        classes=sorted({name for finding in shown for name in finding.classes}),
        addresses=album.addresses,
        left_out=album.left_out,
        relative=lambda path: relative_path(Path(path), root),
    )


def photograph_findings(report: Report, samples: Captions) -> Iterable[Finding]:
    """What the report says about single photographs and pairs, the most serious first."""
    for pair in sorted(report.pairs, key=lambda pair: (not pair.leaks, not pair.disagrees)):
        kind = "in two splits" if pair.leaks else "labels disagree" if pair.disagrees else "duplicates"
        also = "; the labels disagree" if pair.leaks and pair.disagrees else ""
        text = f"{pair.kind}{also}" + ("" if pair.kind == "same file" else f", likeness {pair.likeness:.2f}")
        yield photo_finding(kind, text, pair.paths, samples, serious=pair.leaks or pair.disagrees)
    for broken in report.broken:
        yield photo_finding("cannot be read", broken.reason, (broken.path,), samples, serious=True)
    for path in report.flat:
        yield photo_finding("no contrast", "nearly one colour", (path,), samples)
    for path in report.small:
        yield photo_finding("very small", "a side below 64 pixels", (path,), samples)
    for kind, group in (("unusual size", report.sizes), ("unusual shape", report.shapes)):
        for each in group:
            yield photo_finding(kind, each.reason, (each.path,), samples)


def photo_finding(kind: str, text: str, paths: Sequence[str], samples: Captions, *, serious: bool = False) -> Finding:
    """A finding about photographs of the dataset."""
    return Finding(
        kind=kind,
        text=text,
        photos=tuple(Shown(path=path, caption=" · ".join(samples[path])) for path in paths),
        classes=tuple(dict.fromkeys(samples[path][0] for path in paths)),
        serious=serious,
    )


def _first_of_each_kind(findings: Iterable[Finding]) -> list[Finding]:
    seen: Counter[str] = Counter()
    shown = []
    for finding in findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= MOST_OF_A_KIND:
            shown.append(finding)
    return shown


def _small(path: str) -> Image.Image | None:
    try:
        return read_image(path, at_least=(SIDE, SIDE))
    except MpfgvcError:
        return None
