"""What an exported model says of itself, in the metadata of its file; no torch.

One JSON document under the key `mpfgvc`, read as strictly as `model.json`: every field is there, of its
exact type. The graph alone gives logits; this says what they mean and what the photographs must look like.
"""

import json
from dataclasses import asdict, dataclass
from typing import Self

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.taxonomy import Taxonomy, check_taxonomy
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.inference.calibration import Calibration
from mpfgvc.inference.strict_json import parse_json, typed
from mpfgvc.terms import ExportPrecision, Source

KEY = "mpfgvc"
"""Where the metadata of the file have the document."""
FORMAT = 1
"""Version of the layout; raised when an older runtime would misread a newer file."""
INPUT = "images"
"""uint8 (batch, height, width, 3): RGB as `prepared_pixels` makes it."""
OUTPUTS = ("vision", "text", "fusion", "embedding", "kept")
"""Three logits (batch, classes), V (batch, width), and the kept patches (batch, kept), best first."""


@dataclass(frozen=True, kw_only=True)
class ExportedDescription:
    """The classes and all else that an answer needs beside the graph."""

    format: int = FORMAT
    version: str
    """Of mpfgvc, which wrote the file."""
    model: str
    """SHA-256 of the weights that were exported; empty where it is not known."""
    image_tower: str
    classes: tuple[str, ...]
    prediction: Source
    """The source that the model answers with."""
    temperature: float
    """By which the text logits are divided already."""
    precision: ExportPrecision
    preprocessing: Preprocessing
    calibration: Calibration | None = None
    taxonomy: Taxonomy | None = None

    @classmethod
    def read(cls, text: str, path: object) -> Self:
        """The description in a document. Raises CheckpointError in one line naming the file."""
        try:
            document = parse_json(text)
            version = document.get("format") if isinstance(document, dict) else None
            if type(version) is int and version != FORMAT:
                hint = "use the version of mpfgvc that wrote it"
                raise CheckpointError(f"{path} has format {version}, this version reads {FORMAT}; {hint}")
            if isinstance(document, dict):  # files of older versions have neither
                document = {"calibration": None, "taxonomy": None} | document
            description: Self = typed(cls, document, "")
            check_taxonomy(description.taxonomy, description.classes)
        except (ConfigError, DataError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: its metadata are damaged: {error}; export it again") from None
        return description

    def to_json(self) -> str:
        """The document, in ASCII: names keep bytes that are not UTF-8."""
        return json.dumps(asdict(self), allow_nan=False)
