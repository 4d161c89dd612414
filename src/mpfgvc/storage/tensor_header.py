"""What a safetensors file holds, from its header only, so that a file of any size is checked in no time."""

from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open


class StoredTensor(NamedTuple):
    """The shape of a tensor in a file, and its type by the format's own name, such as F32."""

    shape: tuple[int, ...]
    dtype: str


def read_header(path: str | Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name. Raises OSError or SafetensorError."""
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {
            name: StoredTensor(tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()
        }
