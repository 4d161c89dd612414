"""Sentences about classes, from CSV and from the package itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc.birds.plumage import all_species
from mpfgvc.data.descriptions import Descriptions, descriptions_of_run, read_descriptions
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.run_folder import RunFolder

CLASSES = ("Rock Wren", "Barn Owl", "Caf\u00e9 Crow")
HEADER = "class,sentence\n"
Read = Callable[..., Descriptions]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def from_text(text: str | bytes) -> Descriptions:
        path = tmp_path / "words.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_descriptions(path, CLASSES)

    return from_text


def test_the_table_gives_the_sentences_in_the_order_of_the_classes(read: Read) -> None:
    table = HEADER + 'Barn Owl,a pale face\nRock Wren,"a thin, long beak"\nBarn Owl,dark eyes\n'
    for found in (read(table), read("\ufeff" + table)):
        assert found.classes == CLASSES
        assert found.sentences == (("a thin, long beak",), ("a pale face", "dark eyes"), ())


def test_names_that_look_the_same_are_the_same_class(read: Read) -> None:
    found = read(HEADER + "Cafe\u0301  Crow,black\n Caf\u00e9 Crow ,\u200bglossy\n")
    assert found.sentences[2] == ("black", "\u200bglossy")


def test_what_does_not_fit_together_is_counted_and_said(read: Read) -> None:
    found = read(HEADER + "Barn Owl,pale\nrock wren,brown\nKiwi,round\nKiwi,brown\n")
    strangers, without = found.notes
    assert strangers.endswith("words.csv that the dataset does not have: 2 of 3 (rock wren, Kiwi)")
    expected = "classes without a description, which have their prompt alone: 2 of 3 (Rock Wren, Caf\u00e9 Crow)"
    assert without == expected
    assert read(HEADER + "Rock Wren,a\nBarn Owl,b\nCaf\u00e9 Crow,c\n").notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "words.csv holds no sentence"),
        ("class;sentence\na;b\n", "class and sentence missing, got \\['class;sentence'\\]"),
        (HEADER + "Barn Owl,pale\n\nBarn Owl, \n", "line 4 has no sentence about Barn Owl; fill it in"),
        (HEADER + ",pale\n", "line 2 has no class; fill it in or remove it"),
        (HEADER + "Barn Owl,pale\nBarn Owl,dark\nBarn  Owl, pale\n", "line 4 repeats .* Owl of .* line 2"),
        (HEADER + "Kiwi,round\n", "none of the 3 classes: it describes 'Kiwi', .* is 'Rock Wren'; use the"),
        (HEADER.encode() + b"Barn Owl,p\xe2le\n", "line 2 must be text in UTF-8"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_with_its_line(read: Read, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        read(text)
    assert "\n" not in str(refusal.value)


def test_a_path_that_is_no_description_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, message in [
        ("words.csv", "does not exist; check the path"),
        ("folder.csv", "is not a file; check the path"),
        ("words.txt", r"must be a \.csv file, or bundled, got .*words\.txt"),
    ]:
        with pytest.raises(ConfigError, match=message):
            read_descriptions(tmp_path / name, CLASSES)


def test_the_bundled_sentences_are_one_for_each_attribute_of_a_bird() -> None:
    classes = ("Northern Thornbill", "Kiwi", "Common Thornbill")
    found = read_descriptions("bundled", classes)
    assert [len(each) for each in found.sentences] == [14, 0, 14]
    assert found.sentences[2][0] == f"a bird with a {all_species()[0].plumage.beak_shape} beak"
    different = set(found.sentences[0]) ^ set(found.sentences[2])
    assert 2 <= len(different) <= 4, "neighbours differ in one or two attributes"
    assert found.notes == ("classes without a description, which have their prompt alone: 1 of 3 (Kiwi)",)
    with pytest.raises(ConfigError, match=r"bundled describes the synthetic birds only, .*first Rock Wren"):
        read_descriptions("bundled", CLASSES)


def test_a_run_keeps_the_sentences_of_its_classes_and_does_without_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    described = Descriptions(
        classes=("Rock\nWren", "Barn, Owl", "Kiwi"), sentences=(("thin beak", 'a "pale", round face'), ("dark",), ())
    )
    described.save(folder.descriptions)
    found = descriptions_of_run(folder, "gone.csv", described.classes)
    assert (found.classes, found.sentences) == (described.classes, described.sentences)
    folder.descriptions.write_text(HEADER + "Kiwi,other\n")
    with pytest.raises(CheckpointError, match=r"descriptions\.csv"):
        descriptions_of_run(folder, "gone.csv", described.classes)
    folder.descriptions.unlink()
    with pytest.raises(CheckpointError, match=r"is missing, and the run has descriptions; restore it"):
        descriptions_of_run(folder, "gone.csv", described.classes)


def test_a_run_without_descriptions_keeps_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    none = descriptions_of_run(folder, None, CLASSES)
    assert none == read_descriptions(None, CLASSES)
    assert none.sentences == ()
    none.save(folder.descriptions)
    assert not folder.descriptions.exists()
