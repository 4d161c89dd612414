"""What an exported file says of itself is read strictly."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.exported import ExportedDescription

DESCRIPTION = ExportedDescription(
    version="0.1.0",
    model="ab" * 32,
    image_tower="test_vit",
    classes=("a wren", "caf\udce9", "鳥"),
    prediction="text",
    temperature=0.07,
    precision="int8",
    preprocessing=Preprocessing(image_size=(32, 48), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
)


def test_a_description_comes_back_as_it_was() -> None:
    assert ExportedDescription.read(DESCRIPTION.to_json(), "m.onnx") == DESCRIPTION
    assert DESCRIPTION.to_json().isascii()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"format": 2}, r"m\.onnx has format 2, this version reads 1; use the version of mpfgvc that wrote it"),
        ({"prediction": "both"}, r"m\.onnx: its metadata are damaged: prediction must be one of"),
        ({"temperature": "0.07"}, "temperature must be a finite number"),
        ({"more": 1}, '"more" is not a known field'),
        ({"preprocessing": {}}, "preprocessing.image_size is missing"),
    ],
)
def test_any_other_document_is_refused_in_one_line(change: dict[str, Any], line: str) -> None:
    text = json.dumps(asdict(DESCRIPTION) | change)
    with pytest.raises(CheckpointError, match=line):
        ExportedDescription.read(text, "m.onnx")
    with pytest.raises(CheckpointError, match="its metadata are damaged"):
        ExportedDescription.read(text[:-1], "m.onnx")
