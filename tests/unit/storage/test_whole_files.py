"""Files and folders are whole at every moment, and every failure is one line."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpfgvc.errors import OutputError
from mpfgvc.storage.whole_files import (
    make_folder,
    new_folder,
    restore_folder,
    whole_folder,
    write_bytes,
    write_text,
)

Kill = Callable[[Callable[[], None]], Iterator[int]]


@pytest.fixture(params=["swap", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a folder takes the place of another: in one step, or as where the system has no such step."""
    if request.param == "two renames":
        monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    elif sys.platform != "linux":
        pytest.skip("only Linux swaps two names")
    return str(request.param)


def _fill(folder: Path, text: str) -> None:
    with new_folder(folder) as part:
        write_text(part / "one.txt", text)
        write_text(part / "two.txt", text)


def _content(folder: Path) -> list[tuple[str, str]]:
    return sorted((path.name, path.read_text()) for path in folder.iterdir())


def _whole(text: str) -> list[tuple[str, str]]:
    return [("one.txt", text), ("two.txt", text)]


def _one_line(error: OutputError, path: Path) -> bool:
    return "\n" not in str(error) and str(error).startswith(f"cannot write {path}: ")


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"old")
    write_bytes(tmp_path / "a.bin", b"new content")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"new content"


def test_text_keeps_the_bytes_of_file_names_that_are_not_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "list.txt", "Café " + os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "list.txt").read_bytes() == "Café ".encode() + b"caf\xe9.jpg"


def test_a_kill_at_any_call_leaves_the_old_or_the_new_file(tmp_path: Path, kill_at_every_call: Kill) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    kept = [path.read_bytes() for _ in kill_at_every_call(lambda: write_bytes(path, b"new content"))]
    assert set(kept) == {b"old", b"new content"}


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


@pytest.mark.parametrize("length", [240, 255])
@pytest.mark.parametrize("letter", ["a", "é"])
def test_the_longest_names_work(tmp_path: Path, length: int, letter: str) -> None:
    name = (letter * length).encode()[:length].decode(errors="ignore")
    write_bytes(tmp_path / name, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    _fill(tmp_path / "folder" / name, "new")
    _fill(tmp_path / "folder" / name, "newer")
    assert _content(tmp_path / "folder" / name) == _whole("newer")


@pytest.mark.parametrize("name", ["b" * 256, "file/below", "nul\0", "\ud800", "folder", "missing/a.bin"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_path_that_cannot_be_written_is_named_in_one_line(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    if what == "file":
        with pytest.raises(OutputError) as caught:
            write_bytes(path, b"content")
    elif name in ("folder", "missing/a.bin"):
        return  # a folder takes the place of a folder, and makes those above it
    else:
        with pytest.raises(OutputError) as caught:
            _fill(path, "content")
    assert _one_line(caught.value, path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("path", [Path(), Path("/")])
def test_a_path_without_a_name_is_refused(path: Path) -> None:
    with pytest.raises(OutputError, match="Is a directory"):
        write_bytes(path, b"content")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
@pytest.mark.parametrize(
    "write", [lambda path: write_bytes(path, b"new"), make_folder, lambda path: _fill(path, "new")]
)
def test_a_refusal_of_every_call_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, write: Callable[[Path], object]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("unlink", "mkdir", "fsync", "open", "replace", "rename", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OutputError) as caught:
        write(tmp_path / "out")
    assert _one_line(caught.value, tmp_path / "out")
    assert os.strerror(number) in str(caught.value)


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"old")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom mpfgvc.storage.whole_files import write_bytes\n"
        "from mpfgvc.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    write_bytes(Path(sys.argv[1]), bytes(20_000))\n"
        "except OutputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.bin"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"cannot write {tmp_path / 'a.bin'}: File too large; ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path, way: str) -> None:
    _fill(tmp_path / "model", "old")
    (tmp_path / "model" / "extra.txt").write_text("old")
    _fill(tmp_path / "model", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert _content(tmp_path / "model") == _whole("new")


def test_a_link_to_a_folder_is_replaced_and_its_target_stays(tmp_path: Path, way: str) -> None:
    _fill(tmp_path / "elsewhere", "old")
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    _fill(tmp_path / "model", "new")
    assert _content(tmp_path / "model") == _whole("new")
    assert _content(tmp_path / "elsewhere") == _whole("old")
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "model"}


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path, way: str) -> None:
    _fill(tmp_path / "model", "old")

    def fill_half() -> None:
        with new_folder(tmp_path / "model") as part:
            (part / "one.txt").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fill_half()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert _content(tmp_path / "model") == _whole("old")


def test_a_rename_that_is_refused_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path / "model", "old")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        _fill(tmp_path / "model", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert _content(tmp_path / "model") == _whole("old")


def test_a_kill_at_any_call_leaves_a_whole_folder_to_readers_and_to_the_owner(
    tmp_path: Path, way: str, kill_at_every_call: Kill
) -> None:
    model = tmp_path / "model"
    _fill(model, "old")
    found, missing = [], 0
    for _ in kill_at_every_call(lambda: _fill(model, "new")):
        missing += not model.exists()
        found.append(_content(whole_folder(model)))
        restore_folder(model)
        assert _content(model) == found[-1]
        _fill(model, "old")
    assert _whole("old") in found
    assert _whole("new") in found
    assert all(content in (_whole("old"), _whole("new")) for content in found)
    assert (missing > 0) == (way == "two renames")


def test_a_kill_while_a_folder_is_restored_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at_every_call: Kill
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    for stop in range(100):
        model = tmp_path / str(stop) / "model"
        _fill(model, "old")
        kills = kill_at_every_call(lambda model=model: _fill(model, "new"))  # type: ignore[misc]
        if next((True for number in kills if number == stop), None) is None:
            break
        for _ in kill_at_every_call(lambda model=model: restore_folder(model)):  # type: ignore[misc]
            assert _content(whole_folder(model)) in (_whole("old"), _whole("new"))
        if model.exists():
            restore_folder(model)
            hidden = [path for path in model.parent.iterdir() if path.name.endswith("old")]
            assert not hidden


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_new_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom mpfgvc.storage.whole_files import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'half.txt').write_text('half')\n    os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "dataset"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    _fill(tmp_path / "other", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_files_of_others_are_never_taken_for_leftovers(tmp_path: Path) -> None:
    ended = _ended_process()
    names = {f".film.{ended}.part", f"film.{ended}-0@host.part", ".hidden", "model.mpfgvc.part"}
    for name in names:
        (tmp_path / name).write_text("a download")
    _fill(tmp_path / "model", "new")
    assert {path.name for path in tmp_path.iterdir()} == names | {"model"}


def test_a_file_where_a_folder_must_be_is_called_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        make_folder(tmp_path / "file")


def test_make_folder_makes_the_folders_above_and_leaves_no_trace(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    make_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
