"""Taxonomies are read from CSV, from NABirds' own files and from a run, or refused in one line."""

import csv
from pathlib import Path

import pytest

from mpfgvc.data.readers.official import read_cub, read_nabirds
from mpfgvc.data.taxonomy_file import read_taxonomy, save_taxonomy, taxonomy_of_run
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.run_folder import RunFolder

CLASSES = ("Rock Wren", "Barn Owl", "House Wren")
ROWS = """class_id,class,order,family,species
1,Rock Wren,Passeriformes,Troglodytidae,S. obsoletus
2,House Wren,Passeriformes,Troglodytidae,T. aedon
3,Barn Owl,Strigiformes,,T. alba
4,Blue Jay,Passeriformes,Corvidae,C. cristata
"""


def _file(folder: Path, text: str, name: str = "tree.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_gives_levels_from_fine_to_coarse_whatever_their_order(tmp_path: Path) -> None:
    for heading in ("class,order,family", "class,family,order"):
        columns = heading.split(",")[1:]
        rows = [("Rock Wren", "P", "T"), ("House Wren", "P", "T"), ("Barn Owl", "S", "Y"), ("Jay", "P", "C")]
        ordered = [(name, *((a, b) if columns[0] == "order" else (b, a))) for name, a, b in rows]
        text = "\n".join([heading, *map(",".join, ordered)])
        found = read_taxonomy(_file(tmp_path, text), [row[0] for row in rows]).taxonomy
        assert found.levels == ("family", "order")
        assert found.groups == (("T", "T", "Y", "C"), ("P", "P", "S", "P"))


def test_levels_without_groups_are_left_out_and_said_and_blank_cells_are_groups_of_their_own(tmp_path: Path) -> None:
    found = read_taxonomy(_file(tmp_path, ROWS), CLASSES)
    assert found.taxonomy.levels == ("family", "order")
    assert found.taxonomy.groups[0] == ("Troglodytidae", "Barn Owl", "Troglodytidae")
    assert found.notes[0].endswith("every class is a group of its own, left out: 1 (species)")


def test_the_rank_class_is_a_level_where_another_column_names_the_classes(tmp_path: Path) -> None:
    text = """species,genus,order,class
Barn Owl,Tyto,Strigiformes,Aves
House Wren,Troglodytes,Passeriformes,Aves
Rock Wren,Salpinctes,Passeriformes,Aves
Toad,Bufo,Anura,Amphibia
"""
    classes = (*CLASSES, "Toad")
    for heading in ("species", "Artname", "name"):
        found = read_taxonomy(_file(tmp_path, text.replace("species", heading)), classes)
        assert found.taxonomy.levels == ("order", "taxonomic class")
        assert found.taxonomy.groups[1] == ("Aves", "Aves", "Aves", "Amphibia")
        assert found.notes[0] == f"the classes are in the column {heading} of {tmp_path / 'tree.csv'}"
    save_taxonomy(found.taxonomy, classes, tmp_path / "saved.csv")
    assert read_taxonomy(tmp_path / "saved.csv", classes).taxonomy == found.taxonomy


def test_of_two_levels_with_the_same_groups_the_finer_rank_comes_first(tmp_path: Path) -> None:
    for heading in ("class,order,family", "class,family,order"):
        rows = ("Rock Wren,x,x", "House Wren,x,x", "Barn Owl,y,y")
        assert read_taxonomy(_file(tmp_path, "\n".join([heading, *rows])), CLASSES).taxonomy.levels == (
            "family",
            "order",
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class,order\nRock Wren,P\n", r"classes that .* does not have: 2 of 3 \(Barn Owl, House Wren\)"),
        ("class,order\n" + "Rock Wren,P\n" * 2, "line 3 repeats the class Rock Wren"),
        ("class,order\n,P\n", "line 2 names no class"),
        ("name,order\n", "has no rows; give one for each class"),
        ("class,order\nRock Wren,A\nBarn Owl,B\nHouse Wren,C\n", "has no level that joins two of the 3"),
        ("class\nRock Wren\nBarn Owl\nHouse Wren\n", "has no level that joins two of the 3"),
        ("class,a,b\nRock Wren,x,y\nBarn Owl,x,z\nHouse Wren,w,z\n", "must be a tree, but . is in the . . and in ."),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as refusal:
        read_taxonomy(_file(tmp_path, text), CLASSES)
    assert "\n" not in str(refusal.value)


def test_a_path_that_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.taxonomy: .*tree.csv does not exist; check the path"):
        read_taxonomy(tmp_path / "tree.csv", CLASSES)
    with pytest.raises(ConfigError, match=r"must be a .csv file"):
        read_taxonomy(_file(tmp_path, ROWS, "tree.txt"), CLASSES)


def test_nabirds_own_files_give_its_tree(tmp_path: Path) -> None:
    _file(tmp_path, "1 0\n2 0\n3 1\n4 1\n5 3\n6 3\n", "hierarchy.txt")
    _file(tmp_path, "0 Birds\n1 Ducks\n2 Loon\n3 Eider\n4 Wigeon\n5 Eider (male )\n6 Eider (female )\n", "classes.txt")
    names = ("Loon", "Eider (male)", "Eider (female)", "Wigeon")
    found = read_taxonomy(tmp_path / "hierarchy.txt", names).taxonomy
    assert found.levels == ("level 2", "level 1")
    assert found.groups == (("Loon", "Eider", "Eider", "Wigeon"), ("Loon", "Ducks", "Ducks", "Ducks"))
    _file(tmp_path, "1 2\n2 1\n3 1\n", "hierarchy.txt")
    with pytest.raises(DataError, match="is above itself"):
        read_taxonomy(tmp_path / "hierarchy.txt", names)


def test_the_official_trees_cover_their_classes(metadata: Path) -> None:
    birds = read_cub(metadata / "CUB_200_2011", check_files=False)
    tree = read_taxonomy(metadata / "CUB_200_2011" / "taxonomy.csv", birds.classes).taxonomy
    assert tree.levels == ("genus", "family", "order")
    with (metadata / "CUB_200_2011" / "taxonomy.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    counted = [len({row[level] for row in rows}) for level in tree.levels]
    assert [len(tree.groups_of(level)) for level in range(3)] == counted
    many = read_nabirds(metadata / "nabirds", check_files=False)
    tree = read_taxonomy(metadata / "nabirds" / "hierarchy.txt", many.classes).taxonomy
    assert [len(tree.groups_of(level)) for level in range(len(tree.levels))] == [495, 228, 22]


def test_a_run_keeps_its_taxonomy(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert taxonomy_of_run(folder, CLASSES) is None
    tree = read_taxonomy(_file(tmp_path, ROWS), CLASSES).taxonomy
    save_taxonomy(tree, CLASSES, folder.taxonomy)
    assert taxonomy_of_run(folder, CLASSES) == tree
    folder.taxonomy.write_bytes(folder.taxonomy.read_bytes().replace(b"Strigiformes", b"Passeriformes"))
    with pytest.raises(CheckpointError, match=r"taxonomy\.csv"):
        taxonomy_of_run(folder, CLASSES)
