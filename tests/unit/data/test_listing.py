"""Which files and folders count: files, folders, globs and rows of tables."""

import inspect
import os
import sys
import time
from pathlib import Path

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


def names(photos: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(photos).as_posix() for path in paths]


def table(file: Path, /, **columns: list[str | None]) -> Path:
    parquet.write_table(arrow.table(columns), file)
    return file


def named(*patterns: object) -> tuple[list[str], list[str]]:
    """The names that patterns stand for, and what is said of the rest."""
    notes: list[str] = []
    return list(photo_names([str(pattern) for pattern in patterns], notes.append)), notes


def test_a_folder_is_searched_to_the_bottom_without_what_systems_made(photos):
    listing = photographs_below(photos)
    assert names(photos, listing.photographs) == ["2.JPG", "10.jpg", "deep/1.webp", "IMG.HEIC"]
    assert names(photos, listing.others) == ["notes.txt"]
    assert len(listing.hidden) == 8
    above = list_folder(photos)
    assert names(photos, above.photographs) == ["2.JPG", "10.jpg", "IMG.HEIC"]
    assert names(photos, above.folders) == ["deep"]


def test_what_is_left_out_is_said(photos, monkeypatch):
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    for suffix in ("gif", "png", "webp", "tif"):
        frames[0].save(photos / f"moving.{suffix}", save_all=True, append_images=frames[1:])
        frames[0].save(photos / f"still.{suffix}")
    (photos / "gone.jpg").symlink_to("nowhere")
    kept, moving = photos / "moving", "moving.gif, moving.png, moving.tif, ..."
    said = [
        f"ignored 1 files that are not photographs: {photos / 'notes.txt'}",
        f"ignored 1 links that lead nowhere or in a circle: {photos / 'gone.jpg'}",
        f"took the first of several frames or pages of 4 files: {moving.replace('moving', str(kept))}",
    ]
    found, notes = named(photos)
    assert len(found) == 12
    assert [line for line in notes if "hidden" not in line] == said
    assert sum("ignored 8 hidden or system files and folders" in line for line in notes) == 1
    assert named(photos / "*")[1] == said
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    line = f"1 HEIC photographs need one more package: pip install pillow-heif ({photos / 'IMG.HEIC'})"
    assert line in named(photos)[1]


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
    """Deeper than functions may call each other, with a limit that lets pytest remove the folders."""
    deepest = tmp_path.joinpath(*"d" * 400)
    deepest.mkdir(parents=True)
    for file in [deepest / "a.jpg", *(tmp_path / f"{number}.jpg" for number in range(3000))]:
        file.touch()
    limit, started = sys.getrecursionlimit(), time.process_time()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        assert len(photographs_below(tmp_path).photographs) == 3001
    finally:
        sys.setrecursionlimit(limit)
    assert time.process_time() - started < 5


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
    found, _ = named(photos / "notes.txt", photos / "*.jpg", photos)
    assert found == [str(photos / name) for name in ("notes.txt", "10.jpg", "2.JPG", "deep/1.webp", "IMG.HEIC")]
    for pattern in ("*", "**", "**/*"):
        assert named(photos / pattern)[0] == [str(photos / name) for name in everything]


def test_a_file_that_cannot_be_read_is_not_hidden_from_who_named_it(photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "gone.jpg").symlink_to("nowhere")
    paths = [str(photos / "pipe.jpg"), str(photos / "gone.jpg")]
    assert named(*paths) == (paths, [])


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
    look = {"root": lambda: existing_folder(path), "photographs": lambda: find_images([str(path)], print)}
    with pytest.raises(DataError, match=r"cannot list the folder .*closed: Permission denied"):
        look[what]()


def test_rows_of_a_table_start_from_its_folder_or_are_whole(photos: Path) -> None:
    rows = ["a2.png", "../photos/a10.png", "/else/where.jpg", "a2.png"]
    whole = [f"{photos}/a2.png", f"{photos}/a10.png", rows[2], f"{photos}/a2.png"]
    assert named(table(photos / "list.parquet", path=rows, label=["x"] * 4)) == (whole, [])


def test_a_long_table_is_read_piece_by_piece(photos: Path) -> None:
    rows: list[str | None] = [f"{number}.jpg" for number in range(10_000)]
    found = photo_names([str(table(photos / "list.parquet", path=[*rows, None]))], lambda _: None)
    assert [next(found) for _ in range(10_000)] == [str(photos / str(row)) for row in rows]
    with pytest.raises(DataError, match="row 10001 has no path"):
        next(found)


def test_what_names_nothing_is_refused(photos: Path) -> None:
    (photos / "empty").mkdir()
    (photos / "broken.parquet").write_bytes(b"no table")
    refused = {
        photos / "empty": r"no photographs in .*; give a file, a folder or a glob",
        photos / "broken.parquet": "cannot read .*broken.parquet: ",
        table(photos / "a.parquet", file=["a.png"]): "has no column path; name the photographs in one",
        table(photos / "b.parquet", path=[]): "has no rows; list the photographs, one in a row",
        table(photos / "c.parquet", path=["a", None]): "row 2 has no path; fill it in or remove the row",
        table(
            photos / "d.parquet", path=["a", "s3://b/c.jpg"]
        ): "row 2: a photograph must be on a disk .* got s3://b/c",
        f"file://{photos}/none": "photographs must be on a disk of this machine, got file://.*/none; download it first",
    }
    for pattern, line in refused.items():
        with pytest.raises(DataError, match=line):
            named(pattern)
