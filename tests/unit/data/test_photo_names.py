"""Photographs by name: files and folders, rows of tables, and what is at URLs."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from mpfgvc.data.photo_names import photo_names, photograph
from mpfgvc.errors import DataError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs in two folders, a hidden one and a text."""
    for number, name in enumerate(("a2.png", "a10.png", "more/b.png", ".hidden/c.png")):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 7, 3), 20 * number, dtype=np.uint8)).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("no photograph")
    return tmp_path / "photos"


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    """The folder on a server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _table(place: Path, /, **columns: list[str | None]) -> Path:
    parquet.write_table(arrow.table(columns), place)
    return place


def _names(*patterns: object) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return list(photo_names([str(pattern) for pattern in patterns], notes.append)), notes


def test_files_and_folders_are_those_of_find_images(folder: Path) -> None:
    names, notes = _names(folder / "more" / "b.png", folder)
    assert names == [str(folder / name) for name in ("more/b.png", "a2.png", "a10.png")]
    assert notes == [
        f"ignored 1 files that are not photographs: {folder / 'notes.txt'}",
        f"ignored 1 hidden or system files and folders: {folder / '.hidden'}",
    ]


def test_rows_of_a_table_start_from_its_folder_and_may_be_whole_or_urls(folder: Path) -> None:
    rows = ["a2.png", "../photos/a10.png", "/else/where.jpg", "s3://bucket/b.jpg", "a2.png"]
    table = _table(folder / "list.parquet", path=rows, label=["x"] * 5)
    names, notes = _names(table)
    assert names == [
        str(folder / "a2.png"),
        str(folder / "a10.png"),
        "/else/where.jpg",
        "s3://bucket/b.jpg",
        str(folder / "a2.png"),
    ]
    assert notes == []


def test_a_long_table_is_read_piece_by_piece(folder: Path) -> None:
    rows: list[str | None] = [f"{number}.jpg" for number in range(10_000)]
    names = photo_names([str(_table(folder / "list.parquet", path=[*rows, None]))], lambda _: None)
    assert [next(names) for _ in range(10_000)] == [str(folder / str(row)) for row in rows]
    with pytest.raises(DataError, match="row 10001 has no path"):
        next(names)


def test_a_prefix_of_a_store_stands_for_the_photographs_below_it(folder: Path) -> None:
    url = f"file://{folder}"
    names, notes = _names(url)
    assert names == [f"{url}/{name}" for name in ("a2.png", "a10.png", "more/b.png")]
    assert notes == [f"ignored 2 files at {url} that are hidden or not photographs"]
    assert _names(f"{url}/a*.png") == ([f"{url}/a2.png", f"{url}/a10.png"], [])
    assert _names(f"{url}/notes.txt") == ([f"{url}/notes.txt"], [])  # named, so it is taken


def test_a_table_and_its_photographs_may_be_on_the_web(folder: Path, web: str) -> None:
    _table(folder / "list.parquet", path=["a2.png", "more/b.png"])
    names, _ = _names(f"{web}/list.parquet")
    assert names == [f"{web}/a2.png", f"{web}/more/b.png"]
    for name in names:
        here = Image.open(folder / name.removeprefix(f"{web}/"))
        assert (np.asarray(photograph(name, Path("/")).read()) == np.asarray(here)).all()


def test_a_path_starts_from_the_base_and_a_url_is_what_it_is(folder: Path, web: str) -> None:
    assert photograph("more/b.png", folder).read().getpixel((0, 0)) == (40, 40, 40)
    with pytest.raises(DataError, match=rf"^cannot read the photograph {web}/none\.png: HTTP Error 404"):
        photograph(f"{web}/none.png", folder).read()
    with pytest.raises(DataError, match=r"^cannot read the photograph file:///none\.png: it does not exist"):
        photograph("file:///none.png", folder).read()


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"file": ["a.png"]}, "has no column path; name the photographs in one"),
        ({"path": []}, "has no rows; list the photographs, one in a row"),
        ({"path": ["a.png", None]}, "row 2 has no path; fill it in or remove the row"),
    ],
)
def test_a_table_without_names_is_refused(
    folder: Path, columns: dict[str, list[str | None]], line: str
) -> None:
    with pytest.raises(DataError, match=line):
        _names(_table(folder / "list.parquet", **columns))


def test_what_names_nothing_is_refused(folder: Path) -> None:
    (folder / "broken.parquet").write_bytes(b"no table")
    refused = {
        str(folder / "broken.parquet"): "cannot read .*broken.parquet: ",
        f"file://{folder}/none*": "no photographs at file://.*/none",
        f"file://{folder}/nothing": "(no photographs at|cannot list) file://.*/nothing",
        "nostore://bucket/x": "cannot list nostore://bucket/x: .*; check the address and the access",
    }
    for pattern, line in refused.items():
        with pytest.raises(DataError, match=line):
            _names(pattern)
