"""Accuracies and counts of the three sources of logits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix


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
