"""Index files that are wrong are refused with their name and line."""

import os
from pathlib import Path

import pytest

from mpfgvc.data.readers.index_files import read_names, read_numbers, read_pairs, refuse_missing
from mpfgvc.errors import DataError


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index.txt"


def test_pairs_keep_spaces_in_the_value_and_skip_blank_lines(index):
    index.write_text("1 Ducks, Geese\n\n2 Auks\r\n")
    assert read_pairs(index) == {"1": "Ducks, Geese", "2": "Auks"}


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_pairs, "1 a\n2\n", "index.txt line 2 must hold two columns, got '2'"),
        (read_pairs, "1 a\n\n1 b\n", "index.txt line 3 repeats 1"),
        (read_numbers, "x 1\ny one\n", "index.txt line 2 must be a whole number, got 'one'"),
        (read_numbers, "x 1_0\n", "line 1 must be a whole number, got '1_0'"),
        (read_numbers, "x \u0661\n", "line 1 must be a whole number"),
        (read_numbers, "x 1 7\n", "line 1 must be a whole number, got '1 7'"),
        (read_names, "1 a\n01 b\n", "index.txt line 2 repeats the number 1"),
        (read_pairs, "1 a.jpg\n2 b.jpg \n", "line 2 must not begin or end with spaces, got '2 b.jpg '"),
        (read_pairs, "1 a\0b\n", "line 1 holds a NUL byte"),
        (read_names, "first a\n", "index.txt line 1 must be a whole number"),
    ],
)
def test_a_malformed_line_is_named(index, read, text, message):
    index.write_text(text)
    with pytest.raises(DataError, match=message):
        read(index)


def test_an_index_that_is_not_text_is_refused(index):
    index.write_bytes(b"0 a\n1 \xff\xfe\n")
    with pytest.raises(DataError, match=r"index\.txt line 2 must be text in UTF-8"):
        read_pairs(index)


def test_an_index_that_does_not_exist_is_named(index):
    with pytest.raises(DataError, match=r"index\.txt does not exist; data\.root must be"):
        read_pairs(index)


def test_only_line_feeds_end_a_line(index):
    index.write_text("1 a\u2028b\x85\x0cc\r\n2 d", encoding="utf-8", newline="")
    assert read_pairs(index) == {"1": "a\u2028b\x85\x0cc", "2": "d"}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_fifo_in_the_place_of_a_photograph_is_named(tmp_path, index, make):
    make(tmp_path / "special.jpg")
    with pytest.raises(DataError, match=r"names .*special\.jpg, which is not a regular file"):
        refuse_missing(index, [tmp_path / "special.jpg"])


def test_missing_files_are_counted_and_the_first_is_named(tmp_path, index):
    (tmp_path / "here.jpg").touch()
    paths = [tmp_path / "here.jpg", tmp_path / "gone.jpg", tmp_path / "no folder" / "lost.jpg"]
    refuse_missing(index, paths[:1])
    with pytest.raises(DataError, match=r"names 3 files, 2 of them missing, first .*gone\.jpg"):
        refuse_missing(index, paths)
