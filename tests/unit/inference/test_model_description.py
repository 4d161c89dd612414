"""A description that is not exactly as it was written is refused in one line, naming file and field."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.inference.model_description import ModelDescription

Document = dict[str, Any]
OTHER_VALUES: tuple[Any, ...] = (None, [], {}, True, "\u00b5", 1.5, [1, "a"])
TEXTS = {("image_tower", "weights"), ("text_tower", "name"), ("text_tower", "pretrained")} | {
    *{("text_tower", "weights"), ("supercategory",), ("context_init",), ("descriptions",)}
}
OPTIONAL = TEXTS - {("text_tower", "name")} | {("image_tower", "image_size"), ("kept_tokens",)}


def _places(document: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from _places(value, (*path, name))


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


def _refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
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


def test_what_was_written_is_read(description: ModelDescription, file: Path) -> None:
    file.write_bytes(description.to_bytes())
    assert ModelDescription.read(file) == description


def test_names_in_any_script_and_of_any_bytes_come_back(description: ModelDescription, file: Path) -> None:
    names = ("Pic épeiche", "鴝", "caf\udce9", 'a "quoted" \\name', "<b>&")
    file.write_bytes(replace(description, classes=names).to_bytes())
    assert ModelDescription.read(file).classes == names


def test_every_field_is_required_by_name(document: Document, file: Path) -> None:
    places = list(_places(document))
    assert len(places) > 25
    for path in places:
        line = _refusal(file, json.dumps(_changed(document, path, KeyError)).encode())
        assert path[-1] in line, line


def test_every_field_refuses_values_of_other_types(document: Document, file: Path) -> None:
    tried = 0
    for path in _places(document):
        for value in OTHER_VALUES:
            if not _fits(document, path, value):
                line = _refusal(file, json.dumps(_changed(document, path, value)).encode())
                assert path[-1] in line, line
                tried += 1
    assert tried > 150


def _fits(document: Document, path: tuple[str, ...], value: Any) -> bool:
    """Whether a field may hold this value."""
    present: Any = document
    for name in path:
        present = present[name]
    if value is None:
        return path[1:] in OPTIONAL or path[0] in ("calibration", "taxonomy")
    if isinstance(value, str):
        return path[1:] in TEXTS
    return (isinstance(value, bool) and isinstance(present, bool)) or (
        value == 1.5 and path[-1] in ("temperature", "prompt_weight")
    )


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        (("format",), 2, "has format 2, this version reads 1"),
        (("format",), 1.0, "format must be a whole number, got 1.0"),
        (("classes",), ["crow"], "classes must be at least two names, got 1"),
        (("classes",), ["crow", "owl", "crow"], 'classes must be names that all differ, got "crow"'),
        (("classes",), ["crow", " "], "classes must be names that are not blank"),
        (("classes",), ["crow", None], "classes[1] must be text, got null"),
        (("classes",), ["crow", 7], "classes[1] must be text, got 7"),
        (("classes",), {"crow": 0}, "classes must be a list"),
        (("calibration",), {"photographs": "ten"}, "calibration.sources is missing"),
        (("taxonomy",), {"levels": ["a"], "groups": [["x", "y"]]}, "taxonomy must give a group to each"),
        (("taxonomy",), {"levels": ["a"], "groups": []}, "taxonomy must give every class one group"),
        (("embed",), 0, "embed must be between 1 and 65536, got 0"),
        (("embed",), 10**12, "embed must be between 1"),
        (("embed",), -3, "embed"),
        (("preprocessing", "image_size"), [48], "preprocessing.image_size must be a list of 2"),
        (("preprocessing", "image_size"), [48, 0], "preprocessing.image_size must be two sizes above 0"),
        (("preprocessing", "image_size"), [20000, 48], "at most 4096 pixels, got [20000, 48]"),
        (("preprocessing", "crop_ratio"), 1e-9, "preprocessing.crop_ratio must be between 0.1 and 1"),
        (("preprocessing", "mean"), [0.5, 0.5], "preprocessing.mean must be a list of 3"),
        (("preprocessing", "mean"), [0.5, 0.5, 1e300], "preprocessing.mean must be between"),
        (("preprocessing", "mean"), [0.5, 0.5, "0.5"], "preprocessing.mean[2] must be a finite number"),
        (("preprocessing", "std"), [0.5, 0.5, 0], "preprocessing.std must be three numbers above 0"),
        (("preprocessing", "std"), [0.5, 0.5, 1e-30], "preprocessing.std must be between"),
        (("preprocessing", "std"), [0.5, 0.5, 10**400], "preprocessing.std[2] must be a finite number"),
        (("preprocessing", "resize"), "crop", "preprocessing.resize must be one of short, squash"),
        (("preprocessing", "interpolation"), "", "preprocessing.interpolation must be one of bicubic"),
        (("preprocessing", "colour"), 1, 'preprocessing."colour" is not a known field'),
        (("model", "image_tower", "name"), "hf-hub:user/model", "must be the plain name of a timm model"),
        (("model", "image_tower", "name"), "local-dir:/etc", "must be the plain name of a timm model"),
        (("model", "image_tower", "name"), "user/model", "must be the plain name of a timm model"),
        (("model", "image_tower", "name"), "http://host/model", "must be the plain name of a timm model"),
        (("model", "image_tower", "name"), "", "model.image_tower.name must not be empty"),
        (("model", "image_tower", "name"), "vit\n", "must be the plain name of a timm model"),
        (("model", "image_tower", "image_size"), 20000, "image_size must be at most 4096 pixels"),
        (("model", "image_tower", "image_size"), [48, 20000], "image_size must be at most 4096 pixels"),
        (("model", "image_tower", "image_size"), [48, 64, 3], "model.image_tower.image_size must be"),
        (("model", "image_tower", "image_size"), -48, "model.image_tower.image_size must be at least 1"),
        (("model", "kept_tokens"), 0, "model.kept_tokens"),
        (("model", "context_tokens"), 0, "model.context_tokens"),
        (("model", "prompt_weight"), 0, "model.prompt_weight must be above 0"),
        (("model", "prompt_weight"), "0.05", "model.prompt_weight must be a number"),
        (("model", "prompt_ending"), "none", "model.prompt_ending must be one of supercategory"),
        (("model", "extra"), {}, "unknown setting model.extra"),
        (("extra",), "\n", '"extra" is not a known field'),
    ],
)
def test_a_value_out_of_range_is_refused(
    document: Document, file: Path, path: tuple[str, ...], value: Any, part: str
) -> None:
    assert part in _refusal(file, json.dumps(_changed(document, path, value)).encode())


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda text: "", "cannot read"),
        (lambda text: "null", "the document must be an object, got null"),
        (lambda text: "[]", "the document must be an object"),
        (lambda text: text[: len(text) // 2], "cannot read"),
        (lambda text: text + "{}", "Extra data"),
        (lambda text: "\ufeff" + text, "BOM"),
        (lambda text: "[" * 100_000, "recursion"),
        (lambda text: text.replace("0.05", "NaN"), "NaN is not a number of JSON"),
        (lambda text: text.replace("0.05", "-Infinity"), "-Infinity is not a number of JSON"),
        (lambda text: text.replace("0.05", "1e999"), "model.prompt_weight must be a number"),
        (lambda text: text.replace("0.05", "9" * 5000), "digits"),
        (lambda text: text.replace('"embed"', '"embed": 7, "embed"'), '"embed" is there 2 times'),
        (lambda text: text.replace('"std"', '"std": 1, "std"'), '"std" is there 2 times'),
        (lambda text: text.replace("crow", "cr\x00ow"), "control character"),
    ],
)
def test_a_text_that_is_not_strict_json_is_refused(
    description: ModelDescription, file: Path, spoil: Callable[[str], str], part: str
) -> None:
    assert part in _refusal(file, spoil(description.to_bytes().decode()).encode())


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(description: ModelDescription, file: Path, encoding: str) -> None:
    text = description.to_bytes().decode().replace("crow", "corneille à bec")
    assert "codec can't decode" in _refusal(file, text.encode(encoding))


def test_a_file_of_any_size_is_refused_before_it_is_read(file: Path) -> None:
    file.touch()
    with file.open("r+b") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(CheckpointError, match=r"must be at most 67108864 bytes, got 1099511627776"):
        ModelDescription.read(file)


def test_a_folder_or_nothing_in_its_place_is_refused(file: Path) -> None:
    for _ in range(2):
        with pytest.raises(CheckpointError, match="is missing or not a regular file"):
            ModelDescription.read(file)
        file.mkdir(exist_ok=True)


def test_what_cannot_be_read_again_is_not_written(description: ModelDescription) -> None:
    with pytest.raises(ConfigError, match="names that all differ"):
        replace(description, classes=("crow", "crow"))
