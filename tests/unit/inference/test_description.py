"""A description that is not as it was written is refused in one line; a path is a path, only hf:// is the hub."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.inference.description import ExportedDescription, ModelDescription, as_json, find_model_folder

Document = dict[str, Any]
NAMES = ("Pic épeiche", "鴝", "caf\udce9", 'a "quoted" \\name', "<b>&")
TEXTS = {"weights", "pretrained", "supercategory", "context_init", "descriptions"}
"""Fields that hold any text, or null."""
NUMBERS = {"format", "embed", "prompt_weight", "crop_ratio"}


def _paths(document: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from _paths(value, (*path, name))


def _changed(document: Document, path: tuple[str, ...], value: Any) -> Document:
    changed = copy.deepcopy(document)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def _refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError) as refusal:
        ModelDescription.read(path)
    line = str(refusal.value)
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 500
    return line


@pytest.fixture
def document(description: ModelDescription) -> Document:
    written: Document = json.loads(description.to_bytes())
    return written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.json"


def test_what_was_written_is_read_with_names_in_any_script_and_of_any_bytes(
    description: ModelDescription, file: Path
) -> None:
    described = replace(description, classes=NAMES)
    file.write_bytes(described.to_bytes())
    assert ModelDescription.read(file) == described


def test_what_cannot_be_read_again_is_not_written(description: ModelDescription) -> None:
    with pytest.raises(ConfigError, match="names that all differ"):
        replace(description, classes=("crow", "crow"))


def test_every_field_is_required_and_refuses_values_of_other_types(document: Document, file: Path) -> None:
    assert len(list(_paths(document))) > 20
    for path in _paths(document):
        name = path[-1]
        others: list[Any] = [KeyError, [], {}, [1, "a"]]
        others += [] if name in TEXTS else ["µ"]
        others += [] if name in NUMBERS | {"pretrained"} else [True]
        for value in others:
            if not (isinstance(value, str) and path[-2:] == ("text_tower", "name")):
                assert name in _refusal(file, json.dumps(_changed(document, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("format", 2, "has format 2, this version reads 1"),
        ("classes", ["crow"], "classes must be at least two names, got 1"),
        ("classes", ["crow", "owl", "crow"], 'classes must be names that all differ, got "crow"'),
        ("classes", ["crow", " "], "classes must be names that are not blank"),
        ("classes", ["crow", None], "classes.1 should be a valid string, got null"),
        ("calibration", {"photographs": "ten"}, "calibration.sources is missing"),
        ("taxonomy", {"levels": ["a"], "groups": [["x", "y"]]}, "taxonomy must give a group to each"),
        ("embed", 0, "embed must be between 1 and 65536, got 0"),
        ("embed", 10**12, "embed must be between 1"),
        ("embed", "7", 'embed must be written 7, got "7"'),
        ("preprocessing.image_size", [48], "preprocessing.image_size.1 is missing"),
        ("preprocessing.image_size", [48, 0], "preprocessing.image_size must be two sizes above 0"),
        ("preprocessing.image_size", [20000, 48], "at most 4096 pixels, got [20000, 48]"),
        ("preprocessing.crop_ratio", 1e-9, "preprocessing.crop_ratio must be between 0.1 and 1"),
        ("preprocessing.mean", [0.5, 0.5, 1e300], "preprocessing.mean must be between"),
        ("preprocessing.std", [0.5, 0.5, 1e-30], "preprocessing.std must be between"),
        ("preprocessing.std", [0.5, 0.5, 10**400], "preprocessing.std.2 should be a valid number"),
        ("preprocessing.resize", "crop", "preprocessing.resize should be 'short' or 'squash'"),
        ("preprocessing.colour", 1, 'preprocessing."colour" is not a known field'),
        ("model.image_tower.name", "hf-hub:user/model", "must be the plain name of a timm model"),
        ("model.image_tower.name", "local-dir:/etc", "must be the plain name of a timm model"),
        ("model.image_tower.name", "http://host/model", "must be the plain name of a timm model"),
        ("model.image_tower.name", "vit\n", "must be the plain name of a timm model"),
        ("model.image_tower.image_size", [48, 20000], "image_size must be at most 4096 pixels"),
        ("model.kept_tokens", 0, "model.kept_tokens"),
        ("model.extra", {}, "unknown setting model.extra"),
        ("extra", "\n", '"extra" is not a known field'),
    ],
)
def test_a_value_out_of_range_is_refused(document: Document, file: Path, path: str, value: Any, part: str) -> None:
    assert part in _refusal(file, json.dumps(_changed(document, tuple(path.split(".")), value)))


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda text: "", "it is not JSON"),
        (lambda text: "null", "the document should be a dictionary"),
        (lambda text: text[: len(text) // 2], "it is not JSON"),
        (lambda text: text + "{}", "Extra data"),
        (lambda text: "[" * 100_000, "recursion"),
        (lambda text: text.replace("0.4", "NaN"), "NaN is not a number of JSON"),
        (lambda text: text.replace("0.4", "1e999"), "preprocessing.mean must be between"),
        (lambda text: text.replace("0.4", "9" * 5000), "digits"),
        (lambda text: text.encode("utf-16"), "codec can't decode"),
    ],
)
def test_a_text_that_is_not_json_of_finite_numbers_in_utf_8_is_refused(
    description: ModelDescription, file: Path, spoil: Callable[[str], str], part: str
) -> None:
    assert part in _refusal(file, spoil(description.to_bytes().decode()))


def test_a_file_of_any_size_or_none_is_refused_before_it_is_read(file: Path) -> None:
    with pytest.raises(CheckpointError, match="is missing or not a regular file"):
        ModelDescription.read(file)
    with file.open("wb") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(CheckpointError, match=r"must be at most 67108864 bytes, got 1099511627776"):
        ModelDescription.read(file)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"format": 2}, r"m\.onnx has format 2, this version reads 1; use the version of mpfgvc that wrote it"),
        ({"prediction": "both"}, r"m\.onnx: prediction should be .*; its metadata are damaged, export it again"),
        ({"temperature": "0.07"}, 'temperature must be written 0.07, got "0.07"'),
        ({"classes": ["wren", "owl", "wren"]}, "names that all differ"),
        ({"preprocessing": {}}, "preprocessing.image_size is missing"),
    ],
)
def test_the_metadata_of_an_exported_file_are_read_as_strictly(
    description: ModelDescription, change: Document, line: str
) -> None:
    exported = ExportedDescription(
        version="0.1.0",
        model="ab" * 32,
        image_tower="test_vit",
        classes=NAMES,
        prediction="text",
        temperature=0.07,
        precision="int8",
        preprocessing=description.preprocessing,
    )
    text = as_json(exported)
    assert text.isascii()
    assert ExportedDescription.read(text, "m.onnx") == exported
    for wrong in (json.dumps(json.loads(text) | change), text[:-1]):
        with pytest.raises(CheckpointError, match=line if wrong != text[:-1] else "m.onnx: it is not JSON"):
            ExportedDescription.read(wrong, "m.onnx")


# Where a model is


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Document]:
    """What the hub was asked for; nothing goes online."""
    asked: list[Document] = []

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def _not_found(source: Any) -> str:
    with pytest.raises(CheckpointError) as refusal:
        find_model_folder(source)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_run_folder_and_its_model_folder_are_the_same_model(tmp_path: Path) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.json").touch()
    assert find_model_folder(model) == find_model_folder(str(model)) == find_model_folder(tmp_path / "run") == model


def test_a_typo_is_refused_with_the_near_names_and_does_not_go_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[Document]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mushrooms").mkdir(parents=True)
    Path("runs/birds").mkdir()
    assert _not_found("runs/mushroms") == "there is no folder runs/mushroms; did you mean runs/mushrooms?"
    assert "hf://user/name for the hub" in _not_found("runs/xyz")
    assert "there is no folder user either; the hub is hf://user/name" in _not_found("user/name")
    assert not requests
    assert "a model is named by a folder or hf://user/name, got None" in _not_found(None)
    assert "cannot read" in _not_found("a" * 5000)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    assert "no model.json in" in _not_found(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert f"mpfgvc train --resume {tmp_path}" in _not_found(tmp_path)


@pytest.mark.parametrize(
    ("source", "repository", "revision"),
    [("hf://user/name", "user/name", None), ("hf://user-1/na.me_2@refs/pr/3", "user-1/na.me_2", "refs/pr/3")],
)
def test_a_repository_of_the_hub_is_fetched_with_its_digests(
    requests: list[Document], tmp_path: Path, source: str, repository: str, revision: str | None
) -> None:
    assert find_model_folder(source) == tmp_path
    files = ["model.safetensors", "model.json", "digests.json"]
    assert requests == [{"repository": repository, "revision": revision, "allow_patterns": files}]


@pytest.mark.parametrize(
    "source",
    [
        *("hf://", "hf://name", "hf://a/b/c", "hf://user/", "hf:///x", "hf://u ser/name", "hf://user/na--me"),
        *("hf://../name", "hf://user/..", "hf://user/name@", "hf://user/name@../x", "hf://user/name\n"),
        f"hf://user/{'a' * 97}",
    ],
)
def test_a_bad_name_is_refused_before_the_hub_is_asked(requests: list[Document], source: str) -> None:
    assert "must be hf://user/name or hf://user/name@revision" in _not_found(source)
    assert not requests


def test_what_the_hub_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ValueError("404\nnot found")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert "cannot fetch hf://user/name from the hub: 404 not found" in _not_found("hf://user/name")
