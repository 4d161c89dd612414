"""The doctor's findings as one HTML page: the photographs in question side by side, by kind and class."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from PIL import Image

from mpfgvc.data.doctor import CheckedDataset, Report
from mpfgvc.data.images import read_image
from mpfgvc.data.samples import relative_path
from mpfgvc.errors import MpfgvcError
from mpfgvc.pages import Album, render

SIDE = 220
"""Longer side of a photograph on the page in pixels."""
MOST_BYTES = 12_000_000
MOST_OF_A_KIND = 300
"""Findings of one kind that are shown; the others are counted."""


def doctor_page(report: Report, dataset: CheckedDataset) -> str:
    """The whole page."""
    photos = dataset.photos
    found = [finding for finding in report.findings if finding.paths]
    kinds, shown = Counter[str](), []
    for finding in found:
        kinds[finding.kind] += 1
        if kinds[finding.kind] <= MOST_OF_A_KIND:
            shown.append(finding)
    album = Album(most_bytes=MOST_BYTES, side=SIDE)
    pictures = [(finding, [*finding.paths, *filter(None, [finding.beside])]) for finding in shown]
    for path in (path for _, paths in pictures for path in paths):
        album.add(path, partial(_small, path))
    return render(
        "data/doctor_page.html.j2",
        report=report,
        findings=pictures,
        others=[finding for finding in report.findings if not finding.paths],
        kinds=kinds,
        hidden=kinds - Counter(finding.kind for finding in shown),
        classes=sorted({name for finding in shown for name in finding.classes}),
        captions={str(sample.path): f"{photos.classes[sample.label]} · {sample.split}" for sample in photos.samples},
        addresses=album.addresses,
        left_out=album.left_out,
        relative=lambda path: relative_path(Path(path), dataset.root),
    )


def _small(path: str) -> Image.Image | None:
    try:
        return read_image(path, at_least=(SIDE, SIDE))
    except MpfgvcError:
        return None
