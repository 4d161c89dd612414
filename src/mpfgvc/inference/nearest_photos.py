"""The training photographs of a run that look most like another photograph, class by class, as pictures.

They come from the file that `mpfgvc embed RUN` writes. A photograph that is not there any more is named but
not shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Sample
from mpfgvc.errors import DataError
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.search import EmbeddingIndex, Neighbour, index_for
from mpfgvc.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class LikePhoto:
    """A photograph that looks like another one; `image` is None where it cannot be opened."""

    found: Neighbour
    image: Image.Image | None

    def to_dict(self) -> dict[str, Any]:
        """Path and similarity."""
        return {"path": self.found.path, "similarity": round(self.found.similarity, 4)}


@dataclass(frozen=True, kw_only=True)
class RunPhotos:
    """The embedded photographs of a run; `samples` are those that can be read, by their paths."""

    predictor: Predictor
    index: EmbeddingIndex
    samples: Mapping[str, Sample]

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        run: str | Path,
        *,
        root: str | Path | None = None,
        manifest: str | Path | None = None,
    ) -> "RunPhotos | None":
        """Those of a run, or None if `mpfgvc embed` has not embedded them.

        `root` and `manifest` say where the dataset is now, if it moved. Raises DataError for embeddings that
        cannot be read or are of another model.
        """
        folder = RunFolder(run)
        if not folder.embeddings.is_file():
            return None
        index = index_for(predictor, folder.embeddings)
        try:
            restored = photos_of_run(folder, root=root, manifest=manifest)
        except DataError:  # the dataset is gone: its photographs are still named
            return cls(predictor=predictor, index=index, samples={})
        samples = {str(sample.path): sample for sample in restored.found("train")}
        return cls(predictor=predictor, index=index, samples=samples)

    def like(
        self, embedding: NDArray[np.float32], label: str, *, count: int, other_than: str = ""
    ) -> list[LikePhoto]:
        """The `count` nearest training photographs of a class, nearest first; not the photograph itself."""
        found = self.index.nearest(embedding[None], top=count + 1, label=label, split="train")[0]
        others = [each for each in found if not _same_file(each.path, other_than)][:count]
        return [LikePhoto(found=each, image=self._open(each.path)) for each in others]

    def _open(self, path: str) -> Image.Image | None:
        sample = self.samples.get(path)
        try:
            if sample is not None and not sample.has_file:
                return sample.read()
            return self.predictor.open(sample.path if sample else path)
        except DataError:
            return None


def _same_file(one: str, other: str) -> bool:
    return Path(one).absolute() == Path(other).absolute()
