"""Run the frozen image tower once and keep the embeddings; stage 2 trains on them.

In stage 2 both towers are constants, so V of a photograph under a deterministic
transform never changes: one forward pass replaces one for every epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor

from mpfgvc.data.loading import Batches, epoch_order, steps_per_epoch
from mpfgvc.launch import send
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.parallel import gather_in_order


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """V of some photographs with their labels, in the order of the photographs, on the CPU."""

    values: Float[Tensor, "photos width"]
    labels: Int[Tensor, " photos"]

    def __len__(self) -> int:
        return len(self.labels)


@torch.inference_mode()
def embed_photos(
    encoder: ImageEncoder, batches: Batches, *, fabric: Fabric, views: tuple[str, ...] = ("plain",)
) -> Embeddings:
    """V of all the photographs of an evaluation loader, over all processes together.

    `views` are `plain` and `mirrored`; the photographs of a second view follow those of the first.
    """
    encoder.eval()
    values: dict[str, list[Tensor]] = {view: [] for view in views}
    labels, indices = [], []
    for batch in batches:
        images = send(batch.images, fabric.device)
        for view in views:
            with fabric.autocast():
                embedding = encoder(images.flip(-1) if view == "mirrored" else images).embedding
            values[view].append(embedding.float().cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
    order = torch.cat(indices)
    gathered = [gather_in_order(torch.cat(values[view]), order) for view in views]
    all_labels = gather_in_order(torch.cat(labels), order)
    return Embeddings(values=torch.cat(gathered), labels=all_labels.repeat(len(views)))


class EmbeddingLoader:
    """Shuffled batches of embeddings, with the interface of a training loader.

    Each process holds them all and takes every `world`-th of a batch from `rank` on.
    """

    def __init__(self, embeddings: Embeddings, *, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        self.embeddings = embeddings
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world = rank, world
        self.steps = steps_per_epoch(len(embeddings), batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings and labels of an epoch's batches from `first_step` on."""
        batches = epoch_order(
            len(self.embeddings), batch_size=self.batch_size, seed=self.seed, epoch=epoch, world=self.world
        )
        for indices in batches[first_step:]:
            own = indices[self.rank :: self.world]
            yield self.embeddings.values[own], self.embeddings.labels[own]
