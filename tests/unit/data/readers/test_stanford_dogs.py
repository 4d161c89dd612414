"""The lists of Stanford Dogs."""

from pathlib import Path

import numpy as np
import pytest

from mpfgvc.data.readers.official import read_dogs
from mpfgvc.errors import DataError

io = pytest.importorskip("scipy.io")

CHIHUAHUA = "n02085620-Chihuahua/n02085620_1.jpg"
SPANIEL = "n02085782-Japanese_spaniel/n02085782_2.jpg"


def column(texts: list[str]) -> np.ndarray:
    """A column of cells, as MATLAB writes it."""
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    return cells


def write(path: Path, files: list[str], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, {"file_list": column(files), "labels": np.array([labels]).T})


@pytest.fixture
def dogs(tmp_path):
    write(tmp_path / "lists" / "train_list.mat", [CHIHUAHUA, SPANIEL], [3, 7])
    write(tmp_path / "lists" / "test_list.mat", [CHIHUAHUA.replace("_1", "_5")], [3])
    return tmp_path


def test_lists_in_their_folder_or_beside_the_images_are_read(dogs):
    photos = read_dogs(dogs, check_files=False)
    assert photos.classes == ("Chihuahua", "Japanese spaniel")
    assert [(s.label, s.split) for s in photos.samples] == [(0, "train"), (1, "train"), (0, "test")]
    assert photos.samples[0].path == dogs / "Images" / CHIHUAHUA
    for name in ("train_list.mat", "test_list.mat"):
        (dogs / "lists" / name).rename(dogs / name)
    assert list(read_dogs(dogs, check_files=False).samples) == list(photos.samples)


@pytest.mark.parametrize(
    ("files", "labels", "message"),
    [
        ([CHIHUAHUA], [3], f"names {CHIHUAHUA} twice"),
        ([SPANIEL.replace("_2", "_9")], [3], "the label 3, against another entry"),
        ([SPANIEL.replace("_2", "_9")], [8], "the label 8, against another entry"),
        ([SPANIEL.replace("_2", "_9")], [0], "a label from 1, got .* and 0"),
        (["a/b.jpg"], [1, 2], "got 1 files and 2 labels"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(dogs, files, labels, message):
    write(dogs / "lists" / "test_list.mat", files, labels)
    with pytest.raises(DataError, match=message):
        read_dogs(dogs, check_files=False)


def test_files_that_the_lists_name_must_exist(dogs):
    with pytest.raises(DataError, match="names 3 files, 3 of them missing"):
        read_dogs(dogs)


def test_a_list_that_is_no_matlab_file_is_refused(dogs):
    (dogs / "lists" / "test_list.mat").write_text("not a matrix")
    with pytest.raises(DataError, match=r"test_list\.mat is not a readable MATLAB file"):
        read_dogs(dogs)


def test_a_list_without_labels_is_refused(dogs):
    io.savemat(dogs / "lists" / "test_list.mat", {"file_list": column([CHIHUAHUA])})
    with pytest.raises(DataError, match="must hold file_list and labels, labels is missing"):
        read_dogs(dogs)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train_list\.mat does not exist"):
        read_dogs(tmp_path)
