"""Words that the command line, settings, saved models and the runtime have in common.

Apart from `config`, because neither `mpfgvc --help` nor an exported model needs pydantic.
"""

from typing import Literal

VERSION = "0.1.0"
"""The version of mpfgvc and of mpfgvc-runtime."""
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
"""bf16: products in bfloat16 where autocast takes it; weights stay in float32 in either case."""
PrecisionSetting = Literal["auto", "fp32", "bf16"]
Sharding = Literal["none", "full"]
Source = Literal["fusion", "vision", "text"]
"""Where logits come from: the fusion module (the paper), the classifier on V, or the class texts."""
Resize = Literal["short", "squash"]
"""How a photograph is scaled: until it just covers a size, or to exactly that size."""
Engine = Literal["onnxruntime", "openvino"]
"""What runs an exported model."""
RAY = "ray"
"""The engine that runs a trained model on a cluster."""
CLASS = "class"
"""The level of an answer that is a class, not a group of the taxonomy."""
ExportPrecision = Literal["fp32", "fp16", "int8"]
"""The precision of an exported model. fp16: stored weights only; int8: the products that read from a norm."""
