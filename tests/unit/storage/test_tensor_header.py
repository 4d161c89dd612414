"""What a safetensors file holds, from its header."""

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mpfgvc.storage.tensor_header import StoredTensor, read_header


def test_each_tensor_has_its_shape_and_type(tmp_path: Path) -> None:
    tensors = {
        "weight": torch.zeros(2, 3),
        "ids": torch.arange(5),
        "scale": torch.tensor(1.0),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors") == {
        "weight": StoredTensor((2, 3), "F32"),
        "ids": StoredTensor((5,), "I64"),
        "scale": StoredTensor((), "F32"),
    }


def test_what_is_no_such_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"cut")
    with pytest.raises(SafetensorError):
        read_header(tmp_path / "a.safetensors")
