"""Run the frozen image tower once and keep the embeddings; stage 2 trains on them.

In stage 2 both towers are constants, so V of a photograph under a deterministic
transform never changes: one forward pass replaces one for every epoch. A random
transform becomes deterministic by a seed, so a few random views of each
photograph can be kept as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor

from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.distributed import gather_in_order
from mpfgvc.inference.forward import Compute, encode_in_parts
from mpfgvc.model.image_encoder import ImageEncoder


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """V of some photographs, in their order, on the CPU; `indices` say which of those that were asked for.

    Unreadable photographs are left out.
    """

    values: Float[Tensor, "photographs width"]
    indices: Int[Tensor, " photographs"]

    def __len__(self) -> int:
        return len(self.indices)


@torch.inference_mode()
def embed_photos(
    encoder: ImageEncoder,
    loader: EvaluationLoader,
    *,
    fabric: Fabric,
    seen: Callable[[int], None] | None = None,
) -> Embeddings:
    """V of all the photographs of a loader, over all processes together, in the training's precision.

    `seen` is called with the number of photographs of this process that each batch embedded.
    """
    encoder.eval()
    compute = Compute.of(fabric)
    values = [torch.zeros(0, encoder.tower.width)]  # a process may have no photograph
    indices: list[int] = []
    for batch in loader:
        if not batch.indices:
            continue
        embedding = encode_in_parts(encoder, batch.images, compute).embedding
        values.append(embedding.float().cpu())
        indices += batch.indices
        if seen is not None:
            seen(len(batch.indices))
    order = torch.tensor(indices, dtype=torch.long)
    return Embeddings(values=gather_in_order(torch.cat(values), order), indices=gather_in_order(order, order))
