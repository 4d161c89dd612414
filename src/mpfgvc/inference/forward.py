"""How a trained network is run: on which device, in which precision, and how many images at a time.

Prediction, evaluation, explanation and the embeddings of stage 2 all come through
here, so they give the same answers, bit for bit, for the same batches.

On a CPU the image encoder gets a few images at a time, as many as the cache holds:
activations of a whole batch would be written to main memory and freed after every
layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from PIL.Image import Image
from torch import Tensor

from mpfgvc.config import DataConfig
from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.data.preprocessing import Preprocessing, prepare
from mpfgvc.distributed import find_device, gather_in_order, send
from mpfgvc.errors import check_known
from mpfgvc.inference.answering import ModelFacts
from mpfgvc.inference.backends import Outputs, Pixels, check_finite
from mpfgvc.inference.saved_model import SavedModel, load_model
from mpfgvc.model.image_encoder import EncodedImages, ImageEncoder
from mpfgvc.model.network import MPFGVC, SOURCES, Output
from mpfgvc.model.towers.image_tower import TowerInput
from mpfgvc.terms import Precision


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and in which precision a network runs."""

    device: torch.device
    precision: Precision = "fp32"

    @classmethod
    def of(cls, fabric: Fabric) -> "Compute":
        """As a launched Fabric computes; training uses it for its validation and its embeddings."""
        bf16 = str(fabric.strategy.precision.precision).startswith("bf16")
        return cls(device=fabric.device, precision="bf16" if bf16 else "fp32")

    def autocast(self) -> torch.autocast:
        """The context in which a network computes in this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A network, how it runs, and the name of its model in errors."""

    network: MPFGVC
    compute: Compute
    model: str = "the model"

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "batch 3 height width"], names: Sequence[str]) -> Output:
        """What the network says about normalised images, which `names` are the photographs of.

        Raises CheckpointError that names the model and the photograph where a logit is not finite.
        """
        output = forward_in_parts(self.network, images, self.compute)
        self.check(output, names)
        return output

    def check(self, output: Output, names: Sequence[str]) -> None:
        """Raise CheckpointError that names the first photograph of which a logit is not finite."""
        finite = torch.stack([getattr(output, source).isfinite().all(dim=1) for source in SOURCES]).all(dim=0)
        hint = "restore them or train again"
        check_finite(finite.cpu().numpy(), names, model=self.model, hint=hint)


class TorchBackend:
    """The backend of a trained network (backends.py). It can be copied, pickled and sent to another process.

    On a CPU the network is packed for inference, in place (packed_linear.py), unless it is trained further.
    Raises ConfigError for a device or a precision that is not there.
    """

    def __init__(
        self,
        saved: SavedModel,
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        packed: bool = True,
    ) -> None:
        check_known("precision", precision, get_args(Precision))
        chosen = torch.device(find_device(str(device)))
        network = saved.network
        self.on_cpu = chosen.type == "cpu"
        if self.on_cpu and packed:
            network.image_encoder.tower.pack(torch.bfloat16 if precision == "bf16" else torch.float32)
        self.network = network.to(chosen).eval()
        self.compute = Compute(device=chosen, precision=precision)
        self.inference = Inference(network=self.network, compute=self.compute, model=saved.name)
        self.preprocessing = saved.preprocessing
        self.width, self.how = network.image_encoder.tower.width, str(precision)
        self.facts = ModelFacts(
            name=saved.name,
            classes=network.classes,
            digest=saved.digest,
            prediction=network.prediction,
            calibration=saved.calibration,
            taxonomy=saved.taxonomy,
        )

    def prepare(self, photograph: Image) -> Pixels:
        """The normalised pixels, float32 (3, height, width)."""
        return prepare(photograph, self.preprocessing)

    def run(self, pixels: Pixels, names: Sequence[str]) -> Outputs:
        """The outputs for prepared photographs. Raises CheckpointError where a logit is not finite."""
        output = self.inference(torch.from_numpy(pixels), names)
        logits = (getattr(output, source).float() for source in ("vision", "text", "fusion"))
        parts = (*logits, output.embedding.float(), output.kept)
        return Outputs(*(part.cpu().numpy() for part in parts))

    def trained(self) -> Self:
        """This backend."""
        return self


def load_backend(model: str | Path, *, device: str, precision: Precision) -> TorchBackend:
    """The backend of a saved model (saved_model.py). A wrong option is refused before anything is read."""
    check_known("precision", precision, get_args(Precision))
    found = find_device(device)
    return TorchBackend(load_model(model), device=found, precision=precision)


@torch.inference_mode()
def forward_in_parts(network: MPFGVC, images: Float[Tensor, "batch 3 height width"], compute: Compute) -> Output:
    """The network's output for normalised images; nothing checks it."""
    encoded = encode_in_parts(network.image_encoder, images, compute)
    with compute.autocast():
        return network.classify(encoded)


@torch.inference_mode()
def encode_in_parts(
    encoder: ImageEncoder, images: Float[Tensor, "batch 3 height width"], compute: Compute
) -> EncodedImages:
    """The embeddings of normalised images; on a CPU `encoder.images_at_once` at a time."""
    images = send(images, compute.device)
    at_once = encoder.images_at_once if compute.device.type == "cpu" else len(images)
    with compute.autocast():
        parts = [encoder(part) for part in torch.split(images, max(1, at_once))]
    return EncodedImages(*map(torch.cat, zip(*parts, strict=True)))


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
    encoder: ImageEncoder, loader: EvaluationLoader, *, fabric: Fabric, seen: Callable[[int], None] | None = None
) -> Embeddings:
    """V of all the photographs of a loader, over all processes together, in the training's precision.

    In stage 2 both towers are constants, so one forward pass replaces one for every epoch.
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


def preprocessing_of(tower: TowerInput, settings: DataConfig) -> Preprocessing:
    """How test photographs are prepared: as the tower's own were, where the settings leave it open."""
    return Preprocessing(
        image_size=tower.image_size,
        resize=settings.resize,
        crop_ratio=settings.crop_ratio or tower.crop_ratio,
        mean=tower.mean,
        std=tower.std,
        interpolation=tower.interpolation,  # type: ignore[arg-type]
    )
