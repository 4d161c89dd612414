"""What a model says of itself, where a saved one is found, and that it is read as it was written; no torch.

    runs/cub, runs/cub/model           folders with `model.json`
    hf://user/name[@revision]          the Hugging Face hub, asked for this form only
    cub.onnx                           the metadata of an exported file hold the same kind of document

Nothing in a document is trusted: it must be just what would be written of what was read from it, with every value
in its range. The image tower must be one that timm or this package builds from its name, so that no
saved model can go online or read another file.
"""

import difflib
import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from mpfgvc.config import ModelConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.taxonomy import Taxonomy, check_taxonomy
from mpfgvc.errors import CheckpointError, ConfigError, DataError, one_line
from mpfgvc.files import DIGESTS, whole_folder
from mpfgvc.inference.answering import Calibration, ModelFacts
from mpfgvc.terms import ExportPrecision, Source

FORMAT = 1
"""Version of both documents; raised when an older reader would misread a newer one."""
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FILES = [WEIGHTS, DESCRIPTION, DIGESTS]
"""All that a model folder holds."""
HUB = "hf://"
MOST_BYTES = 64 * 2**20
MOST_PIXELS = 4096
"""Longest side of the images that a tower may see."""
MOST_EMBED = 2**16
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?P<id>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/\-]*))?")
_Document = TypeVar("_Document")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What every model says. Raises ConfigError or DataError naming the field that is out of range."""

    format: int = FORMAT
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    calibration: Calibration | None = None
    """None for a model whose probabilities were compared with no labelled photographs."""
    taxonomy: Taxonomy | None = None

    def __post_init__(self) -> None:
        _check(len(self.classes) >= 2, "classes", "at least two names", len(self.classes))
        for name in self.classes:
            _check(bool(name.strip()), "classes", "names that are not blank", name)
        name, count = Counter(self.classes).most_common(1)[0]
        _check(count == 1, "classes", "names that all differ", name)
        _check_preprocessing(self.preprocessing)
        check_taxonomy(self.taxonomy, self.classes)

    @classmethod
    def parse(cls, text: str, where: object, hint: str) -> Self:
        """The description in a document. Raises CheckpointError in one line that names it and the field."""
        try:
            document = parse_json(text)
            version = document.get("format") if isinstance(document, dict) else None
            if type(version) is int and version != FORMAT:
                hint = "use the version of mpfgvc that wrote it"
                raise CheckpointError(f"{where} has format {version}, this version reads {FORMAT}; {hint}")
            return as_written(cls, document)
        except (ConfigError, DataError) as error:
            raise CheckpointError(f"{where}: {error}; {hint}") from None

    def facts(self, name: str, *, digest: str, prediction: Source) -> ModelFacts:
        """What answers need to know of the model, which errors call `name`."""
        return ModelFacts(
            name=name,
            classes=self.classes,
            digest=digest,
            prediction=prediction,
            calibration=self.calibration,
            taxonomy=self.taxonomy,
        )


@dataclass(frozen=True, kw_only=True)
class ModelDescription(Description):
    """`model.json`, beside the tensors: also the width of the text features and the architecture."""

    embed: int
    model: ModelConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(1 <= self.embed <= MOST_EMBED, "embed", f"between 1 and {MOST_EMBED}", self.embed)
        tower = self.model.image_tower
        plain = re.fullmatch(r"[A-Za-z0-9_.\-]+", tower.name) is not None
        _check(plain, "model.image_tower.name", "the plain name of a timm model", tower.name)
        sizes = tower.image_size if isinstance(tower.image_size, list) else [tower.image_size or 1]
        rule = f"at most {MOST_PIXELS} pixels"
        _check(max(sizes) <= MOST_PIXELS, "model.image_tower.image_size", rule, tower.image_size)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The description in a file. Raises CheckpointError in one line naming the file and the field."""
        return cls.parse(read_text(path), path, "restore the file or train again")

    def to_bytes(self) -> bytes:
        """The content of the file. Bytes of a name that were not UTF-8 are escaped, and come back."""
        return f"{as_json(self, indent=2, ensure_ascii=False)}\n".encode(errors="backslashreplace")


@dataclass(frozen=True, kw_only=True)
class ExportedDescription(Description):
    """The metadata of an exported file: what the graph's outputs mean."""

    version: str
    """Of mpfgvc, which wrote the file."""
    model: str
    """SHA-256 of the weights that were exported; empty where it is not known."""
    image_tower: str
    prediction: Source
    """The source that the model answers with."""
    temperature: float
    """By which the text logits are divided already."""
    precision: ExportPrecision

    @classmethod
    def read(cls, text: str, path: object) -> Self:
        """The description in a document. Raises CheckpointError in one line naming the file."""
        return cls.parse(text, path, "its metadata are damaged, export it again")


def as_json(described: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """A dataclass as a document, of finite numbers only."""
    settings = ModelConfig.model_dump
    return json.dumps(asdict(described), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False, default=settings)


def as_written(kind: type[_Document], document: object) -> _Document:
    """The dataclass that a document was written from. Raises ConfigError naming the field that is not as written:
    nothing is converted, dropped or filled in."""
    try:
        described = TypeAdapter(kind).validate_python(document)
        _check_same(document, json.loads(as_json(described)), "")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "the document"
        rule = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Input ")
        raise ConfigError(
            f"{name} {rule}" + ("" if rule == "is missing" else f", got {_short(first['input'])}")
        ) from None
    except (ValueError, OverflowError) as error:
        raise ConfigError(one_line(error)) from None
    return described


def parse_json(text: str) -> Any:
    """The document in a text. Raises ConfigError in one line."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"it is not JSON: {one_line(error)}") from None


def read_text(path: Path) -> str:
    """The UTF-8 text of a small file. Raises CheckpointError in one line naming it."""
    hint = "restore it or train again"
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing or not a regular file; {hint}")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise CheckpointError(f"{path} must be at most {MOST_BYTES} bytes, got {size}; {hint}")
        return path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; {hint}") from None


def find_model_folder(source: str | Path) -> Path:
    """The folder that holds `model.json`; from the hub, the files of a model are fetched.

    Raises CheckpointError for a path without a model, or a repository that is not available.
    """
    if not isinstance(source, str | os.PathLike):
        raise CheckpointError(f"a model is named by a folder or {HUB}user/name, got {source!r:.80}")
    if str(source).startswith(HUB):
        return _download(str(source))
    path = Path(source)
    try:
        for folder in (whole_folder(path / "model"), whole_folder(path)):
            if (folder / DESCRIPTION).is_file():
                return folder
        raise CheckpointError(_why_none(path))
    except OSError as error:
        raise CheckpointError(f"cannot read {source}: {error.strerror}; check the path") from None


def _why_none(path: Path) -> str:
    """Why a path holds no model, and what else the caller may have meant."""
    from mpfgvc.run_folder import RunFolder

    if RunFolder(path).is_run:
        hint = f"finish it with: mpfgvc train --resume {path}"
        return f"the run {path} has no trained model yet ({path / 'model'}); {hint}"
    if path.exists():
        return f"no {DESCRIPTION} in {path}; give a run folder or its model folder"
    if not path.parent.is_dir():
        return f"there is no folder {path}; there is no folder {path.parent} either; the hub is {HUB}user/name"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()])
    hint = f"give a run folder, its model folder, or {HUB}user/name for the hub"
    if near:
        hint = f"did you mean {' or '.join(str(path.parent / name) for name in near)}?"
    return f"there is no folder {path}; {hint}"


def check_repository(name: str) -> str:
    """The name itself if it is `user/name` as the hub takes it. Raises CheckpointError."""
    match = _match(name)
    if match is None or match["revision"] is not None:
        raise CheckpointError(f"a repository of the hub must be user/name, got {name!r:.200}")
    return name


def _match(name: str) -> re.Match[str] | None:
    match = _REPOSITORY.fullmatch(name)
    return None if match is None or "--" in match["id"] or ".." in name else match


def _download(source: str) -> Path:
    match = _match(source.removeprefix(HUB))
    if match is None:
        rule = f"must be {HUB}user/name or {HUB}user/name@revision"
        raise CheckpointError(f"a repository of the hub {rule}, got {source!r:.200}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(match["id"], revision=match["revision"], allow_patterns=FILES))
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        reason = f"{one_line(error)}; check its name and the network"
        raise CheckpointError(f"cannot fetch {source} from the hub: {reason}") from None


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    """Rules for a file that anyone may have written, beyond those of every Preprocessing."""
    sizes, crop_ratio = preprocessing.image_size, preprocessing.crop_ratio
    small = max(sizes) <= MOST_PIXELS
    _check(small, "preprocessing.image_size", f"at most {MOST_PIXELS} pixels", list(sizes))
    _check(crop_ratio >= 0.1, "preprocessing.crop_ratio", "between 0.1 and 1", crop_ratio)
    near = max(map(abs, preprocessing.mean)) <= 1000
    _check(near, "preprocessing.mean", "between -1000 and 1000", list(preprocessing.mean))
    fine = min(preprocessing.std) >= 1e-6 and max(preprocessing.std) <= 1000
    _check(fine, "preprocessing.std", "between 1e-06 and 1000", list(preprocessing.std))


def _check_same(given: object, written: object, name: str) -> None:
    """Refuse a document that is not what would be written of what was read from it."""
    if isinstance(given, dict) and isinstance(written, dict):
        prefix = f"{name}." if name else ""
        for field in [*written, *given]:
            if field not in given:
                raise ConfigError(f"{prefix}{field} is missing")
            if field not in written:
                raise ConfigError(f"{prefix}{_short(field)} is not a known field")
            _check_same(given[field], written[field], f"{prefix}{field}")
    elif given != written:
        raise ConfigError(f"{name} must be written {_short(written)}, got {_short(given)}")


def _check(fine: bool, name: str, rule: str, value: object) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {rule}, got {_short(value)}")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _short(value: object) -> str:
    """A value for an error's line: printable, one line, not long."""
    return f"{json.dumps(value, default=repr):.60}"
