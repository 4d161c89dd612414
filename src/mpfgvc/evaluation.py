"""Metrics of the three logit sources over a set of photographs.

Every photograph counts once: processes take shards without padding and only
whole numbers (confusion matrices, counts of right answers) are added up, so
two processes give the very same result as one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from mpfgvc.config_io import load_config
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import Batches, evaluation_loader, worker_count
from mpfgvc.data.samples import Split
from mpfgvc.data.transforms import test_transform
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.features import Embeddings
from mpfgvc.launch import send, start_fabric
from mpfgvc.model.network import MPFGVC, SOURCES
from mpfgvc.saved_model import load_model


@dataclass(frozen=True, kw_only=True)
class SourceMetrics:
    """How one source of logits did: accuracies in 0..1, and counts in `confusion[true, predicted]`."""

    top1: float
    top5: float
    mean_class: float
    confusion: Int[Tensor, "classes classes"]

    def to_dict(self) -> dict[str, float]:
        """The accuracies by name."""
        return {"top1": self.top1, "top5": self.top5, "mean_class": self.mean_class}

    def per_class(self) -> Float[Tensor, " classes"]:
        """Accuracy of each class; NaN for a class without photographs."""
        return self.confusion.diagonal() / self.confusion.sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a split for each source of logits; its own are those of the paper's source, fusion."""

    split: str
    classes: tuple[str, ...]
    sources: Mapping[str, SourceMetrics]
    broken: tuple[str, ...] = ()
    """Photographs that could not be read and were left out."""

    @property
    def count(self) -> int:
        """Photographs that were evaluated."""
        return int(self.main.confusion.sum())

    @property
    def main(self) -> SourceMetrics:
        """The metrics of the fusion classifier, or of the first source there is."""
        return self.sources.get("fusion") or next(iter(self.sources.values()))

    @property
    def top1(self) -> float:
        """Share of photographs whose best guess is right. 0..1."""
        return self.main.top1

    @property
    def top5(self) -> float:
        """Share of photographs whose five best guesses hold the right class. 0..1."""
        return self.main.top5

    @property
    def mean_class(self) -> float:
        """Mean over the classes of their accuracy. 0..1."""
        return self.main.mean_class

    def to_dict(self) -> dict[str, Any]:
        """The document of `mpfgvc evaluate --json`."""
        sources = {name: metrics.to_dict() for name, metrics in self.sources.items()}
        return {"split": self.split, "count": self.count, **self.main.to_dict(), "sources": sources}


def evaluate(
    run: str | Path, *, split: Split = "test", root: str | None = None, device: str = "auto"
) -> Evaluation:
    """Evaluate the model of a run folder on a split of its dataset.

    `root` is where the photographs lie now, if they moved. Raises CheckpointError
    for a run without model, DataError for photographs that cannot be read or a
    split that has none.
    """
    folder = Path(run)
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise CheckpointError(
            f"{folder} is no run folder: it has no config.yaml; give the --out of a training"
        )
    overrides = {"device": device} | ({} if root is None else {"data.root": root})
    config = load_config(config_file, overrides=overrides)
    saved = load_model(folder)
    photos = read_photos(config.data, seed=config.seed)
    samples = photos.subset(split)
    if not samples:
        raise DataError(f"the dataset of {folder} has no {split} split; choose another --split")
    if photos.classes != saved.network.classes:
        hint = "point --data.root at the dataset of the run"
        raise CheckpointError(
            f"{folder} knows other classes than the photographs in {config.data.root}; {hint}"
        )
    fabric = start_fabric(config)
    batches = evaluation_loader(
        samples,
        test_transform(saved.preprocessing),
        batch_size=config.stage1.batch_size,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=worker_count(config.data.workers, model_on_cpu=fabric.device.type == "cpu"),
        on_error=config.data.on_error,
    )
    return evaluate_photos(saved.network.to(fabric.device), batches, split=split, fabric=fabric)


@torch.inference_mode()
def evaluate_photos(
    network: MPFGVC, batches: Batches, *, split: str, fabric: Fabric, sources: Sequence[str] = SOURCES
) -> Evaluation:
    """Evaluate a deployed network on the batches of an evaluation loader, over all processes together."""
    network.eval()
    broken: list[str] = []
    scorer = Scorer(network.classes, sources, fabric.device)
    for batch in batches:
        broken.extend(batch.broken)
        if not len(batch.labels):
            continue
        with fabric.autocast():
            output = network(send(batch.images, fabric.device))
        scorer.add({source: getattr(output, source) for source in sources}, batch.labels.to(fabric.device))
    return scorer.result(split, broken)


@torch.inference_mode()
def evaluate_embeddings(
    network: MPFGVC, embeddings: Embeddings, *, split: str, sources: Sequence[str] = SOURCES
) -> Evaluation:
    """Evaluate a deployed network on embeddings that its image tower gave before, in this process alone."""
    network.eval()
    text_features = network.text()
    values = embeddings.values.to(text_features.device)
    logits = {
        "vision": network.vision_logits(values),
        "text": network.text_logits(values, text_features),
        "fusion": network.fusion(values, text_features),
    }
    scorer = Scorer(network.classes, sources, values.device, shared=False)
    scorer.add({source: logits[source] for source in sources}, embeddings.labels.to(values.device))
    return scorer.result(split)


class Scorer:
    """Adds up what the metrics need, batch by batch. `shared`: processes hold different photographs."""

    def __init__(
        self, classes: Sequence[str], sources: Iterable[str], device: torch.device, *, shared: bool = True
    ):
        count = len(classes)
        options: dict[str, Any] = {"sync_on_compute": shared}
        self.classes = tuple(classes)
        self.metrics = {
            source: MetricCollection(
                {
                    "confusion": MulticlassConfusionMatrix(count, **options),
                    "top5": MulticlassAccuracy(count, top_k=min(5, count), average="micro", **options),
                }
            ).to(device)
            for source in sources
        }

    def add(self, logits: Mapping[str, Tensor], labels: Int[Tensor, " batch"]) -> None:
        """Take in the logits of each source for a batch."""
        for source, metrics in self.metrics.items():
            metrics.update(logits[source], labels)

    def result(self, split: str, broken: Iterable[str] = ()) -> Evaluation:
        """The metrics over all that was added, by all processes if they share."""
        sources = {}
        for source, metrics in self.metrics.items():
            values = metrics.compute()
            confusion = values["confusion"].cpu()
            per_class = confusion.diagonal() / confusion.sum(dim=1)
            sources[source] = SourceMetrics(
                top1=confusion.diagonal().sum().item() / max(1, confusion.sum().item()),
                top5=values["top5"].item(),
                mean_class=per_class.nanmean().item(),
                confusion=confusion,
            )
        return Evaluation(split=split, classes=self.classes, sources=sources, broken=tuple(broken))
