"""`mpfgvc data pack`: what is in the shards, and what happens to a pack that is stopped."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.images import read_image
from mpfgvc.data.pack import pack
from mpfgvc.data.readers.shards import PLAN
from mpfgvc.data.tars import read_member
from mpfgvc.errors import ConfigError, DataError, OutputError

JPEG_SLACK = 3  # gray levels on average between a resized photograph of noise and its JPEG of quality 95


def photos_of(root: Path, **settings):
    return read_photos(DataConfig(root=str(root), **settings), seed=0)


def shards_of(folder: Path):
    return read_photos(DataConfig(dataset="shards", root=str(folder)), seed=0)


def packed(root: Path, out: Path, **options):
    return pack(photos_of(root), out, **options)


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_shards_hold_the_same_bytes_labels_splits_and_order_as_the_dataset(class_folders, tmp_path):
    report = packed(class_folders, tmp_path / "shards", per_shard=7)
    assert (report.shards, report.photographs, report.unreadable, report.kept_shards) == (4, 25, (), 0)
    before, after = photos_of(class_folders), shards_of(tmp_path / "shards")
    assert (after.name, after.classes, after.supercategory) == (before.name, before.classes, None)
    assert [(each.label, each.split) for each in after.samples] == [(each.label, each.split) for each in before.samples]
    for file, member in zip(before.samples, after.samples, strict=True):
        assert read_member(member.path) == file.path.read_bytes()


def test_a_bit_that_changed_in_a_shard_is_found_when_its_photograph_is_read(tmp_path, draw):
    for name in "ab":
        draw(tmp_path / "birds" / name / "0.jpg", seed=1, size=(60, 80))
        draw(tmp_path / "birds" / name / "1.jpg", seed=2, size=(60, 80))
    packed(tmp_path / "birds", tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.tar")
    sample = shards_of(tmp_path / "shards").samples[0]
    content, whole = read_member(sample.path), bytearray(shard.read_bytes())
    start = whole.index(content)
    for position in range(0, len(content), 29):
        damaged = bytearray(whole)
        damaged[start + position] ^= 1 << position % 8
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged: it does not match its checksum; copy the shard again"):
            read_image(sample.path)


def test_every_tar_reader_finds_image_class_and_facts_of_one_name(class_folders, tmp_path):
    packed(class_folders, tmp_path / "shards", per_shard=7)
    photos = photos_of(class_folders)
    with tarfile.open(tmp_path / "shards" / "birds-000001.tar") as archive:
        content = {each.name: archive.extractfile(each).read() for each in archive}
    assert list(content)[:3] == ["000000007.png", "000000007.cls", "000000007.json"]
    sample = photos.samples[7]
    name = photos.classes[sample.label]
    relative = sample.path.relative_to(class_folders).as_posix()
    assert int(content["000000007.cls"]) == sample.label
    assert json.loads(content["000000007.json"]) == {"class": name, "split": sample.split, "path": relative}


def test_copies_have_the_shorter_side_and_look_like_the_photograph(tmp_path, draw):
    for index, size in enumerate([(90, 120), (120, 60), (30, 200), (50, 40)]):
        for name in "ab":
            draw(tmp_path / "birds" / name / f"{index}.png", seed=index, size=size)
    packed(tmp_path / "birds", tmp_path / "shards", size=40)
    pairs = zip(photos_of(tmp_path / "birds").samples, shards_of(tmp_path / "shards").samples, strict=True)
    sizes = set()
    for file, member in pairs:
        whole, copy = read_image(file.path), member.read()
        sizes.add(copy.size)
        if min(whole.size) <= 40:
            assert read_member(member.path) == file.path.read_bytes()
            continue
        wanted = whole.resize(copy.size, Image.Resampling.BICUBIC)
        gray = [np.asarray(image.convert("L"), float) for image in (wanted, copy)]
        assert np.abs(gray[0] - gray[1]).mean() < JPEG_SLACK
    assert sizes == {(40, 53), (80, 40), (30, 200), (50, 40)}


@pytest.fixture
def stopped(class_folders, tmp_path) -> Path:
    """A pack that ended at the 16th of 25 photographs."""
    photograph = photos_of(class_folders).samples[16].path
    content = photograph.read_bytes()
    photograph.write_bytes(bytes(len(content)))
    with pytest.raises(DataError, match="cannot read the photograph"):
        packed(class_folders, tmp_path / "shards", per_shard=7)
    photograph.write_bytes(content)
    return tmp_path / "shards"


def test_a_pack_that_is_stopped_goes_on_and_ends_with_the_same_bytes(stopped, class_folders, tmp_path):
    packed(class_folders, tmp_path / "whole", per_shard=7)
    assert sorted(bytes_in(stopped)) == ["birds-000000.tar", "birds-000001.tar", PLAN]
    with pytest.raises(DataError, match="was not packed to its end"):
        shards_of(stopped)
    assert packed(class_folders, stopped, per_shard=7).kept_shards == 2
    assert bytes_in(stopped) == bytes_in(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"size": 16}, {"per_shard": 6}, {}])
def test_a_pack_goes_on_only_with_the_same_photographs_and_options(stopped, class_folders, change):
    if not change:
        (class_folders / "class 1" / "0.png").write_bytes(b"other")
    with pytest.raises(OutputError, match="the beginning of another pack"):
        packed(class_folders, stopped, **{"per_shard": 7, **change})


def test_a_folder_that_holds_something_else_is_left_alone(class_folders, tmp_path):
    packed(class_folders, tmp_path / "shards")
    before = bytes_in(tmp_path / "shards")
    with pytest.raises(OutputError, match="holds packed shards already"):
        packed(class_folders, tmp_path / "shards")
    assert bytes_in(tmp_path / "shards") == before
    with pytest.raises(OutputError, match=r"holds other files \(class 1\)"):
        packed(class_folders, class_folders)


def test_a_broken_photograph_is_named_or_left_out_and_counted(class_folders, tmp_path):
    broken = class_folders / "class 10" / "3.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the photograph .*3\.png"):
        packed(class_folders, tmp_path / "refused")
    assert not list((tmp_path / "refused").glob("*.tar"))
    assert packed(class_folders, tmp_path / "shards", on_error="skip").unreadable == (str(broken),)
    shutil.rmtree(tmp_path / "refused")
    names = [each.path.name.partition("!")[2] for each in shards_of(tmp_path / "shards").samples]
    numbers = [int(Path(name).stem) for name in names]
    skipped = [each.path for each in photos_of(class_folders).samples].index(broken)
    assert numbers == [number for number in range(25) if number != skipped]


@pytest.mark.parametrize(("name", "value"), [("per_shard", 0), ("size", 15)])
def test_numbers_that_make_no_sense_are_refused(class_folders, tmp_path, name, value):
    with pytest.raises(ConfigError, match="must be at least"):
        packed(class_folders, tmp_path, **{name: value})


def test_the_command_says_what_it_packed_as_json_and_what_to_do_next(cli, class_folders, tmp_path):
    words = ("data", "pack", "--data.root", class_folders, "--out")
    code, out, _ = cli(*words, tmp_path / "json", "--json")
    assert code == 0
    assert json.loads(out)["photographs"] == 25
    code, out, _ = cli(*words, tmp_path / "text", "--per-shard", 10)
    assert "25 photographs in 3 shards" in out
    assert f"mpfgvc train --data.dataset shards --data.root {tmp_path / 'text'}" in out
    code, out, err = cli(*words, tmp_path / "text")
    assert (code, out) == (2, "")
    assert "already" in err


def test_synthetic_birds_are_packed_as_png(tmp_path):
    config = DataConfig(dataset="synthetic")
    config = read_photos(config, seed=0)
    few = config.samples.take([each.label < 2 and "0001" in each.path.name for each in config.samples])
    pack(replace(config, classes=config.classes[:2], samples=few), tmp_path / "shards")
    for drawn, member in zip(few, shards_of(tmp_path / "shards").samples, strict=True):
        assert np.array_equal(np.asarray(drawn.read()), np.asarray(member.read()))
