"""What a run has for its demo: test photographs as examples, and the embeddings of its training photographs.

Whatever is missing (the dataset, a test split, embeddings) is left out, with a line that says how to get it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpfgvc.data.run_photos import RestoredPhotos, photos_of_run
from mpfgvc.data.samples import Sample
from mpfgvc.deploy.demo import DemoContent
from mpfgvc.errors import MpfgvcError
from mpfgvc.inference.embedding_file import EmbeddingTable
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.search import EmbeddingIndex, index_for
from mpfgvc.run_folder import RunFolder

EXAMPLES = 8


def content_of(
    run: str, predictor: Predictor, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> DemoContent:
    """The content of a run's demo; an empty one, with a note, for a model that is not in a run folder.

    `root` and `manifest` say where the dataset is now, if it moved.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        return DemoContent(notes=(f"{run} is not a run folder: there are no examples",))
    try:
        photos = photos_of_run(folder, root=root, manifest=manifest)
    except MpfgvcError as error:
        return DemoContent(notes=(f"there are no examples: {error}",))
    index, indexed, note = _training_index(folder, photos, predictor)
    examples = _spread(photos.found("test"))
    return DemoContent(
        classes=photos.photos.classes,
        photographs=(*indexed, *examples),
        examples=range(len(indexed), len(indexed) + len(examples)),
        index=index,
        notes=(*photos.notes, *note),
    )


def _training_index(
    folder: RunFolder, photos: RestoredPhotos, predictor: Predictor
) -> tuple[EmbeddingIndex | None, tuple[Sample, ...], tuple[str, ...]]:
    """The index of the training photographs that are there, these photographs, and a note if there is none.

    The paths of the index are their numbers.
    """
    hint = f"mpfgvc embed {folder.path}"
    if not folder.embeddings.is_file():
        return (
            None,
            (),
            (f"the nearest training photographs are not shown; make their embeddings with {hint}",),
        )
    try:
        table = index_for(predictor, folder.embeddings).table
    except MpfgvcError as error:
        return None, (), (f"the nearest training photographs are not shown: {error}",)
    trained = {str(sample.path): sample for sample in photos.found("train")}
    rows = [row for row, path in enumerate(table.paths) if path in trained]
    if not rows:
        return None, (), (f"{folder.embeddings} has none of the training photographs; make it again: {hint}",)
    numbered = EmbeddingTable(
        paths=tuple(str(number) for number in range(len(rows))),
        labels=tuple(table.labels[row] for row in rows),
        splits=tuple(table.splits[row] for row in rows),
        values=table.values[rows],
        model=table.model,
    )
    return EmbeddingIndex(numbered), tuple(trained[table.paths[row]] for row in rows), ()


def _spread(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """A few samples of classes far apart; samples are in the order of their classes."""
    if not samples:
        return ()
    places = np.linspace(0, len(samples) - 1, min(EXAMPLES, len(samples))).round().astype(int)
    return tuple(samples[place] for place in dict.fromkeys(places.tolist()))
