"""Standard output takes every name in every encoding, stays valid JSON, and ends quietly or in one line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfgvc.cli import output
from mpfgvc.errors import ConfigError, OutputError

ANY_TEXT = st.text(alphabet=st.characters() | st.characters(categories=["Cs", "Zl", "Zp"]))


class Stream:
    """Stands for standard output in an encoding; what was written is in `value`."""

    def __init__(self, encoding: str):
        self.bytes = io.BytesIO()
        self.text = io.TextIOWrapper(self.bytes, encoding=encoding, newline="")

    @property
    def value(self) -> bytes:
        return self.bytes.getvalue()


def _stdout(monkeypatch: pytest.MonkeyPatch, encoding: str) -> Stream:
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream.text)
    output.prepare_streams()
    return stream


@pytest.mark.parametrize(
    ("encoding", "name", "written"),
    [
        ("utf-8", "café 鳥", "café 鳥".encode()),
        ("utf-8", "caf\udce9", b"caf\xe9"),
        ("utf-8", "x\ud800", b"x\\ud800"),
        ("ascii", "café", b"caf\\xe9"),
        ("ascii", "caf\udce9", b"caf\xe9"),
        ("cp1252", "café 鳥", b"caf\xe9 \\u9ce5"),
        ("cp1252", "\udce9\ud800\udcff", b"\xe9\\ud800\xff"),
    ],
)
def test_text_keeps_the_bytes_of_names_and_escapes_what_the_encoding_lacks(
    monkeypatch: pytest.MonkeyPatch, encoding: str, name: str, written: bytes
) -> None:
    stream = _stdout(monkeypatch, encoding)
    output.write(name)
    assert stream.value == written


@given(text=ANY_TEXT)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_json_is_valid_utf_8_and_gives_every_text_back(encoding: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stream = _stdout(monkeypatch, encoding)
        output.write_json({"path": text})
        output.write_json_line({"path": text})
    document, line = stream.value.decode("utf-8").rsplit("}\n{", 1)
    assert json.loads(document + "}") == json.loads("{" + line) == {"path": text}
    assert len(("{" + line).splitlines()) == 1


def test_a_table_aligns_numbers_right_and_names_left_whatever_their_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _stdout(monkeypatch, "utf-8")
    rows = [("새", "7.5", "a note"), ("a\x1bb", "100.0", "")]
    output.write_table(["class", "top-1 %", "note"], rows, text=(0, 2))
    assert stream.value.decode().splitlines() == [
        "class   top-1 %  note",
        "새          7.5  a note",
        "a\\x1bb    100.0",
    ]


def test_json_of_utf_8_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _stdout(monkeypatch, "utf-8")
    output.write_json_line("café")
    assert stream.value == '"café"\n'.encode()


def test_a_name_of_other_bytes_comes_back_from_json_as_these_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _stdout(monkeypatch, "utf-8")
    output.write_json(os.fsdecode(b"caf\xe9.jpg"))
    assert os.fsencode(json.loads(stream.value)) == b"caf\xe9.jpg"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_is_written_element_by_element(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    stream = _stdout(monkeypatch, "utf-8")
    with output.JsonArray() as array:
        for number in range(count):
            array.add({"number": number})
            assert f'"number": {number}'.encode() in stream.value
    assert json.loads(stream.value) == [{"number": number} for number in range(count)]


def _stopped(error: BaseException, *documents: int) -> None:
    with output.JsonArray() as array:
        for document in documents:
            array.add(document)
        raise error


def test_a_stopped_array_is_closed_and_a_refused_one_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, documents, written in (
        (KeyboardInterrupt(), [1], b"[\n1\n]\n"),
        (KeyboardInterrupt(), [], b"[]\n"),
        (ConfigError("refused"), [1], b"[\n1\n]\n"),
        (ConfigError("refused"), [], b""),
    ):
        stream = _stdout(monkeypatch, "utf-8")
        with pytest.raises(type(error)):
            _stopped(error, *documents)
        assert stream.value == written


def test_a_closed_standard_output_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output: it is closed"):
        output.write("x")


WRITE_MUCH = """
import sys
from mpfgvc.cli import main, output, train
from dataclasses import replace
def write(options):
    for number in range(100_000):
        output.write_line(f"line {number}")
train.COMMAND = replace(train.COMMAND, run=write)
sys.exit(main.main(["train"]))
"""


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    command = [sys.executable, "-c", WRITE_MUCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", WRITE_MUCH]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mpfgvc: cannot write to standard output: No space left on device")
    assert done.stderr.count("\n") == 1
