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
    from mpfgvc.inference.answering import Answer, AnswerRules, Guess, Prediction
    from mpfgvc.inference.predictor import Predictor
    from mpfgvc.model.network import MPFGVC
    from mpfgvc.recipes_io import load_config
    from mpfgvc.training.run import Run, resume, train

__version__ = VERSION

_MODULES = {
    "config": ("Config",),
    "deploy.export.export": ("export",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "MpfgvcError", "OutputError"),
    "evaluation.calibration": ("Calibrated", "calibrate"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.metrics": ("Evaluation",),
    "inference.answering": ("Answer", "AnswerRules", "Guess", "Prediction"),
    "inference.predictor": ("Predictor",),
    "model.network": ("MPFGVC",),
    "recipes_io": ("load_config",),
    "training.run": ("Run", "resume", "train"),
}
_HOMES = {name: f"mpfgvc.{module}" for module, names in _MODULES.items() for name in names}

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
    "export",
    "load_config",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mpfgvc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
