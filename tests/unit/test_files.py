"""Files and folders are whole at every moment, damage is seen, and every failure is one line."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mpfgvc.errors import CheckpointError, OutputError
from mpfgvc.files import (
    DIGESTS,
    StoredTensor,
    check_digest,
    claim_folder,
    host_name,
    make_folder,
    new_folder,
    read_header,
    restore_folder,
    stored_digest,
    whole_folder,
    write_bytes,
    write_text,
    write_with_digest,
)

Kill = Callable[[Callable[[], None]], Iterator[int]]
CONTENT = os.urandom(9000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    write_with_digest(path, CONTENT)
    return path


def _fill(folder: Path, text: str) -> None:
    with new_folder(folder) as part:
        write_text(part / "one.txt", text)
        write_text(part / "two.txt", text)


def _content(folder: Path) -> list[tuple[str, str]]:
    return sorted((path.name, path.read_text()) for path in folder.iterdir())


def _whole(text: str) -> list[tuple[str, str]]:
    return [("one.txt", text), ("two.txt", text)]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


WRITERS = [lambda path: write_bytes(path, b"new"), make_folder, lambda path: _fill(path, "new")]


def test_a_kill_at_any_call_leaves_the_old_or_the_new_file(tmp_path: Path, kill_at_every_call: Kill) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    kept = [path.read_bytes() for _ in kill_at_every_call(lambda: write_bytes(path, b"new content"))]
    assert set(kept) == {b"old", b"new content"}


def test_text_keeps_the_bytes_of_file_names_that_are_not_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "list.txt", "Café " + os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "list.txt").read_bytes() == "Café ".encode() + b"caf\xe9.jpg"


def test_a_file_reaches_the_disk_before_it_takes_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, (tmp_path / "a.bin").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_bytes(tmp_path / "a.bin", b"content")
    assert synced == [("file", False), ("folder", True)]


@pytest.mark.parametrize("name", ["b" * 256, "file/below", "folder", "missing/a.bin", "."])
def test_a_path_that_cannot_be_written_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"^cannot write [^\n]*: [^\n]*; [^\n]*unchanged$") as caught:
        write_bytes(Path(name) if name == "." else tmp_path / name, b"content")
    assert name in str(caught.value)
    assert _names(tmp_path) == {"file", "folder"}
    with pytest.raises(OutputError, match="Not a directory"):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize("write", WRITERS)
def test_what_no_path_can_be_is_refused_in_one_line(tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    with pytest.raises(OutputError, match=r"^cannot write '[ -~]*': it is no path that a file can have"):
        write(tmp_path / name)
    assert not _names(tmp_path)


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_no_folder(tmp_path: Path, write: Callable[[Path], object]) -> None:
    """Folders can still be made on it, but no file can be filled."""
    pid = os.fork()
    if pid == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            write(tmp_path / "a" / "b" if write is not WRITERS[0] else tmp_path / "b")
        except OutputError as error:
            os._exit(7 if "File too large; make room or choose another --out" in str(error) else 8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert not _names(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a.bin", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"^cannot write {tmp_path}/a.bin: No space left on device; [^\n]*$"):
        write_bytes(tmp_path / "a.bin", b"new")
    assert _content(tmp_path) == [("a.bin", "old")]


def test_a_new_folder_replaces_the_old_one_whole_and_a_link_but_not_its_target(tmp_path: Path) -> None:
    _fill(tmp_path / "elsewhere", "old")
    (tmp_path / "elsewhere" / "extra.txt").write_text("old")
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    for text in ("new", "newer"):
        _fill(tmp_path / "model", text)
        assert _content(tmp_path / "model") == _whole(text)
    assert _content(tmp_path / "elsewhere") == [("extra.txt", "old"), *_whole("old")]
    assert _names(tmp_path) == {"elsewhere", "model"}


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    _fill(tmp_path / "model", "old")

    def fill_half() -> None:
        with new_folder(tmp_path / "model") as part:
            (part / "one.txt").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fill_half()
    assert _names(tmp_path) == {"model"}
    assert _content(tmp_path / "model") == _whole("old")


def test_a_rename_that_is_refused_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path / "model", "old")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        _fill(tmp_path / "model", "new")
    assert _names(tmp_path) == {"model"}
    assert _content(tmp_path / "model") == _whole("old")


def test_a_kill_at_any_call_leaves_a_whole_folder_to_readers_and_to_the_owner(
    tmp_path: Path, kill_at_every_call: Kill
) -> None:
    model = tmp_path / "model"
    _fill(model, "old")
    found = []
    for _ in kill_at_every_call(lambda: _fill(model, "new")):
        found.append(_content(whole_folder(model)))
        for _ in kill_at_every_call(lambda: restore_folder(model)):
            assert _content(whole_folder(model)) == found[-1]
        restore_folder(model)
        assert _content(model) == found[-1]
        assert not list(tmp_path.glob(".*old"))
        _fill(model, "old")
    assert {text for content in found for _, text in content} == {"old", "new"}
    assert all(content in (_whole("old"), _whole("new")) for content in found)


def test_the_longest_names_work_and_stay_apart(tmp_path: Path) -> None:
    name = ("é" * 255).encode()[:255].decode(errors="ignore")
    write_bytes(tmp_path / name, b"content")
    names = ["a" * 254 + letter for letter in "bc"]
    for folder in names:
        _fill(tmp_path / folder, "old")
    (tmp_path / names[0]).rename(tmp_path / "gone")
    _fill(tmp_path / names[1], "new")
    assert whole_folder(tmp_path / names[0]) == tmp_path / names[0]
    assert _content(tmp_path / names[1]) == _whole("new")
    assert _names(tmp_path) == {name, "gone", names[1]}


def test_make_folder_makes_the_folders_above_and_leaves_no_trace(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")
    assert not _names(tmp_path / "a" / "b")


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_the_owner_of_a_folder_removes_what_ended_processes_and_other_hosts_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".a.{ended.pid}-0@{host_name()}.part", ".a.1-0@node7.part"]
    kept = {f".c.{os.getpid()}-7@{host_name()}.part", ".film.part", f"film.7-0@{host_name()}.part", ".hidden"}
    for name in (*left, *kept):
        (tmp_path / name).write_text("half")
    (tmp_path / f".model.{ended.pid}-1@{host_name()}.part").mkdir()
    _fill(tmp_path / "other", "new")
    assert len(_names(tmp_path)) == 8, "who does not own it removes nothing"
    monkeypatch.setattr(sys, "platform", system)  # on Windows no process can be asked whether it runs
    with claim_folder(tmp_path):
        assert _names(tmp_path) == {"other", ".lock", ".owner", *kept}
    assert _names(tmp_path) == {"other", *kept}


def test_who_writes_a_file_again_removes_what_a_killed_writer_of_it_left(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = f".bird.onnx.{ended.pid}-0@{host_name()}.part"
    kept = {
        f".bird.onnx.{os.getppid()}-0@{host_name()}.part",
        ".bird.onnx.1-0@node7.part",
        left.replace("bird", "birds"),
    }
    for name in (left, *kept):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "bird.onnx", "whole")
    assert _names(tmp_path) == {"bird.onnx", *kept}


def _locks_fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _locks_fail_with(number, monkeypatch)
    rule = "is on a file system without locks; choose another --out, on a disk of this machine"
    with pytest.raises(OutputError) as caught, claim_folder(tmp_path):
        raise AssertionError
    assert str(caught.value) == f"{tmp_path} {rule}"
    assert not _names(tmp_path)


def test_a_file_system_without_flock_has_one_owner_by_a_file_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    _locks_fail_with(errno.ENOSYS, monkeypatch)
    way_out = rf"is in use by process .*; if it was killed on another machine, remove {tmp_path}/\.lock$"
    with claim_folder(tmp_path), pytest.raises(CheckpointError, match=way_out), claim_folder(tmp_path):
        raise AssertionError
    assert not _names(tmp_path)
    assert not recwarn.list


def test_an_owner_that_ends_at_the_same_moment_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def after_the_owner_removed_the_file(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_owner_removed_the_file)
    with claim_folder(tmp_path):
        assert _names(tmp_path) == {".lock", ".owner"}


def test_a_whole_file_matches_its_digest_which_is_the_sha_256(file: Path) -> None:
    assert check_digest(file)
    assert file.read_bytes() == CONTENT
    assert stored_digest(file) == hashlib.sha256(CONTENT).hexdigest()
    assert json.loads((file.parent / DIGESTS).read_text()) == {"checkpoint.pt": stored_digest(file)}
    write_with_digest(file.with_name("other.pt"), b"other")
    assert check_digest(file)
    assert _names(file.parent) == {"checkpoint.pt", "other.pt", DIGESTS}


def test_writers_at_the_same_time_lose_no_entry(tmp_path: Path) -> None:
    names = [f"predictions-{number}.csv" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write_with_digest(tmp_path / name, name.encode()), names))
    assert all(check_digest(tmp_path / name) for name in names)
    assert _names(tmp_path) == {*names, DIGESTS}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1],
        lambda _: b"",
        lambda content: content + b"\0",
    ],
    ids=["first bit", "one byte less", "empty", "one byte more"],
)
def test_a_damaged_file_is_refused_in_one_line(file: Path, damage: Callable[[bytes], bytes]) -> None:
    file.write_bytes(damage(CONTENT))
    with pytest.raises(CheckpointError) as caught:
        check_digest(file)
    assert str(caught.value) == (
        f"{file} is damaged: its content does not match digests.json beside it; restore it from a copy, "
        "or remove its lines from digests.json to use it unchecked"
    )


def test_a_flipped_bit_of_the_digest_itself_is_refused(file: Path) -> None:
    content = (file.parent / DIGESTS).read_bytes()
    for position in range(content.index(b": ") + 3, len(content) - 4):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (file.parent / DIGESTS).write_bytes(flipped)
        with pytest.raises(CheckpointError):
            check_digest(file)


@pytest.mark.parametrize("content", [b"", bytes(80), b"{", b'{"checkpoint.pt": 3}', b'{"checkpoint.pt": "ab"}', b"7"])
def test_damaged_digests_are_refused_in_one_line_and_not_replaced(file: Path, content: bytes) -> None:
    (file.parent / DIGESTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^\S+digests\.json is damaged or unreadable: [^\n]*$"):
        check_digest(file)
    with pytest.raises(CheckpointError):
        write_with_digest(file, b"new content")
    assert file.read_bytes() == CONTENT


def test_a_file_without_a_digest_is_not_checked_and_a_missing_one_is_refused(file: Path) -> None:
    file.unlink()
    with pytest.raises(CheckpointError, match=r"^cannot read \S+: No such file or directory; [^\n]*$"):
        check_digest(file)
    (file.parent / DIGESTS).unlink()
    file.write_bytes(b"by hand")
    assert not check_digest(file)
    assert stored_digest(file) == ""


@pytest.mark.parametrize("before", ["with a digest", "without a digest", "missing"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new_file_and_it_checks(
    file: Path, before: str, kill_at_every_call: Kill
) -> None:
    if before != "with a digest":
        (file.parent / DIGESTS).unlink()
    if before == "missing":
        file.unlink()
    found = []
    for _ in kill_at_every_call(lambda: write_with_digest(file, b"new content")):
        found.append(file.read_bytes() if file.exists() else None)
        if found[-1] is not None:
            check_digest(file)
    assert set(found) == {None if before == "missing" else CONTENT, b"new content"}
    assert check_digest(file)
    assert stored_digest(file) == hashlib.sha256(b"new content").hexdigest()


def test_a_file_replaced_while_it_is_read_is_not_called_damaged(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.file_digest

    def replace_first(*arguments: object) -> object:
        monkeypatch.setattr(hashlib, "file_digest", digest)
        write_with_digest(file, b"new content")
        with file.open("rb") as stream:
            return digest(stream, "sha256")

    monkeypatch.setattr(hashlib, "file_digest", replace_first)
    assert check_digest(file)


def test_the_header_of_a_file_tells_shapes_and_types(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16), "c": torch.zeros(())}
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors") == {
        "a": StoredTensor((2, 3), "F32"),
        "b": StoredTensor((4,), "F16"),
        "c": StoredTensor((), "F32"),
    }
    (tmp_path / "b.safetensors").write_bytes(b"no header")
    with pytest.raises(SafetensorError):
        read_header(tmp_path / "b.safetensors")
