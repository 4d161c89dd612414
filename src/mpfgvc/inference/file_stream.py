"""Run a network over any number of files, in order, while the answers are consumed.

Memory does not grow with the files: PATHS_AHEAD paths are taken from the iterable at a time, and loader
processes decode beside the network. A file that cannot be read is an answer, too: one with a failure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.data.samples import Photograph
from mpfgvc.data.transforms import Transform
from mpfgvc.errors import DataError
from mpfgvc.inference.arguments import refuse_below

PATHS_AHEAD = 4096
"""Paths that are taken from the iterable at a time."""
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class FileAnswer(Generic[Found]):
    """The answer about one photograph; None, and why, for one that cannot be read."""

    photograph: Photograph
    answer: Found | None = None
    failure: str = ""

    @property
    def path(self) -> Path:
        """Where the photograph is."""
        return self.photograph.path


@dataclass(frozen=True, kw_only=True)
class FileStream(Generic[Found]):
    """How files become answers: `run` gets a batch of images and their names, and gives one answer each.

    `name` is what errors call the method that streams. Raises ConfigError for the two numbers.
    """

    name: str
    transform: Transform
    run: Callable[[Tensor, Sequence[str]], Sequence[Found]]
    on_cpu: bool
    batch_size: int
    workers: int | None

    def __post_init__(self) -> None:
        refuse_below(1, "batch_size", self.batch_size)
        if self.workers is not None:
            refuse_below(0, "workers", self.workers)

    def answers(self, paths: Iterable[str | Path]) -> Iterator[FileAnswer[Found]]:
        """An answer for each path, in their order; loader processes end when the iterator is closed.

        Raises DataError at once for what is not an iterable of paths, and later for what is not a path in it.
        """
        if isinstance(paths, str | Path | bytes) or not isinstance(paths, Iterable):
            raise DataError(f"{self.name} takes several paths, such as a list, got {paths!r:.80}")
        if isinstance(paths, Sequence):
            paths = [self._as_path(path) for path in paths]
        return self._stream(iter(paths))

    def about(self, photographs: Sequence[Photograph]) -> Iterator[FileAnswer[Found]]:
        """An answer for each photograph, in their order; of a dataset, too, whose pictures may be drawn."""
        loader = EvaluationLoader(
            photographs,
            self.transform,
            batch_size=self.batch_size,
            workers=self.workers if len(photographs) > self.batch_size else 0,
            model_on_cpu=self.on_cpu,
            on_error="skip",
        )
        for batch in loader:
            done: dict[int, FileAnswer[Found]] = {
                failure.index: FileAnswer(photograph=photographs[failure.index], failure=failure.reason)
                for failure in batch.unreadable
            }
            if batch.indices:
                names = [str(photographs[index].path) for index in batch.indices]
                for index, answer in zip(batch.indices, self.run(batch.images, names), strict=True):
                    done[index] = FileAnswer(photograph=photographs[index], answer=answer)
            yield from (done[index] for index in sorted(done))

    def _stream(self, paths: Iterator[str | Path]) -> Iterator[FileAnswer[Found]]:
        while chunk := [Photograph(path=self._as_path(path)) for path in islice(paths, PATHS_AHEAD)]:
            yield from self.about(chunk)

    def _as_path(self, path: str | Path) -> Path:
        if not isinstance(path, str | Path):
            raise DataError(f"{self.name} takes paths, got {path!r:.80}")
        return Path(path)
