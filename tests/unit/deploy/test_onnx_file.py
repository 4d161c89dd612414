"""The metadata of an ONNX file, read without a library: against onnx's own writer, and from broken files."""

import re
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.deploy.onnx_file import read_metadata
from mpfgvc.errors import CheckpointError

onnx = pytest.importorskip("onnx")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model of one node with metadata, one entry longer than a byte can count."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
    weights = numpy_helper.from_array(np.ones(300, np.float32), "weights")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result], [weights])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"author": "somebody", "mpfgvc": "Ä" * 500})
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_metadata_are_those_that_onnx_wrote(file: Path) -> None:
    assert read_metadata(file) == {"mpfgvc": "Ä" * 500, "author": "somebody"}


def test_a_file_that_was_cut_anywhere_has_no_metadata_of_ours(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.onnx"
    said = set()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            assert "mpfgvc" not in read_metadata(cut)
        except CheckpointError as error:
            said.add(re.sub(r"^\S+ ", "", str(error)))
    assert "is cut, or it is not an ONNX file; copy it again, or export it again" in said


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" + bytes(99), b"a text file\n" * 9]
)
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.onnx is (not an ONNX file|cut)"):
        read_metadata(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*none\.onnx: No such file"):
        read_metadata(tmp_path / "none.onnx")
