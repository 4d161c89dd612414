"""Probabilities of every class for some photographs: by a model, and by what it was exported to.

Float64 (photographs, classes), of the source that the model answers with, without a temperature, which would
only hide a difference.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mpfgvc.data.preprocessing import prepared_pixels
from mpfgvc.data.samples import Photograph
from mpfgvc.deploy.graph import load_torch_program
from mpfgvc.deploy.runtime import Runtime
from mpfgvc.inference.calibration import softmax
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel
from mpfgvc.progress import Bar
from mpfgvc.terms import Engine


def model_answers(saved: SavedModel, photographs: Sequence[Photograph]) -> NDArray[np.float64]:
    """As `Predictor` gives them on a CPU, whose weights it packs, in place."""
    predictor = Predictor.packed(saved)

    def logits(photograph: Photograph) -> np.ndarray:
        pixels = predictor.transform(photograph.read(at_least=predictor.transform.at_least))
        output = predictor.inference(pixels[None], [str(photograph.path)])
        answer: np.ndarray = output.logits.float().numpy()
        return answer

    return _answers(logits, photographs, "the model")


def exported_answers(path: Path, engine: Engine, photographs: Sequence[Photograph]) -> NDArray[np.float64]:
    """As the runtime gives them for a .onnx file."""
    runtime = Runtime(path, engine=engine)

    def logits(photograph: Photograph) -> np.ndarray:
        image = photograph.read(at_least=runtime.preprocessing.at_least)
        return runtime.outputs([image])[runtime.source]

    return _answers(logits, photographs, "the export")


def program_answers(saved: SavedModel, path: Path, photographs: Sequence[Photograph]) -> NDArray[np.float64]:
    """As torch gives them for a .pt2 file."""
    program, preprocessing = load_torch_program(path), saved.preprocessing

    @torch.inference_mode()
    def logits(photograph: Photograph) -> np.ndarray:
        image = photograph.read(at_least=preprocessing.at_least)
        output = program(torch.tensor(prepared_pixels(image, preprocessing))[None])
        answer: np.ndarray = output[saved.network.prediction].numpy()
        return answer

    return _answers(logits, photographs, "the export")


def _answers(
    logits: Callable[[Photograph], np.ndarray], photographs: Sequence[Photograph], name: str
) -> NDArray[np.float64]:
    rows = []
    bar = Bar(name, total=len(photographs))
    try:
        for photograph in photographs:
            rows.append(softmax(logits(photograph)))
            bar.advance(1)
    finally:
        bar.close()
    return np.concatenate(rows)
