"""The network as one ONNX graph: uint8 pixels in, logits out, and all that depends on text alone a constant.

Constants are the directions of the class texts for the text logits, and their keys and values in the fusion
module. The graph normalises the pixels itself, so what runs it needs no numbers but those of the image.

    fp16    weights are stored in float16 and turned to float32 when the model is loaded: half the file, the
            speed of fp32 and nearly its answers. On a CPU, products in float16 would be slower.
    int8    the products that read from a norm (queries, keys and values, and the first layer of each MLP)
            in 8 bits: weights channel by channel, tokens by ranges that were measured once, on training
            photographs. The rest stays in float32, as measured (benchmarks/LOG.md): 8 bits cannot hold the
            few large values of a GELU. onnxruntime's `quantize_dynamic` takes the ranges from the batch, so
            an answer would depend on its neighbours.
"""

import copy
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import ConfigError, OutputError, one_line
from mpfgvc.inference.description import ExportedDescription, as_json
from mpfgvc.inference.exported import INPUT, KEY, OUTPUTS, SEAL
from mpfgvc.model.fusion import TextMemory
from mpfgvc.model.network import MPFGVC

OPSET = 20
"""The version of ONNX's operators: the first with GELU, understood by onnxruntime since 1.17."""
_NOISY = ("", "onnxscript", "onnx_ir", "torch.onnx")
MOST_BYTES = 2**31 - 1
"""What one protobuf message can hold."""
_SMALLEST = 1024
"""Numbers that a matrix must have to be stored in float16; norms and biases stay as they are."""


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
        """The outputs by their names (exported.py)."""
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
def onnx_bytes(network: ExportedNetwork, example: Tensor) -> Any:
    """The graph as an ONNX model, for any batch; `example` is two images.

    Raises ConfigError for a network that cannot be exported, and if a library is missing.
    """
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except ImportError as error:
        hint = "pip install 'mpfgvc[export]'"
        raise ConfigError(f"export needs {error.name}, which is not installed; {hint}") from None
    except Exception as error:  # the exporter wraps whatever an operation raised
        reason = one_line(error.__cause__ or error)
        raise ConfigError(f"torch cannot export this network: {reason}; try another tower") from None
    return program.model_proto  # type: ignore[union-attr]  # None only in a mode that is not asked for


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter and onnxruntime's quantisation, whose notes are about their own steps."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def described(model: Any, description: ExportedDescription) -> bytes:
    """The bytes of the file with their digest, without what torch notes at each node: where its code was here.

    Raises OutputError for a model of more than 2 GB.
    """
    from onnx import helper

    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]

    if (size := model.ByteSize()) > MOST_BYTES:
        hint = "use --precision fp16"
        raise OutputError(f"an ONNX file holds at most {MOST_BYTES} bytes, this model needs {size}; {hint}")
    model.producer_name, model.producer_version = "mpfgvc", description.version
    helper.set_model_props(model, {KEY: as_json(description)})
    data: bytes = model.SerializeToString()
    return data + SEAL + hashlib.sha256(data).hexdigest().encode()


def with_half_weights(model: Any) -> Any:
    """The model with its large tensors in float16, each turned to float32 by a node of its own."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        small = len(tensor.dims) < 2 or np.prod(tensor.dims) < _SMALLEST
        if tensor.data_type != TensorProto.FLOAT or small:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def quantised(model: Any, pixels: Iterator[np.ndarray]) -> Any:
    """The model in int8, calibrated on prepared photographs, each uint8 (height, width, 3)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photographs(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(pixels, None)
            return None if image is None else {INPUT: image[None]}

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (str(Path(folder) / name) for name in ("plain", "ready", "small"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            small,
            Photographs(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=_readers_of_norms(onnx.load(ready)),
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return onnx.load(small)


def _readers_of_norms(model: Any) -> list[str]:
    """Names of the products of a norm's output and a constant."""
    norms = {node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[0] in norms and node.input[1] in constants
    ]
