"""Which files and folders count."""

import os
from pathlib import Path

import pytest

from mpfgvc.data.image_files import find_images, list_folder, missing_files, natural_key, photographs_below
from mpfgvc.data.place import existing_folder
from mpfgvc.data.readers.manifest import read_manifest
from mpfgvc.errors import DataError


@pytest.fixture
def photos(tmp_path):
    """Two photographs, one of them deeper, among what systems leave on disks."""
    folder = tmp_path / "photos"
    names = ["2.JPG", "10.jpg", "deep/1.webp", "notes.txt", "Thumbs.db", "desktop.ini", "._2.JPG", ".x/1.jpg"]
    folders = ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", ".thumbnails"]
    for name in [*names, *(f"{system}/1.jpg" for system in folders)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_searched_to_the_bottom_without_what_systems_made(photos):
    listing = photographs_below(photos)
    assert names(photos, listing.photographs) == ["2.JPG", "10.jpg", "deep/1.webp"]
    assert names(photos, listing.others) == ["notes.txt"]
    assert len(listing.hidden) == 8
    assert find_images([str(photos)]).photographs == listing.photographs


def test_the_listing_of_one_folder_does_not_go_below_it(photos):
    listing = list_folder(photos)
    assert names(photos, listing.photographs) == ["2.JPG", "10.jpg"]
    assert names(photos, listing.folders) == ["deep"]


def test_links_to_files_and_folders_are_followed(photos, tmp_path):
    (tmp_path / "elsewhere" / "more").mkdir(parents=True)
    (tmp_path / "elsewhere" / "more" / "7.png").touch()
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "3.jpg").symlink_to(photos / "2.JPG")
    found = names(photos, photographs_below(photos).photographs)
    assert found == ["2.JPG", "3.jpg", "10.jpg", "deep/1.webp", "linked/more/7.png"]


def test_each_folder_is_visited_once_and_loops_end(photos):
    (photos / "deep" / "up").symlink_to(photos)
    (photos / "deep" / "root").symlink_to(photos.parent)
    (photos / "again").symlink_to(photos / "deep")
    listing = photographs_below(photos)
    assert names(photos, listing.photographs) == ["2.JPG", "10.jpg", "deep/1.webp"]
    assert names(photos, listing.dead_links) == ["again", "deep/root", "deep/up"]


def test_a_link_that_leads_nowhere_is_left_out_and_returned(photos):
    (photos / "gone.jpg").symlink_to("nowhere")
    (photos / "also").symlink_to("nowhere")
    assert names(photos, photographs_below(photos).dead_links) == ["also", "gone.jpg"]


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
    named, pattern = str(photos / "notes.txt"), str(photos / "*.jpg")
    found = list(find_images([named, pattern, str(photos)]).photographs)
    assert names(photos, found) == ["notes.txt", "10.jpg", "2.JPG", "deep/1.webp"]
    for pattern in ("*", "**", "**/*"):
        assert names(photos, find_images([str(photos / pattern)]).photographs) == [
            "2.JPG",
            "10.jpg",
            "deep/1.webp",
        ]


def test_a_file_that_cannot_be_read_is_not_hidden_from_who_named_it(photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "gone.jpg").symlink_to("nowhere")
    paths = [str(photos / "pipe.jpg"), str(photos / "gone.jpg")]
    assert find_images(paths).photographs == tuple(Path(path) for path in paths)


def test_a_pattern_without_photographs_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no photographs in .*; give a file, a folder or a glob"):
        find_images([str(tmp_path)])


def test_numbers_of_any_length_and_bytes_of_any_encoding_are_sorted():
    names = ["b", "9" * 5000, "10", "2", os.fsdecode(b"\xe9 1")]
    assert sorted(names, key=natural_key) == ["2", "10", "9" * 5000, "b", os.fsdecode(b"\xe9 1")]


def test_missing_is_what_is_not_a_regular_file(tmp_path, draw):
    draw(tmp_path / "here" / "a.png")
    os.mkfifo(tmp_path / "here" / "pipe.png")
    gone = [tmp_path / "here" / "b.png", tmp_path / "here" / "pipe.png", tmp_path / "nowhere" / "c.png"]
    gone.append(tmp_path / "here" / "a.png" / "d.png")
    assert missing_files([gone[0], tmp_path / "here" / "a.png", *gone[1:]]) == gone


def test_a_link_to_itself_is_a_missing_file_like_any_other(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "there.jpg").touch()
    paths = [tmp_path / "there.jpg", tmp_path / "gone.jpg"]
    assert missing_files(paths) == [tmp_path / "gone.jpg"]


@pytest.mark.parametrize("what", ["root", "photographs", "manifest"])
def test_a_path_below_a_folder_that_may_not_be_searched_is_one_line(tmp_path, monkeypatch, what):
    """Root may search everything, so the refusal of the system is put in its place."""

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    place = tmp_path / "closed" / "birds"
    look = {
        "root": lambda: existing_folder(place),
        "photographs": lambda: find_images([str(place)]),
        "manifest": lambda: read_manifest(place, tmp_path, test_share=0.2, seed=0),
    }
    with pytest.raises(DataError, match=r"cannot list the folder .*closed: Permission denied"):
        look[what]()
