"""Run the frozen image tower once and keep the embeddings; stage 2 trains on them.

In stage 2 both towers are constants, so V of a photograph under a deterministic
transform never changes: one forward pass replaces one for every epoch. A random
transform becomes deterministic by a seed, so a few random views of each
photograph can be kept as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor

from mpfgvc.data.loading import Batches
from mpfgvc.devices import gather_in_order, send
from mpfgvc.model.image_encoder import ImageEncoder


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """V of some photographs with their labels, in the order of the photographs, on the CPU.

    With several views of each, the photographs of a second view follow those of the first.
    """

    values: Float[Tensor, "photos width"]
    labels: Int[Tensor, " photos"]

    def __len__(self) -> int:
        return len(self.labels)


def embed_photos(encoder: ImageEncoder, loaders: Sequence[Batches], *, fabric: Fabric) -> Embeddings:
    """V of all the photographs of evaluation loaders, one after the other, over all processes together."""
    encoder.eval()
    parts = [_embed(encoder, batches, fabric) for batches in loaders]
    return Embeddings(
        values=torch.cat([part.values for part in parts]), labels=torch.cat([part.labels for part in parts])
    )


@torch.inference_mode()
def _embed(encoder: ImageEncoder, batches: Batches, fabric: Fabric) -> Embeddings:
    nothing = torch.zeros(0, dtype=torch.long)  # a process may have no photograph
    values, labels, indices = [torch.zeros(0, encoder.tower.width)], [nothing], [nothing]
    for batch in batches:
        if not len(batch.labels):
            continue
        with fabric.autocast():
            embedding = encoder(send(batch.images, fabric.device)).embedding
        values.append(embedding.float().cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
    order = torch.cat(indices)
    return Embeddings(
        values=gather_in_order(torch.cat(values), order), labels=gather_in_order(torch.cat(labels), order)
    )
