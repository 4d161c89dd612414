"""CSV and Parquet manifests."""

import pytest

from mpfgvc.data.readers.tables import read_manifest
from mpfgvc.errors import ConfigError, DataError

HEADER = "path,label,split\n"


@pytest.fixture
def read(tmp_path):
    def from_text(text, *, check_files=False):
        (tmp_path / "birds.csv").write_text(text, encoding="utf-8")
        return read_manifest(tmp_path / "birds.csv", tmp_path, test_share=0.25, seed=0, check_files=check_files)

    return from_text


def test_rows_become_samples_with_their_split(read, tmp_path):
    photos = read("\ufeffsplit,path,label\ntrain,a.jpg,Tern\nVAL,b.jpg,Tern\ntest,c.jpg,Auk\ntrain,d.jpg,Auk\n")
    assert photos.classes == ("Auk", "Tern")
    assert [(s.path.name, s.label, s.split) for s in photos.samples] == [
        ("a.jpg", 1, "train"), ("b.jpg", 1, "validation"), ("c.jpg", 0, "test"), ("d.jpg", 0, "train"),
    ]  # fmt: skip
    assert photos.samples[0].path == tmp_path / "a.jpg"


def test_sparse_whole_numbers_are_classes_in_the_order_of_their_value(read):
    photos = read(HEADER + "a.jpg,10,train\nb.jpg,9,train\nc.jpg,10,test\n")
    assert photos.classes == ("9", "10")
    assert [sample.label for sample in photos.samples] == [1, 0, 1]


def test_a_split_is_made_where_the_manifest_has_none(read):
    photos = read("path,label\n" + "".join(f"{index}.jpg,{'ab'[index % 2]}\n" for index in range(16)))
    assert len(photos.subset("test")) == 4
    assert "4 of 16 photographs held out" in photos.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.jpg,x\n", "must have the columns path and label, path missing, got .'file', 'label'"),
        ("a.jpg\n", "path and label missing"),
        (HEADER, "has no rows"),
        (HEADER + "a.jpg,x,train\n./a.jpg,x,test\n", "line 3 repeats ./a.jpg of .* line 2"),
        (HEADER + "a.jpg,x,train\nb.jpg,,train\n", "line 3 has no label"),
        (HEADER + ",x,train\n", "line 2 has no path"),
        (HEADER + "a.jpg,-1,train\n", "line 2: a numeric label must be at least 0, got -1"),
        (HEADER + "a.jpg,x,hold\n", "line 2: split must be train, val or test, got 'hold'"),
        (HEADER + "a.jpg,x,train\nb.jpg,x,\n", "line 3: split must be train, val or test, got ''"),
        (HEADER + "a.jpg,x,train,more\n", "line 2 has more fields than the header"),
        (HEADER + "a.jpg,x\n", "line 2 has 2 of the 3 fields of the header"),
        ("path,label,label\na.jpg,x,y\n", "must have each column once, got label twice"),
        (HEADER + 'a.jpg,"x,train\nb.jpg,y,train\n', "line 3 is not CSV: unexpected end of data"),
        (HEADER + 'a.jpg,"x\ny",train\n', "line 3: label must be on one line"),
        (HEADER + "a.jpg,x\0,train\n", "line 2: label must be on one line"),
        (HEADER + "a.jpg,1,train\nb.jpg,1.0,train\n", r"line 3: label '1\.0' looks like '1' of .* line 2"),
        (
            HEADER + "a.jpg,Caf\u00e9,train\nb.jpg,Cafe\u0301,train\n",
            r"line 3: label 'Cafe\\u0301' looks like 'Caf\\xe9' of .* line 2; write both in the same way",
        ),
        (HEADER + "a.jpg,tern,train\nb.jpg,sea  gull,train\nc.jpg,sea gull,train\n", "line 4: label 'sea gull'"),
        (HEADER + "a.jpg,x,train\nb.jpg,y,test\n", "1 of 2 have none: y"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(read, text, message):
    with pytest.raises(DataError, match=message):
        read(text)


def test_files_that_the_manifest_names_must_exist(read, draw, tmp_path):
    text = HEADER + "a.jpg,x,train\nsub/b.jpg,y,train\n"
    draw(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"2 files, 1 of them missing, first .*b\.jpg"):
        read(text, check_files=True)
    draw(tmp_path / "sub" / "b.jpg")
    assert len(read(text, check_files=True).samples) == 2


@pytest.mark.parametrize("name", ["gone.csv", "gone.parquet"])
def test_a_manifest_that_does_not_exist_is_named(tmp_path, name):
    with pytest.raises(ConfigError, match=f"data.manifest: .*{name} does not exist; check the path"):
        read_manifest(tmp_path / name, tmp_path, test_share=0, seed=0)


def test_a_parquet_manifest_reads_as_the_csv_of_the_same_rows(read, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [2, 11, 2], "split": ["train", "train", "test"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "birds.parquet")
    rows = "".join(f"{path},{label},{split}\n" for path, label, split in zip(*columns.values(), strict=True))
    table = read_manifest(tmp_path / "birds.parquet", tmp_path, test_share=0, seed=0, check_files=False)
    assert list(table.samples) == list(read(HEADER + rows).samples)


def test_a_file_that_is_no_parquet_is_refused_in_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "birds.parquet").write_text(HEADER)
    with pytest.raises(DataError, match="is not a readable Parquet file") as refusal:
        read_manifest(tmp_path / "birds.parquet", tmp_path, test_share=0, seed=0)
    assert "\n" not in str(refusal.value)


def test_paths_may_be_absolute_and_may_climb(read, draw, tmp_path):
    inside, outside = draw(tmp_path / "a.jpg"), draw(tmp_path / "elsewhere" / "b.jpg")
    photos = read(f"path,label\nelsewhere/../a.jpg,x\n{outside},y\n", check_files=True)
    assert [sample.path for sample in photos.samples] == [inside, outside]
    with pytest.raises(DataError, match=r"line 3 repeats .*a\.jpg of .* line 2"):
        read(f"path,label\na.jpg,x\n{inside},y\n")


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    tables = pytest.importorskip("pyarrow.parquet")

    def read(labels, kind=None):
        paths = [f"{index}.jpg" for index in range(len(labels))]
        table = pyarrow.table({"path": paths, "label": pyarrow.array(labels, type=kind)})
        tables.write_table(table, tmp_path / "birds.parquet")
        return read_manifest(tmp_path / "birds.parquet", tmp_path, test_share=0, seed=0, check_files=False)

    return read


def test_labels_of_parquet_become_text(parquet):
    assert parquet([0.0, 2.0]).classes == ("0", "2")
    assert parquet([b"cat", "Caf\u00e9".encode()]).classes == ("Caf\u00e9", "cat")
    assert parquet([True, False]).classes == ("False", "True")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, float("nan")], "row 2 has no label"),
        (["x", None], "row 2 has no label"),
        ([1.0, 2.5], r"row 2: label must be text or a whole number, got 2\.5"),
        ([1.0, float("inf")], "row 2: label must be text or a whole number, got inf"),
        ([["a"], ["b"]], r"row 1: label must be text or a whole number, got \['a'\]"),
        ([{"a": 1}, {"a": 2}], r"row 1: label must be text or a whole number, got \{'a': 1\}"),
        ([b"x", b"\xff"], r"row 2: label must be text in UTF-8, got b'\\xff'"),
    ],
)
def test_a_label_of_parquet_that_is_not_text_names_its_row(parquet, labels, message):
    with pytest.raises(DataError, match=rf"birds\.parquet {message}"):
        parquet(labels)
