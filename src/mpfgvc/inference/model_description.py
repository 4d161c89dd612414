"""`model.json`: what a saved model is, beside its tensors.

Nothing in a description is trusted: every field must be there, of its exact type and in
its range, before anything is built. The image tower must be one that timm or this package
builds from its name, so that no saved model can go online or read another file.
"""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from mpfgvc.config import ModelConfig, Settings
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.taxonomy import Taxonomy, check_taxonomy
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.files import DIGESTS
from mpfgvc.inference.calibration import Calibration
from mpfgvc.inference.strict_json import read_json, typed

FORMAT = 1
"""Version of the layout; raised when an older reader would misread a newer folder."""
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
FILES = [WEIGHTS, DESCRIPTION, DIGESTS]
"""All that a model folder holds."""
MOST_BYTES = 64 * 2**20
MOST_PIXELS = 4096
"""Longest side of the images that a tower may see."""
MOST_EMBED = 2**16


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The classes, the width of the text features, the preprocessing and the architecture of a saved model.

    Raises ConfigError naming the field that is out of range.
    """

    format: int = FORMAT
    classes: tuple[str, ...]
    embed: int
    preprocessing: Preprocessing
    model: ModelConfig
    calibration: Calibration | None = None
    """None for a model whose probabilities were compared with no labelled photographs."""
    taxonomy: Taxonomy | None = None

    def __post_init__(self) -> None:
        _check(len(self.classes) >= 2, "classes", "at least two names", len(self.classes))
        for name in self.classes:
            _check(bool(name.strip()), "classes", "names that are not blank", name)
        name, count = Counter(self.classes).most_common(1)[0]
        _check(count == 1, "classes", "names that all differ", name)
        _check(1 <= self.embed <= MOST_EMBED, "embed", f"between 1 and {MOST_EMBED}", self.embed)
        _check_preprocessing(self.preprocessing)
        _check_tower(self.model)
        check_taxonomy(self.taxonomy, self.classes)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The description in a file. Raises CheckpointError in one line naming the file and the field."""
        document = read_json(path, most_bytes=MOST_BYTES)
        version = document.get("format") if isinstance(document, dict) else None
        if type(version) is int and version != FORMAT:
            hint = "use the version of mpfgvc that wrote it"
            raise CheckpointError(f"{path} has format {version}, this version reads {FORMAT}; {hint}")
        try:
            if isinstance(document, dict) and "model" in document:
                document["model"] = _settings(ModelConfig, document["model"])
            description: Self = typed(cls, document, "")
        except (ConfigError, DataError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path}: {error}; restore the file or train again") from None
        return description

    def to_bytes(self) -> bytes:
        """The content of the file. Bytes of a name that were not UTF-8 are escaped, and come back."""
        text = (
            json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False, default=ModelConfig.model_dump)
            + "\n"
        )
        return text.encode("utf-8", errors="backslashreplace")


def _settings(kind: type[Settings], value: object) -> Settings:
    """Settings all of which are given: none is filled in by its default."""
    if not isinstance(value, dict):
        raise ConfigError(f"{kind.prefix.rstrip('.')} must be an object, got {json.dumps(value):.60}")
    values = dict(value)
    for name, field in kind.model_fields.items():
        if name not in values:
            raise ConfigError(f"{kind.prefix}{name} is missing")
        inner, given = field.annotation, values[name]
        if isinstance(inner, type) and issubclass(inner, Settings):
            values[name] = _settings(inner, given)
    return kind(**values)


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


def _check_tower(config: ModelConfig) -> None:
    tower = config.image_tower
    plain = re.fullmatch(r"[A-Za-z0-9_.\-]+", tower.name) is not None
    _check(plain, "model.image_tower.name", "the plain name of a timm model", tower.name)
    sizes = tower.image_size if isinstance(tower.image_size, list) else [tower.image_size or 1]
    rule = f"at most {MOST_PIXELS} pixels"
    _check(max(sizes) <= MOST_PIXELS, "model.image_tower.image_size", rule, tower.image_size)


def _check(fine: bool, name: str, rule: str, value: object) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {rule}, got {json.dumps(value):.80}")
