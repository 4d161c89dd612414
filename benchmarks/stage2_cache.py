"""Stage 2 on embeddings computed once, against towers that are run again in every step.

    python benchmarks/stage2_cache.py --data.root ../shared/data/CUB_200_2011 \
        --model.image_tower.weights ../shared/weights/vit_tiny_patch16_224.safetensors

ViT-tiny at 224 px on CUB-27, batch 64, fp32. Measured in turns: the one pass that fills the cache, 20 epochs
on it, and one epoch of the reference, whose 20 epochs follow by multiplication. The losses of the
reference's epoch must equal those of our first, because the views are deterministic.
"""

import copy
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from common import Overrides, parse_settings, settings_of
from mpfgvc import MPFGVC
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import EvaluationLoader, epoch_batches, labels_of
from mpfgvc.data.samples import Sample
from mpfgvc.data.transforms import eval_transform
from mpfgvc.distributed import start_fabric
from mpfgvc.inference.forward import Compute, embed_photos, encode_in_parts, preprocessing_of
from mpfgvc.model.losses import Objective
from mpfgvc.training.loop import build_optimizer
from mpfgvc.training.stages import Stage2
from mpfgvc.training.train_stages import EmbeddingLoader
from side_by_side import comparison, report, seconds_of

EPOCHS, TURNS = 20, 3
CPU = Compute(device=torch.device("cpu"))
Batches = Iterator[tuple[Tensor, Tensor]]


class Bench:
    """What both ways share."""

    def __init__(self, overrides: Overrides) -> None:
        self.config = settings_of("vit_tiny", {"data.dataset": "cub", "precision": "fp32"} | overrides)
        photos = read_photos(self.config.data, seed=0)
        self.samples = photos.subset("train")
        self.network = MPFGVC.from_config(self.config.model, photos.classes)
        tower = self.network.image_encoder.tower
        self.transform = eval_transform(preprocessing_of(tower.input, self.config.data))
        self.size = self.config.stage2.batch_size
        self.cache: EmbeddingLoader

    def fill_cache(self) -> None:
        """One pass over the photographs, including decoding."""
        loader = self._loader(self.samples, batch_size=32)
        fabric = start_fabric(self.config.device, self.config.precision)
        embeddings = embed_photos(self.network.image_encoder, loader, fabric=fabric)
        labels = labels_of(self.samples)[embeddings.indices]
        self.cache = EmbeddingLoader(embeddings.values, labels, batch_size=self.size, seed=0)

    def rerun_towers(self) -> Batches:
        """The same batches, each through decoding and the image tower."""
        order = epoch_batches(len(self.samples), batch_size=self.size, seed=0, epoch=0)
        chosen = [self.samples[index] for batch in order for index in batch]
        labels = labels_of(chosen)
        for batch in self._loader(chosen, batch_size=self.size):
            with torch.inference_mode():
                embedding = encode_in_parts(self.network.image_encoder, batch.images, CPU).embedding
            yield embedding.clone(), labels[list(batch.indices)]

    def fresh_stage(self) -> tuple[Stage2, torch.optim.Optimizer]:
        """Stage 2 before its first step."""
        fusion = copy.deepcopy(self.network.fusion)
        stage = Stage2(fusion, self.network.text(), self.config.stage2, Objective(0.1)).train()
        return stage, build_optimizer(stage.parameter_groups(), self.config.stage2)

    def epoch(
        self, batches: Batches, stage: Stage2, optimizer: torch.optim.Optimizer, *, texts_each_step: bool
    ) -> list[float]:
        """The losses of one epoch."""
        losses = []
        for embeddings, labels in batches:
            if texts_each_step:
                with torch.no_grad():
                    stage.text_features = self.network.text()
            loss = stage(embeddings, labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def _loader(self, samples: Sequence[Sample], *, batch_size: int) -> EvaluationLoader:
        return EvaluationLoader(samples, self.transform, batch_size=batch_size, workers=None, model_on_cpu=True)


def main() -> None:
    _, overrides = parse_settings(ArgumentParser(description=__doc__))
    bench = Bench(overrides)
    rows = [_turn(bench) for _ in range(TURNS)]
    whole = [(filled + EPOCHS * epoch, EPOCHS * reference) for filled, epoch, reference in rows]
    report(
        "stage2_cache",
        [
            comparison(f"stage 2, {EPOCHS} epochs on CUB-27, the pass included", "s", whole, 15),
            comparison("the same, an epoch without the pass", "s", [row[1:] for row in rows], 200),
        ],
    )


def _turn(bench: Bench) -> tuple[float, float, float]:
    """Seconds of the pass, of an epoch on the cache, and of an epoch of the reference."""
    ours: list[float] = []
    theirs: list[float] = []
    fresh, other = bench.fresh_stage(), bench.fresh_stage()

    def cached() -> None:
        for number in range(EPOCHS):  # a single one takes a few hundredths of a second
            ours.extend(bench.epoch(bench.cache.epoch(number), *fresh, texts_each_step=False))

    def reference() -> None:
        theirs.extend(bench.epoch(bench.rerun_towers(), *other, texts_each_step=True))

    seconds = seconds_of(bench.fill_cache), seconds_of(cached) / EPOCHS, seconds_of(reference)
    difference = max(abs(a - b) for a, b in zip(ours[: len(theirs)], theirs, strict=True))
    print(
        "pass {:.1f} s, epoch {:.3f} s, reference epoch {:.1f} s".format(*seconds),
        f"losses {difference:.1e} apart",
        sep=", ",
        flush=True,
    )
    if difference > 1e-4:
        raise SystemExit("stage2_cache: ours does not compute what the reference computes")
    return seconds


if __name__ == "__main__":
    main()
