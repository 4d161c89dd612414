"""Predict with a model of `mpfgvc export`: numpy, Pillow and onnxruntime, no torch.

from mpfgvc_runtime import Runtime

for guess in Runtime("cub.onnx").predict("bird.jpg", top=5):
    print(guess.label, guess.probability)
"""

from .deploy.runtime import Runtime
from .errors import CheckpointError, ConfigError, DataError, MpfgvcError, OutputError
from .inference.answering import AnswerRules
from .inference.guess import Answer, Guess, Prediction
from .version import VERSION

__version__ = VERSION

__all__ = [
    "Answer",
    "AnswerRules",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Guess",
    "MpfgvcError",
    "OutputError",
    "Prediction",
    "Runtime",
]
