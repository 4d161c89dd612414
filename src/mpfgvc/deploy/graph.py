"""The network as one graph: uint8 pixels in, logits out, and all that depends on text alone a constant.

Constants are the directions of the class texts for the text logits, and their keys and values in the fusion
module. The graph normalises the pixels itself, so what runs it needs no numbers but those of the image.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import ConfigError, one_line
from mpfgvc.inference.engines import INPUT, OUTPUTS
from mpfgvc.model.fusion import TextMemory
from mpfgvc.model.network import MPFGVC

OPSET = 20
"""The version of ONNX's operators: the first with GELU, understood by onnxruntime since 1.17."""
_NOISY = ("onnxscript", "onnx_ir", "torch.onnx")


class ExportedNetwork(nn.Module):
    """A deployed network between the pixels of prepared photographs and its logits. It is a copy."""

    def __init__(self, network: MPFGVC, preprocessing: Preprocessing):
        super().__init__()
        self.network = copy.deepcopy(network.deployed()).eval().requires_grad_(False)
        texts = self.network.text()
        memory = self.network.fusion.memory(texts)
        self.mean: Tensor
        self.std: Tensor
        self.directions: Tensor
        self.keys: Tensor
        self.values: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1))
        self.register_buffer("directions", F.normalize(texts, dim=-1))
        self.register_buffer("keys", memory.keys)
        self.register_buffer("values", memory.values)
        # What read the texts has done its work; a graph that kept it would store it.
        for owner, name in (
            (self.network, "text"),
            (self.network.fusion, "text_key"),
            (self.network.fusion, "text_value"),
        ):
            setattr(owner, name, nn.Identity())

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> dict[str, Tensor]:
        """The outputs by their names (description.OUTPUTS): a file of torch.export knows no named tuples."""
        network = self.network
        pixels = images.permute(0, 3, 1, 2).float() / 255
        encoded = network.image_encoder((pixels - self.mean) / self.std)
        logits = (
            network.classifier(encoded.embedding),
            network.cosine_logits(encoded.embedding, self.directions),
            network.fusion.classify(encoded.embedding, TextMemory(self.keys, self.values)),
        )
        return dict(zip(OUTPUTS, (*logits, encoded.embedding, encoded.kept), strict=True))


@torch.no_grad()
def onnx_bytes(network: ExportedNetwork, example: Tensor) -> bytes:
    """The graph as an ONNX model, for any batch; `example` is two images.

    Raises ConfigError for a network that cannot be exported, and if a library is missing.
    """
    with _quiet(), _refusal():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=_any_batch(),
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch gave no program")
        model: bytes = program.model_proto.SerializeToString()
        return model


def _any_batch() -> dict[str, dict[int, object]]:
    return {INPUT: {0: torch.export.Dim("batch")}}


@contextmanager
def _refusal() -> Iterator[None]:
    """Turn what torch's exporter raises into one line."""
    try:
        yield
    except ImportError as error:
        hint = "pip install 'mpfgvc[export]'"
        raise ConfigError(f"export needs {error.name}, which is not installed; {hint}") from None
    except Exception as error:  # the exporter wraps whatever an operation raised
        reason = one_line(error.__cause__ or error)
        raise ConfigError(f"torch cannot export this network: {reason}; try another tower") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, whose notes are about its own steps."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
