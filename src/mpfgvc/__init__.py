"""MP-FGVC: multimodal prompting for fine-grained visual classification (AAAI 2024).

The public names. They are looked up when first used, so `import mpfgvc` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpfgvc.terms import VERSION

if TYPE_CHECKING:
    from mpfgvc.config import Config
    from mpfgvc.deploy.export.export import export
    from mpfgvc.errors import CheckpointError, ConfigError, DataError, MpfgvcError, OutputError
    from mpfgvc.evaluation.calibration import Calibrated, calibrate
    from mpfgvc.evaluation.evaluate import evaluate
    from mpfgvc.evaluation.metrics import Evaluation
    from mpfgvc.evaluation.zero_shot import evaluate_zero_shot
    from mpfgvc.inference.answering import Answer, AnswerRules, Guess, Prediction
    from mpfgvc.inference.predictor import Predictor
    from mpfgvc.model.network import MPFGVC
    from mpfgvc.recipes_io import load_config
    from mpfgvc.training.run import Run, resume, train

__version__ = VERSION

_HOMES = {
    "Answer": "mpfgvc.inference.answering",
    "AnswerRules": "mpfgvc.inference.answering",
    "Calibrated": "mpfgvc.evaluation.calibration",
    "CheckpointError": "mpfgvc.errors",
    "Config": "mpfgvc.config",
    "ConfigError": "mpfgvc.errors",
    "DataError": "mpfgvc.errors",
    "Evaluation": "mpfgvc.evaluation.metrics",
    "Guess": "mpfgvc.inference.answering",
    "MPFGVC": "mpfgvc.model.network",
    "MpfgvcError": "mpfgvc.errors",
    "OutputError": "mpfgvc.errors",
    "Prediction": "mpfgvc.inference.answering",
    "Predictor": "mpfgvc.inference.predictor",
    "Run": "mpfgvc.training.run",
    "calibrate": "mpfgvc.evaluation.calibration",
    "evaluate": "mpfgvc.evaluation.evaluate",
    "evaluate_zero_shot": "mpfgvc.evaluation.zero_shot",
    "export": "mpfgvc.deploy.export.export",
    "load_config": "mpfgvc.recipes_io",
    "resume": "mpfgvc.training.run",
    "train": "mpfgvc.training.run",
}

__all__ = [
    "MPFGVC",
    "Answer",
    "AnswerRules",
    "Calibrated",
    "CheckpointError",
    "Config",
    "ConfigError",
    "DataError",
    "Evaluation",
    "Guess",
    "MpfgvcError",
    "OutputError",
    "Prediction",
    "Predictor",
    "Run",
    "calibrate",
    "evaluate",
    "evaluate_zero_shot",
    "export",
    "load_config",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mpfgvc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
