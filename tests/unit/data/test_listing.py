"""Which files and folders count: files, folders, globs and rows of tables."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from mpfgvc.data.catalog import existing_folder
from mpfgvc.data.listing import find_images, list_folder, missing_files, natural_key, photo_names, photographs_below
from mpfgvc.errors import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photographs, one of them deeper, among what systems leave on disks."""
    folder = tmp_path / "photos"
    names = ["2.JPG", "10.jpg", "deep/1.webp", "IMG.HEIC"]
    names += ["notes.txt", "Thumbs.db", "desktop.ini", "._2.JPG", ".x/1.jpg"]
    folders = ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", ".thumbnails"]
    for name in [*names, *(f"{system}/1.jpg" for system in folders)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_searched_to_the_bottom_without_what_systems_made(photos):
    listing = photographs_below(photos)
    assert names(photos, listing.photographs) == ["2.JPG", "10.jpg", "deep/1.webp", "IMG.HEIC"]
    assert names(photos, listing.others) == ["notes.txt"]
    assert len(listing.hidden) == 8
    assert find_images([str(photos)]).photographs == listing.photographs
    above = list_folder(photos)
    assert names(photos, above.photographs) == ["2.JPG", "10.jpg", "IMG.HEIC"]
    assert names(photos, above.folders) == ["deep"]


def test_heic_without_its_library_is_counted_with_the_package_to_install(photos, monkeypatch):
    assert not any("HEIC" in line for line in find_images([str(photos)]).ignored())
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    line = f"1 HEIC photographs need one more package: pip install pillow-heif ({photos / 'IMG.HEIC'})"
    assert line in find_images([str(photos)]).ignored()


def test_links_are_followed_each_folder_once_and_dead_ones_returned(photos, tmp_path):
    (tmp_path / "elsewhere" / "more").mkdir(parents=True)
    (tmp_path / "elsewhere" / "more" / "7.png").touch()
    links = {
        "linked": tmp_path / "elsewhere", "3.jpg": photos / "2.JPG", "gone.jpg": Path("nowhere"),
        "also": Path("nowhere"), "deep/up": photos, "deep/root": photos.parent, "again": photos / "deep",
        "loop.jpg": Path("loop.jpg"),
    }  # fmt: skip
    for link, target in links.items():
        (photos / link).symlink_to(target)
    listing = photographs_below(photos)
    found = ["2.JPG", "3.jpg", "10.jpg", "deep/1.webp", "IMG.HEIC", "linked/more/7.png"]
    assert names(photos, listing.photographs) == found
    dead = ["again", "also", "deep/root", "deep/up", "gone.jpg", "loop.jpg"]
    assert names(photos, listing.dead_links) == dead


def test_deep_folders_and_many_files_are_listed_quickly(tmp_path):
    folders = [tmp_path / "d"]
    for _ in range(1100):  # beyond the depth that Python allows functions
        folders.append(folders[-1] / "d")
    for number in range(3000):
        (tmp_path / f"{number}.jpg").touch()
    try:
        for folder in folders:
            folder.mkdir()
        (folders[-1] / "a.jpg").touch()
        started = time.process_time()
        assert len(photographs_below(tmp_path).photographs) == 3001
        assert time.process_time() - started < 5
    finally:  # pytest removes folders by a function that calls itself
        (folders[-1] / "a.jpg").unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()


def test_an_unreadable_folder_is_named(photos, monkeypatch):
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"^cannot list the folder .*deep: Permission denied; check"):
        photographs_below(photos)


def test_patterns_give_files_folders_and_globs_each_once(photos):
    everything = ["2.JPG", "10.jpg", "deep/1.webp", "IMG.HEIC"]
    found = find_images([str(photos / "notes.txt"), str(photos / "*.jpg"), str(photos)]).photographs
    assert names(photos, found) == ["notes.txt", "10.jpg", "2.JPG", "deep/1.webp", "IMG.HEIC"]
    for pattern in ("*", "**", "**/*"):
        assert names(photos, find_images([str(photos / pattern)]).photographs) == everything


def test_a_file_that_cannot_be_read_is_not_hidden_from_who_named_it(photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "gone.jpg").symlink_to("nowhere")
    paths = [str(photos / "pipe.jpg"), str(photos / "gone.jpg")]
    assert find_images(paths).photographs == tuple(Path(path) for path in paths)


def test_numbers_of_any_length_and_bytes_of_any_encoding_are_sorted():
    names = ["b", "9" * 5000, "10", "2", os.fsdecode(b"\xe9 1")]
    assert sorted(names, key=natural_key) == ["2", "10", "9" * 5000, "b", os.fsdecode(b"\xe9 1")]


def test_missing_is_what_is_not_a_regular_file(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.png").touch()
    os.mkfifo(tmp_path / "here" / "pipe.png")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    gone = [tmp_path / name for name in ("here/b.png", "here/pipe.png", "nowhere/c.png", "loop.jpg")]
    gone.append(tmp_path / "here" / "a.png" / "d.png")
    assert missing_files([gone[0], tmp_path / "here" / "a.png", *gone[1:]]) == gone


@pytest.mark.parametrize("what", ["root", "photographs"])
def test_a_path_below_a_folder_that_may_not_be_searched_is_one_line(tmp_path, monkeypatch, what):
    """Root may search everything, so the refusal of the system is put in its place."""

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    path = tmp_path / "closed" / "birds"
    look = {"root": lambda: existing_folder(path), "photographs": lambda: find_images([str(path)])}
    with pytest.raises(DataError, match=r"cannot list the folder .*closed: Permission denied"):
        look[what]()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs in two folders, a hidden one and a text."""
    for number, name in enumerate(("a2.png", "a10.png", "more/b.png", ".hidden/c.png")):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 7, 3), 20 * number, dtype=np.uint8)).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("no photograph")
    return tmp_path / "photos"


def table(file: Path, /, **columns: list[str | None]) -> Path:
    parquet.write_table(arrow.table(columns), file)
    return file


def named(*patterns: object) -> tuple[list[str], list[str]]:
    """The names that patterns stand for, and what is said of the rest."""
    notes: list[str] = []
    return list(photo_names([str(pattern) for pattern in patterns], notes.append)), notes


def test_names_of_files_and_folders_are_those_of_find_images(folder: Path) -> None:
    found, notes = named(folder / "more" / "b.png", folder)
    assert found == [str(folder / name) for name in ("more/b.png", "a2.png", "a10.png")]
    assert notes == [
        f"ignored 1 files that are not photographs: {folder / 'notes.txt'}",
        f"ignored 1 hidden or system files and folders: {folder / '.hidden'}",
    ]


def test_rows_of_a_table_start_from_its_folder_or_are_whole(folder: Path) -> None:
    rows = ["a2.png", "../photos/a10.png", "/else/where.jpg", "a2.png"]
    whole = [f"{folder}/a2.png", f"{folder}/a10.png", rows[2], f"{folder}/a2.png"]
    assert named(table(folder / "list.parquet", path=rows, label=["x"] * 4)) == (whole, [])


def test_a_long_table_is_read_piece_by_piece(folder: Path) -> None:
    rows: list[str | None] = [f"{number}.jpg" for number in range(10_000)]
    found = photo_names([str(table(folder / "list.parquet", path=[*rows, None]))], lambda _: None)
    assert [next(found) for _ in range(10_000)] == [str(folder / str(row)) for row in rows]
    with pytest.raises(DataError, match="row 10001 has no path"):
        next(found)


def test_what_names_nothing_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "broken.parquet").write_bytes(b"no table")
    refused = {
        folder / "empty": r"no photographs in .*; give a file, a folder or a glob",
        folder / "broken.parquet": "cannot read .*broken.parquet: ",
        table(folder / "a.parquet", file=["a.png"]): "has no column path; name the photographs in one",
        table(folder / "b.parquet", path=[]): "has no rows; list the photographs, one in a row",
        table(folder / "c.parquet", path=["a", None]): "row 2 has no path; fill it in or remove the row",
        table(
            folder / "d.parquet", path=["a", "s3://b/c.jpg"]
        ): "row 2: a photograph must be on a disk .* got s3://b/c",
        f"file://{folder}/none": "photographs must be on a disk of this machine, got file://.*/none; download it first",
    }
    for pattern, line in refused.items():
        with pytest.raises(DataError, match=line):
            named(pattern)
