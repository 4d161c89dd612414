"""`data.dataset: shards`: packed ones, those of others, and damaged ones."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mpfgvc.config import AugmentConfig, DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.doctor import check, dataset_to_check
from mpfgvc.data.images import read_image
from mpfgvc.data.listing import find_images
from mpfgvc.data.loading import TrainingLoader
from mpfgvc.data.pack import pack
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.tars import members, read_member
from mpfgvc.data.transforms import train_transform
from mpfgvc.errors import DataError, MpfgvcError

PREPROCESSING = Preprocessing(image_size=(8, 12), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
RANDOM = train_transform(PREPROCESSING, AugmentConfig())


def read(root: Path | str, **settings):
    return read_photos(DataConfig(dataset="shards", root=str(root), validation=0, **settings), seed=0)


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def shards(class_folders, tmp_path) -> Path:
    photos = read_photos(DataConfig(root=str(class_folders)), seed=0)
    pack(photos, tmp_path / "shards", per_shard=7)
    return tmp_path / "shards"


@pytest.fixture
def photo(tmp_path, draw):
    return lambda seed: draw(tmp_path / "drawn" / f"{seed}.png", seed=seed).read_bytes()


def test_the_order_and_the_pixels_are_those_of_the_files_with_loader_processes_too(class_folders, shards):
    files = read_photos(DataConfig(root=str(class_folders)), seed=0).subset("train")
    first, second, third = (
        [batch[0].numpy().tobytes() for epoch in range(2) for batch in loader.epoch(epoch)]
        for loader in (
            TrainingLoader(samples, RANDOM, batch_size=4, seed=3, workers=workers)
            for samples, workers in ((files, 0), (read(shards).subset("train"), 0), (read(shards).subset("train"), 2))
        )
    )
    assert first == second == third


def test_a_shard_stands_for_its_photographs_where_files_are_named(shards):
    found = find_images([str(shards / "birds-000000.tar"), str(shards / "birds-000001.tar!000000009.png")], print)
    assert [path.name for path in found][-2:] == ["birds-000000.tar!000000006.png", "birds-000001.tar!000000009.png"]
    assert len(found) == 8


def test_the_doctor_finds_duplicates_inside_shards(class_folders, tmp_path):
    (class_folders / "class 1" / "0.png").write_bytes((class_folders / "class 1" / "1.png").read_bytes())
    photos = read_photos(DataConfig(root=str(class_folders)), seed=0)
    pack(photos, tmp_path / "shards", per_shard=7)
    report = check(dataset_to_check(DataConfig(dataset="shards", root=str(tmp_path / "shards")), seed=0))
    (group,) = (finding for finding in report.findings if len(finding.paths) > 1)
    assert all("birds-000000.tar!" in path for path in group.paths)


def test_shards_of_others_are_read_without_an_index(tmp_path, photo):
    root = tmp_path / "web"
    root.mkdir()
    tar(root / "x-train-1.tar", {"a/1.jpg": photo(1), "a/1.cls": b"1", "b.png": photo(2), "b.cls": b"0\n"})
    tar(root / "x-test-1.TAR", {"k.png": photo(3), "k.json": json.dumps({"label": 1}).encode()})
    photos = read(root)
    assert photos.classes == ("0", "1")
    assert [(each.label, each.split, read_member(each.path)) for each in photos.samples] == [
        (1, "test", photo(3)),
        (1, "train", photo(1)),
        (0, "train", photo(2)),
    ]
    (root / "classes.txt").write_text("wren\nrobin\n")
    assert read(root).classes == ("wren", "robin")
    assert [each.label for each in read(root).samples] == [1, 1, 0]


def test_names_with_dots_are_paired_up_to_their_last_dot(tmp_path, photo):
    names = [f"0{day}.05.2024_IMG00{number}" for day in (1, 2) for number in range(4)]
    files = {f"{name}.jpg": photo(seed) for seed, name in enumerate(names)}
    files |= {f"{name}.cls": f"class {seed % 3}".encode() for seed, name in enumerate(names)}
    files |= {"7.depth.png": photo(90), "7.png": photo(91), "7.cls": b"class 0"}
    tar(tmp_path / "one.tar", files)
    photos = read(tmp_path, test=0)
    known = {each.path.name: (photos.classes[each.label], read_member(each.path)) for each in photos.samples}
    expected = {f"one.tar!{name}.jpg": (f"class {n % 3}", photo(n)) for n, name in enumerate(names)}
    assert known == expected | {"one.tar!7.png": ("class 0", photo(91))}
    assert photos.notes[0] == "photographs without a label, left out: 1 (one.tar!7.depth.png)"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["1.a.jpg", "1.b.jpg", "1.cls"], "no photograph has a label; each needs a .cls or .json of its name"),
        (["1.jpg", "1.png", "1.cls"], r"one\.tar: it holds 2 photographs of the name 1;"),
    ],
)
def test_a_label_that_may_be_that_of_several_photographs_is_refused(tmp_path, photo, names, says):
    tar(tmp_path / "one.tar", {name: b"a" if name.endswith("cls") else photo(1) for name in names})
    with pytest.raises(DataError, match=says):
        read(tmp_path)


def test_photographs_without_a_label_are_counted_and_said(tmp_path, photo):
    files = {f"{number}.png": photo(number) for number in range(6)}
    files |= {f"{number}.cls": str(number % 2).encode() for number in range(5)}
    tar(tmp_path / "one.tar", files)
    assert read(tmp_path, test=0).notes[0] == "photographs without a label, left out: 1 (one.tar!5.png)"


def test_without_its_list_a_pack_is_read_from_the_headers(shards):
    before = read(shards)
    (shards / "photographs.json").unlink()
    after = read(shards)
    assert [(each.path, each.split) for each in after.samples] == [(each.path, each.split) for each in before.samples]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "birds-000002.tar").unlink(), r"birds-000002\.tar does not exist; copy it beside"),
        (lambda root: cut(root / "birds-000001.tar"), r"birds-000001\.tar is not a readable tar file"),
        (lambda root: shutil.copy(root / "birds-000000.tar", root / "birds-000001.tar"), "does not hold 000000007.png"),
        (lambda root: edit(root / "photographs.json", "birds-000001", "birds-000000"), "does not match digests"),
        (lambda root: (root / "photographs.json").write_text("{"), "does not match digests"),
    ],
)
def test_damage_is_refused_in_one_line_that_names_the_file(shards, damage, says):
    damage(shards)
    with pytest.raises(MpfgvcError, match=says) as caught:
        read(shards)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["inside a photograph", "between two of them"])
def test_a_shard_that_is_cut_is_refused_without_an_index_too(shards, place):
    second = members(shards / "birds-000001.tar")["000000008.png"]
    (shards / "photographs.json").unlink()
    cut(shards / "birds-000001.tar", second.offset + (100 if place == "inside a photograph" else -512))
    with pytest.raises(DataError, match=r"birds-000001\.tar (is not .* unexpected end|has no end)"):
        read(shards)


def test_two_members_of_one_name_are_refused(tmp_path, photo):
    tar(tmp_path / "one.tar", {"1.jpg": photo(1), "1.cls": b"a"})
    with tarfile.open(tmp_path / "one.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(DataError, match=r"one\.tar is not a readable tar file: two members of the name 1\.jpg; copy"):
        read(tmp_path)


@pytest.mark.parametrize("size", [-512, -1, -100_000])
def test_a_member_of_negative_size_is_refused_at_once(shards, size):
    (shards / "photographs.json").unlink()
    content = bytearray((shards / "birds-000002.tar").read_bytes())
    content[124:136] = b"\xff" + (256**11 + size).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    (shards / "birds-000002.tar").write_bytes(content)
    with pytest.raises(
        DataError, match=r"birds-000002\.tar is not a readable tar file: a member of negative size; copy"
    ):
        read(shards)


def test_a_folder_may_be_named_like_a_path_into_a_shard(shards, class_folders, tmp_path):
    folder = tmp_path / "a.tar!b"
    class_folders.rename(folder)
    photos = read_photos(DataConfig(root=str(folder)), seed=0)
    assert find_images([str(folder)], print) == tuple(sample.path for sample in photos.samples)
    assert photos.samples[11].read().size == read_image(photos.samples[11].path).size == (40, 30)
    inner = folder / "a.tar!c"
    shards.rename(inner)
    assert np.array_equal(*(np.asarray(image.read()) for image in (read(inner).samples[11], photos.samples[11])))
    assert read_image(inner / "birds-000001.tar!000000011.png").size == (40, 30)
    with pytest.raises(DataError, match=r"birds-000001\.tar!none\.png: it does not exist"):
        read_image(inner / "birds-000001.tar!none.png")


def test_a_url_is_refused_in_one_line():
    with pytest.raises(
        DataError, match=r"^data\.root must be on a disk of this machine, got s3://b/c; download it first$"
    ):
        read("s3://b/c")


def test_a_folder_without_shards_says_so(tmp_path):
    with pytest.raises(DataError, match="holds no shards"):
        read(tmp_path)


def cut(file: Path, to: int = 100) -> None:
    file.write_bytes(file.read_bytes()[:to])


def edit(file: Path, before: str, after: str) -> None:
    file.write_text(file.read_text().replace(before, after))
