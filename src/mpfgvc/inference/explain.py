"""What a prediction rests on: the kept patches, what each of them says, and photographs that look alike.

    predictor.explain("bird.jpg")

The attention is that of the class token in the second-to-last block (docs/method.md), from which the K
patches were chosen; with another `model.selection`, what these were chosen by.

What a patch says: it is left out of what reaches the last block, and nothing else is changed. How far the
difference of two logits falls without it is its change. The blocks before the last run once.

    change of patch j = (l_answer - l_other) - (l_answer - l_other without j)

The other class is the runner-up, or the true class where that is known and another. Above 0 the patch speaks for
the answer. The changes do not add up to the difference: patches say the same things.
picture.py draws it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mpfgvc.config import Selection
from mpfgvc.data.preprocessing import centre_crop, normalise, scale
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Sample
from mpfgvc.errors import CheckpointError, ConfigError, DataError, check_at_least
from mpfgvc.inference.answering import Guess
from mpfgvc.inference.embeddings import EmbeddingIndex, Neighbour, index_for
from mpfgvc.inference.forward import Inference
from mpfgvc.inference.predictor import Predictor
from mpfgvc.model.image_encoder import EncodedImages, ImageEncoder, Selected
from mpfgvc.model.network import Logits, Output
from mpfgvc.run_folder import RunFolder

if TYPE_CHECKING:
    from mpfgvc.inference.sources import ImageSource

TOKENS_AT_ONCE = 1 << 15
"""Tokens that the last block is given at a time; more would only need more memory."""
DIGITS = 5
"""Significant digits of the numbers in documents."""


@dataclass(frozen=True, kw_only=True)
class LikePhoto:
    """A photograph that looks like another one; `image` is None where it cannot be opened."""

    found: Neighbour
    image: Image.Image | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A photograph as the tower sees it, the guesses, and what they rest on."""

    image: Image.Image
    guesses: list[Guess]
    kept: list[tuple[int, int]]
    """(row, column) of the kept patches in the grid, most attended first."""
    attention: NDArray[np.float32]
    """Share of the class token's attention to patches that each patch has, (rows, columns); sums to 1.
    With another `selection`, the share in what the patches were chosen by."""
    answer: str
    against: str
    """The class that the answer is compared with: the runner-up, or the one that was asked for."""
    difference: float
    """Logit of the answer minus that of the other class."""
    change: list[float]
    """How far the difference falls without each patch, in the order of `kept`: above 0 a patch speaks for the
    answer, below 0 for the other class."""
    nearest: Mapping[str, Sequence[LikePhoto]] = field(default_factory=dict)
    """The nearest training photographs of both classes, if they were asked for."""
    selection: Selection = "attention"
    """What the patches were chosen by."""

    @property
    def kept_mask(self) -> NDArray[np.bool_]:
        """Whether a patch was kept, (rows, columns)."""
        mask = np.zeros(self.attention.shape, dtype=bool)
        mask[tuple(zip(*self.kept, strict=True))] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """An entry of the document of `mpfgvc explain --json`."""
        document: dict[str, Any] = {
            "guesses": [vars(guess) for guess in self.guesses],
            "kept": self.kept,
            "evidence": {
                "answer": self.answer,
                "against": self.against,
                "difference": _rounded(self.difference),
                "change": [_rounded(value) for value in self.change],
            },
        }
        if self.nearest:
            document["nearest"] = {
                label: [{"path": photo.found.path, "similarity": round(photo.found.similarity, 4)} for photo in photos]
                for label, photos in self.nearest.items()
            }
        return document


@dataclass(frozen=True, kw_only=True)
class TrainingPhotos:
    """The embedded training photographs of a run; `samples` are those that can be read, by their paths."""

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
    ) -> "TrainingPhotos | None":
        """Those of a run, or None if `mpfgvc embed` has not embedded them.

        `root` and `manifest` say where the dataset is now, if it moved. Raises DataError for embeddings that
        cannot be read or are of another model.
        """
        folder = RunFolder(run)
        if not folder.embeddings.is_file():
            return None
        index = index_for(predictor, folder.embeddings)
        try:
            found = photos_of_run(folder, root=root, manifest=manifest).found("train")
            samples = {str(sample.path): sample for sample in found}
        except DataError:  # the dataset is gone: its photographs are still named
            samples = {}
        return cls(predictor=predictor, index=index, samples=samples)

    def like(self, embedding: NDArray[np.float32], label: str, count: int, other_than: str = "") -> list[LikePhoto]:
        """The `count` nearest training photographs of a class, nearest first; not the photograph itself."""
        own = Path(other_than).absolute()
        found = self.index.nearest(embedding[None], top=count + 1, label=label, split="train")[0]
        others = [neighbour for neighbour in found if Path(neighbour.path).absolute() != own][:count]
        return [LikePhoto(found=neighbour, image=self._open(neighbour.path)) for neighbour in others]

    def _open(self, path: str) -> Image.Image | None:
        sample = self.samples.get(path)
        try:
            if sample is not None and not sample.has_file:
                return sample.read()
            return self.predictor.open(sample.path if sample else path)
        except DataError:
            return None


def explain(
    predictor: Predictor,
    image: "ImageSource",
    *,
    top: int = 3,
    against: str | None = None,
    photos: TrainingPhotos | None = None,
    nearest: int = 3,
) -> Explanation:
    """Predict one image and say what the answer rests on.

    The answer is compared with the class `against`, unless that is the answer itself: then, as with None, with the
    runner-up. `photos` adds the `nearest` training photographs of both. Raises DataError for
    an unreadable image, ConfigError for `top` and `against`, CheckpointError for a damaged model.
    """
    check_at_least(1, "top", top)
    if against is not None and against not in predictor.classes:
        near = difflib.get_close_matches(against, predictor.classes, n=1)
        hint = f"did you mean {near[0]}?" if near else f"such as {predictor.classes[0]}"
        raise ConfigError(f"against must be a class of the model, got {against!r:.80}; {hint}")
    preprocessing, encoder = predictor.preprocessing, predictor.inference.network.image_encoder
    seen = centre_crop(scale(predictor.open(image), preprocessing), preprocessing.image_size)
    name = str(image) if isinstance(image, str | Path) else "the given image"
    output, without = leave_each_out(predictor.inference, torch.from_numpy(normalise(seen, preprocessing)), name)
    whole, others = (getattr(logits, predictor.source).float().cpu().numpy() for logits in (output, without))
    first, second = np.argsort(-whole[0], kind="stable")[:2]
    if against is not None and against != predictor.classes[first]:
        second = predictor.classes.index(against)
    labels = [predictor.classes[first], predictor.classes[second]]
    difference = float(whole[0, first] - whole[0, second])
    grid = encoder.tower.grid
    scores = output.scores[0].float().cpu().numpy().reshape(grid)
    rows, columns = np.unravel_index(output.kept[0].cpu().numpy(), grid)
    embedding = output.embedding[0].float().cpu().numpy()
    like = {} if photos is None else {label: photos.like(embedding, label, nearest, name) for label in labels}
    return Explanation(
        image=seen,
        guesses=predictor.answering.guesses(predictor.answering.probabilities(whole)[0], top),
        kept=list(zip(rows.tolist(), columns.tolist(), strict=True)),
        attention=scores / scores.sum(),
        answer=labels[0],
        against=labels[1],
        difference=difference,
        change=(difference - (others[:, first] - others[:, second])).tolist(),
        nearest=like,
        selection=encoder.selection,
    )


@torch.inference_mode()
def leave_each_out(inference: Inference, image: Float[Tensor, "3 height width"], name: str) -> tuple[Output, Logits]:
    """The output for a normalised image, called `name`, and for each of its kept patches that without it.

    Raises CheckpointError as every prediction does, where a logit is not finite.
    """
    network, compute = inference.network, inference.compute
    encoder = network.image_encoder
    with compute.autocast():
        selected = encoder.select(image[None].to(compute.device))
        embedding = encoder.finish(selected.tokens, selected.rope.at(selected.kept))
        output = network.classify(EncodedImages(embedding, selected.kept, selected.scores))
        inference.check(output, [name])
        return output, network.logits(embeddings_without(encoder, selected))


def embeddings_without(encoder: ImageEncoder, selected: Selected) -> Float[Tensor, "kept width"]:
    """V of one image without its first kept patch, without its second, and so on."""
    prefix, count = encoder.tower.prefix_tokens, selected.kept.shape[1]
    tokens, kept = selected.tokens[0], selected.kept[0]
    others = torch.arange(count - 1, device=kept.device).expand(count, -1)
    others = others + (others >= torch.arange(count, device=kept.device)[:, None])  # row j: all but j
    parts = []
    for part in torch.split(others, max(1, TOKENS_AT_ONCE // (prefix + count))):
        always = tokens[:prefix].expand(len(part), -1, -1)
        variants = torch.cat([always, tokens[prefix:][part]], dim=1)
        parts.append(encoder.finish(variants, selected.rope.at(kept[part])))
    return torch.cat(parts)


class NamedImage(NamedTuple):
    """A photograph to explain, with its title, and its class or the name of its folder, which may be one."""

    title: str
    image: Path | Image.Image
    truth: str


def named_test_images(
    run: str | Path, count: int, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> list[NamedImage]:
    """`count` photographs of a run's test split, of classes far apart, each named by its class and file.

    `root` and `manifest` say where the dataset is now, if it moved. Raises CheckpointError
    for a folder that is not a run, DataError for a dataset without a test split.
    """
    folder = RunFolder(run)
    if not folder.is_run:
        raise CheckpointError(f"{run} is not a run folder, it has no test photographs; name some photographs")
    restored = photos_of_run(folder, root=root, manifest=manifest)
    classes, samples = restored.photos.classes, restored.found("test")
    if not samples:
        raise DataError(f"the dataset of {run} has no test split; name some photographs")
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    named = ((classes[sample.label], sample) for sample in (samples[index] for index in chosen))
    return [
        NamedImage(f"{truth}: {sample.path.name}", sample.path if sample.has_file else sample.read(), truth)
        for truth, sample in named
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
