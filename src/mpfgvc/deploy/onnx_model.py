"""An ONNX model on its way to the file: tidied, made smaller, and given its description.

    fp16    weights are stored in float16 and turned to float32 when the model is loaded: half the file, the
            speed of fp32 and nearly its answers. On a CPU, products in float16 would be slower.
    int8    the products that read from a norm (queries, keys and values, and the first layer of each MLP)
            in 8 bits: weights channel by channel, tokens by ranges that were measured once, on training
            photographs. The rest stays in float32, as measured (benchmarks/LOG.md): the second layers of
            the MLPs read GELUs, whose few large values 8 bits cannot hold, and the results of a product
            are not rounded, because that costs accuracy and saves nothing.

onnxruntime's `quantize_dynamic` is not used: it takes the ranges from the whole batch, so what is
answered about a photograph would depend on its neighbours.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mpfgvc.errors import OutputError
from mpfgvc.inference.engines import INPUT
from mpfgvc.inference.exported import KEY, ExportedDescription

MOST_BYTES = 2**31 - 1
"""What one protobuf message can hold."""
_SMALLEST = 1024
"""Numbers that a matrix must have to be stored in float16; norms and biases stay as they are."""


def tidied(model: Any) -> Any:
    """The model without what torch notes at each node: where its code was on this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    return model


def described(model: Any, description: ExportedDescription) -> bytes:
    """The bytes of the file. Raises OutputError for a model of more than 2 GB."""
    from onnx import helper

    if (size := model.ByteSize()) > MOST_BYTES:
        hint = "use --precision fp16"
        raise OutputError(f"an ONNX file holds at most {MOST_BYTES} bytes, this model needs {size}; {hint}")
    model.producer_name, model.producer_version = "mpfgvc", description.version
    helper.set_model_props(model, {KEY: description.to_json()})
    data: bytes = model.SerializeToString()
    return data


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


def quantised(model: Any, pixels: Sequence[np.ndarray]) -> Any:
    """The model in int8, calibrated on prepared photographs, each uint8 (height, width, 3)."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet_root(), tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (str(Path(folder) / name) for name in ("plain", "ready", "small"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            small,
            _Calibration(pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=_readers_of_norms(onnx.load(ready)),
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return onnx.load(small)


@contextmanager
def _quiet_root() -> Iterator[None]:
    """Silence the root logger, to which onnxruntime's quantisation writes advice; it is the caller's own."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _readers_of_norms(model: Any) -> list[str]:
    """Names of the products of a norm's output and a constant."""
    norms = {node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[0] in norms and node.input[1] in constants
    ]


class _Calibration:
    """Photographs one by one, as onnxruntime asks for them."""

    def __init__(self, pixels: Sequence[np.ndarray]):
        self._pixels = iter(pixels)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._pixels, None)
        return None if image is None else {INPUT: image[None]}

    def __iter__(self) -> "_Calibration":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if (image := self.get_next()) is None:
            raise StopIteration
        return image
