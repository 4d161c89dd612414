"""Metrics of the three logit sources over a set of photographs.

Every photograph counts once: processes take shards without padding and only
whole numbers (confusion matrices, counts of right answers) are added up, so
two processes give the very same result as one.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric

from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import Batches, evaluation_loader, worker_count
from mpfgvc.data.samples import Split
from mpfgvc.data.transforms import test_transform
from mpfgvc.devices import send, start_fabric
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.evaluation.metrics import Evaluation, Scorer
from mpfgvc.inference.embeddings import Embeddings
from mpfgvc.inference.saved_model import load_model
from mpfgvc.model.network import MPFGVC, SOURCES
from mpfgvc.run_folder import RunFolder


def evaluate(
    run: str | Path, *, split: Split = "test", root: str | None = None, device: str = "auto"
) -> Evaluation:
    """Evaluate the model of a run folder on a split of its dataset.

    `root` is where the photographs lie now, if they moved. Raises CheckpointError
    for a run without model, DataError for photographs that cannot be read or a
    split that has none.
    """
    folder = RunFolder.open(run)
    config = folder.read_config({"device": device} | ({} if root is None else {"data.root": root}))
    saved = load_model(folder.path)
    photos = read_photos(config.data, seed=config.seed)
    samples = photos.subset(split)
    if not samples:
        raise DataError(f"the dataset of {folder.path} has no {split} split; choose another --split")
    if photos.classes != saved.network.classes:
        hint = "point --data.root at the dataset of the run"
        raise CheckpointError(
            f"{folder.path} knows other classes than the photographs in {config.data.root}; {hint}"
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
