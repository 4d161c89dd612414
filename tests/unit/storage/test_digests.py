"""What is damaged on the disk is refused; a kill at any moment leaves a file that is not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpfgvc.errors import CheckpointError
from mpfgvc.storage.digests import check_digest, digest_path, write_with_digest

CONTENT = bytes(range(256)) * 75


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    write_with_digest(path, CONTENT)
    return path


def test_a_whole_file_matches_its_digest(file: Path) -> None:
    assert check_digest(file)
    assert file.read_bytes() == CONTENT
    assert {path.name for path in file.parent.iterdir()} == {"checkpoint.pt", "checkpoint.pt.sha256"}


def test_the_digest_is_that_of_sha256sum(file: Path) -> None:
    assert digest_path(file).read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  checkpoint.pt\n"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
@pytest.mark.parametrize("name", ["plain", "two\nlines", "back\\slash", "Café"])
def test_sha256sum_accepts_the_digest_file_whatever_the_name(tmp_path: Path, name: str) -> None:
    write_with_digest(tmp_path / name, CONTENT)
    assert check_digest(tmp_path / name)
    command = ["sha256sum", "--check", "--strict", digest_path(tmp_path / name).name]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1] + bytes([content[-1] ^ 0x80]),
        lambda content: content[:4096] + bytes(4096) + content[8192:],
        lambda content: content[:-1],
        lambda content: content[:4096],
        lambda _: b"",
        lambda content: content + b"\0",
    ],
    ids=["first bit", "last bit", "4 KB of zeros", "one byte less", "cut", "empty", "one byte more"],
)
def test_a_damaged_file_is_refused_in_one_line(file: Path, damage: Callable[[bytes], bytes]) -> None:
    file.write_bytes(damage(CONTENT))
    with pytest.raises(CheckpointError) as caught:
        check_digest(file)
    assert str(caught.value) == (
        f"{file} is damaged: its content does not match checkpoint.pt.sha256; restore both from a copy, "
        f"or delete {file}.sha256 to use checkpoint.pt unchecked"
    )


def test_every_flipped_bit_of_the_digest_itself_is_refused(file: Path) -> None:
    line = digest_path(file).read_bytes()
    for position in range(64):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[position] ^= 1 << bit
            digest_path(file).write_bytes(flipped)
            with pytest.raises(CheckpointError):
                check_digest(file)


@pytest.mark.parametrize(
    "content", [b"", bytes(80), b"\xff\xfe\n", b"no digest\n", b"0" * 64 + b"\n", b"x" * 70_000]
)
def test_a_digest_file_without_a_digest_is_refused_in_one_line(file: Path, content: bytes) -> None:
    digest_path(file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^\S+checkpoint\.pt\.sha256 is damaged: [^\n]*$"):
        check_digest(file)


def test_a_file_without_a_digest_is_not_checked(file: Path) -> None:
    digest_path(file).unlink()
    file.write_bytes(b"by hand")
    assert not check_digest(file)


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint.pt.sha256"])
def test_a_folder_in_place_of_a_file_is_refused_in_one_line(file: Path, name: str) -> None:
    (file.parent / name).unlink()
    (file.parent / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"^cannot read \S+{name}: Is a directory; [^\n]*$"):
        check_digest(file)


def test_a_missing_file_is_refused_in_one_line(file: Path) -> None:
    file.unlink()
    with pytest.raises(CheckpointError, match=r"^cannot read \S+: No such file or directory; [^\n]*$"):
        check_digest(file)


@pytest.mark.parametrize("before", ["with a digest", "without a digest", "missing"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new_file_and_it_checks(
    file: Path, before: str, kill_at_every_call: Callable[[Callable[[], None]], Iterator[int]]
) -> None:
    if before != "with a digest":
        digest_path(file).unlink()
    if before == "missing":
        file.unlink()
    found = []
    for _ in kill_at_every_call(lambda: write_with_digest(file, b"new content")):
        found.append(file.read_bytes() if file.exists() else None)
        if found[-1] is not None:
            check_digest(file)
    assert set(found) == {None if before == "missing" else CONTENT, b"new content"}
    assert check_digest(file)
    assert len(digest_path(file).read_text().splitlines()) == 1


def test_a_file_replaced_while_it_is_read_is_not_called_damaged(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def replace_first(*arguments: object) -> object:
        monkeypatch.setattr(hashlib, "file_digest", digest)
        write_with_digest(file, b"new content")
        with file.open("rb") as stream:
            return digest(stream, "sha256")

    monkeypatch.setattr(hashlib, "file_digest", replace_first)
    assert check_digest(file)


def test_a_damaged_file_and_a_damaged_digest_are_replaced(file: Path) -> None:
    file.write_bytes(b"damaged")
    digest_path(file).write_bytes(bytes(80))
    write_with_digest(file, b"new content")
    assert check_digest(file)
