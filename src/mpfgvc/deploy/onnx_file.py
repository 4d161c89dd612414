"""The metadata of an ONNX file, without reading its weights and without a library.

An ONNX file is one protobuf message. Only its outermost fields are looked at: a key, and for all but
numbers the length of what follows, which is skipped. So a file that was cut, or that is no ONNX file at all,
is named as such before an engine sees it, whichever engine that is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mpfgvc.errors import CheckpointError

_GRAPH, _METADATA = 7, 14  # fields of ModelProto in onnx.proto
_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto
_KNOWN = {1, 2, 3, 4, 5, 6, _GRAPH, 8, _METADATA, 20, 25, 26}
_NUMBER, _BYTES = 0, 2  # wire types
_MOST_METADATA = 64 * 2**20
Field = tuple[int, bytes]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file. Raises CheckpointError for a file that is missing, cut or no ONNX."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            fields = list(_fields(file, size, wanted={_METADATA}))
            entries = [dict(_entry(content)) for number, content in fields if number == _METADATA]
            if _GRAPH not in {number for number, _ in fields}:
                raise ValueError("it has no graph")
            return {each[_KEY].decode(): each[_VALUE].decode() for each in entries}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check the path") from None
    except EOFError:
        hint = "copy it again, or export it again"
        raise CheckpointError(f"{path} is cut, or it is not an ONNX file; {hint}") from None
    except (ValueError, KeyError) as error:
        reason = f"is not an ONNX file: {error}"
        raise CheckpointError(f"{path} {reason}; make one with mpfgvc export") from None


def _entry(content: bytes) -> Iterator[Field]:
    from io import BytesIO

    return _fields(BytesIO(content), len(content), wanted={_KEY, _VALUE})


def _fields(file: IO[bytes], size: int, *, wanted: set[int]) -> Iterator[Field]:
    """Number and content of each field; without the content of those that are not wanted.

    Raises EOFError where the file ends inside a field, ValueError for what is no field of a model.
    """
    while file.tell() < size:
        key = _varint(file)
        number, kind = key >> 3, key & 7
        if number not in _KNOWN or kind not in (_NUMBER, _BYTES):
            raise ValueError("it has fields that no model has")
        if kind == _NUMBER:
            _varint(file)
            continue
        length = _varint(file)
        if file.tell() + length > size:
            raise EOFError
        if number in wanted and length > _MOST_METADATA:
            raise ValueError("its metadata are too large")
        content = file.read(length) if number in wanted else b""
        if number not in wanted:
            file.seek(length, 1)
        yield number, content


def _varint(file: IO[bytes]) -> int:
    """A number of protobuf: seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("it has a number that is too long")
