"""The photographs of a report: as they are, and with the patches that the model kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from mpfgvc.data.samples import Sample
from mpfgvc.errors import MpfgvcError
from mpfgvc.inference.explain import explain
from mpfgvc.inference.explanation_views import kept_view
from mpfgvc.inference.predictor import Predictor

SIDE = 150
"""Longer side in pixels of a photograph with its kept patches."""


@dataclass(frozen=True, kw_only=True)
class ReportPhotos:
    """Draws photographs that were evaluated, which answers name by their path.

    `root` is the dataset's, from which the paths of a report start; None for pictures that are drawn.
    """

    predictor: Predictor
    samples: Sequence[Sample]
    root: Path | None = None

    def plain(self, path: str) -> Image.Image | None:
        """A photograph, upright and whole; None if it cannot be read any more."""
        try:
            return self._by_path[path].read(at_least=(SIDE, SIDE))
        except MpfgvcError:
            return None

    def kept(self, path: str) -> Image.Image | None:
        """A photograph as the tower sees it, dimmed where no patch was kept; None if it cannot be read."""
        sample = self._by_path[path]
        try:
            explanation = explain(self.predictor, sample.path if sample.has_file else sample.read(), top=1)
        except MpfgvcError:
            return None
        factor = SIDE / max(explanation.image.size)
        width, height = (max(1, round(factor * each)) for each in explanation.image.size)
        return kept_view(explanation, (width, height))

    @cached_property
    def _by_path(self) -> dict[str, Sample]:
        return {str(sample.path): sample for sample in self.samples}
