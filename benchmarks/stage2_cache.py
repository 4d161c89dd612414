"""Stage 2 on embeddings computed once, against towers that are run again in every step.

    python benchmarks/stage2_cache.py --data.root ../shared/data/CUB_200_2011 \
        --model.image_tower.weights ../shared/weights/vit_tiny_patch16_224.safetensors

ViT-tiny at 224 px on CUB-27, batch 64, fp32. In turns are measured the one pass that fills the cache,
20 epochs on it, and one epoch of the reference, of which 20 follow by arithmetic. The losses of the
reference's epoch must equal those of our first, as the views are deterministic.
"""

import copy
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from mpfgvc.config_io import load_config, parse_overrides, recipe
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import epoch_order, evaluation_loader, worker_count
from mpfgvc.data.transforms import test_transform
from mpfgvc.devices import start_fabric
from mpfgvc.inference.embeddings import embed_photos
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC
from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.optim import build_optimizer
from mpfgvc.training.run import preprocessing_of
from mpfgvc.training.stages import Stage2
from side_by_side import comparison, report

EPOCHS, TURNS = 20, 3
Batches = Iterator[tuple[Tensor, Tensor]]


class Bench:
    """The parts that both ways share."""

    def __init__(self) -> None:
        overrides = {"data.dataset": "cub", "precision": "fp32"} | parse_overrides(sys.argv[1:])
        self.config = load_config(recipe("vit_tiny"), overrides=overrides)
        photos = read_photos(self.config.data, seed=0)
        self.samples = photos.subset("train")
        self.network = MPFGVC.from_config(self.config.model, photos.classes)
        preprocessing = preprocessing_of(self.network.image_encoder.tower, self.config)
        self.transform = test_transform(preprocessing)
        self.size = self.config.stage2.batch_size

    def fill_cache(self) -> EmbeddingLoader:
        """One pass over the photographs, workers and all."""
        batches = evaluation_loader(
            self.samples,
            self.transform,
            batch_size=32,
            workers=worker_count(None, model_on_cpu=True),
            on_error="raise",
        )
        encoder = self.network.image_encoder
        embeddings = embed_photos(encoder, [batches], fabric=start_fabric(self.config))
        return EmbeddingLoader(embeddings, batch_size=self.size, seed=0)

    def rerun_towers(self) -> Batches:
        """The same batches, each through decoding and the image tower."""
        order = epoch_order(len(self.samples), batch_size=self.size, seed=0, epoch=0)
        chosen = [self.samples[index] for batch in order for index in batch]
        loader = evaluation_loader(
            chosen, self.transform, batch_size=self.size, workers=worker_count(None, model_on_cpu=True)
        )
        for batch in loader:
            with torch.inference_mode():
                embedding = self.network.image_encoder(batch.images).embedding
            yield embedding.clone(), batch.labels

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


def main() -> None:
    bench = Bench()
    rows = []
    for _ in range(TURNS):
        started = time.perf_counter()
        cache = bench.fill_cache()
        filled = time.perf_counter() - started
        fresh, other = bench.fresh_stage(), bench.fresh_stage()
        started = time.perf_counter()
        ours, *_ = [bench.epoch(cache.epoch(n), *fresh, texts_each_step=False) for n in range(EPOCHS)]
        epoch = (time.perf_counter() - started) / EPOCHS  # one alone is a few hundredths of a second
        started = time.perf_counter()
        reference = bench.epoch(bench.rerun_towers(), *other, texts_each_step=True)
        rows.append((filled, epoch, time.perf_counter() - started))
        difference = max(abs(a - b) for a, b in zip(ours, reference, strict=True))
        seconds = "pass {:.1f} s, epoch {:.3f} s, reference epoch {:.1f} s".format(*rows[-1])
        print(f"{seconds}, losses {difference:.1e} apart", flush=True)
        if difference > 1e-4:
            raise SystemExit("stage2_cache: ours does not compute what the reference computes")
    whole = [(filled + EPOCHS * epoch, EPOCHS * reference) for filled, epoch, reference in rows]
    report(
        "stage2_cache",
        [
            comparison(f"stage 2, {EPOCHS} epochs on CUB-27, the pass included", "s", whole, 15),
            comparison("the same, an epoch without the pass", "s", [row[1:] for row in rows], 200),
        ],
    )


if __name__ == "__main__":
    main()
