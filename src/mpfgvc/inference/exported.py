"""An exported model: what its file says of it, and the backend that runs it; no torch.

The metadata of the file have one JSON document under the key `mpfgvc`, read as strictly as `model.json`:
every field is there, of its exact type. The graph alone gives logits; this says what they mean and what the
photographs must look like. The graph normalises the pixels itself.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Self, get_args

import numpy as np
from PIL.Image import Image

from mpfgvc.data.preprocessing import Preprocessing, prepared_pixels
from mpfgvc.data.taxonomy import Taxonomy, check_taxonomy
from mpfgvc.errors import CheckpointError, ConfigError, DataError, check_at_least, check_known
from mpfgvc.inference.answering import ModelFacts
from mpfgvc.inference.backends import Outputs, Pixels, check_finite
from mpfgvc.inference.calibration import Calibration
from mpfgvc.inference.engines import open_session
from mpfgvc.inference.strict_json import parse_json, typed
from mpfgvc.terms import Engine, ExportPrecision, Source

KEY = "mpfgvc"
"""Where the metadata of the file have the document."""
FORMAT = 1
"""Version of the layout; raised when an older runtime would misread a newer file."""


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
            description: Self = typed(cls, document, "")
            check_taxonomy(description.taxonomy, description.classes)
        except (ConfigError, DataError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: its metadata are damaged: {error}; export it again") from None
        return description

    def to_json(self) -> str:
        """The document, in ASCII: names keep bytes that are not UTF-8."""
        return json.dumps(asdict(self), allow_nan=False)


class ExportedBackend:
    """The backend of a `.onnx` file of `mpfgvc export` (backends.py), on the CPU.

    `threads` None: OMP_NUM_THREADS, else one per core. Raises CheckpointError for a file that is missing,
    cut, or not one of `mpfgvc export`, ConfigError for an unknown or missing engine.
    """

    on_cpu = True

    def __init__(self, model: str | Path, *, engine: Engine = "onnxruntime", threads: int | None = None) -> None:
        check_known("engine", engine, get_args(Engine))
        if threads is not None:
            check_at_least(1, "threads", threads)
        self.path = Path(model)
        self._session = open_session(self.path, engine=engine, threads=threads)
        if KEY not in self._session.metadata:
            rule = "is an ONNX file, but not one of mpfgvc export: its metadata say nothing of classes"
            raise CheckpointError(f"{self.path} {rule}; make one with mpfgvc export")
        self.description = about = ExportedDescription.read(self._session.metadata[KEY], self.path)
        self.preprocessing, self.width = about.preprocessing, self._session.width
        self.how = f"{about.precision} by {engine}"
        self.facts = ModelFacts(
            name=str(self.path),
            classes=about.classes,
            digest=about.model,
            prediction=about.prediction,
            calibration=about.calibration,
            taxonomy=about.taxonomy,
        )

    def prepare(self, photograph: Image) -> Pixels:
        """The pixels that the graph sees, uint8 (height, width, 3)."""
        return prepared_pixels(photograph, self.preprocessing)

    def run(self, pixels: Pixels, names: Sequence[str]) -> Outputs:
        """The outputs for prepared photographs. Raises CheckpointError where a logit is not finite."""
        outputs = self._session.run(pixels)
        logits = (outputs.vision, outputs.text, outputs.fusion)
        finite = np.all([np.isfinite(each).all(axis=1) for each in logits], axis=0)
        check_finite(finite, names, model=str(self.path), hint="export it again")
        return outputs

    def trained(self) -> NoReturn:
        """Raises ConfigError: the graph gives the kept patches, but neither weights nor attention."""
        raise ConfigError(f"{self.path} is an exported model, which cannot do that; give the run itself")
