"""How photographs are put before the model of a run: after one check, by one loader."""

from collections.abc import Sequence

from mpfgvc.config import Config
from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.data.samples import Sample
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.predictor import Predictor
from mpfgvc.launcher import Processes
from mpfgvc.run_folder import RunFolder


def photo_loader(predictor: Predictor, samples: Sequence[Sample], config: Config) -> EvaluationLoader:
    """This process's share of the samples, prepared for the model, as the settings of its run say."""
    return EvaluationLoader(
        samples,
        predictor.transform,
        batch_size=config.stage1.batch_size,
        processes=Processes.here(),
        workers=config.data.workers,
        model_on_cpu=predictor.device.type == "cpu",
        on_error=config.data.on_error,
    )


def refuse_other_classes(predictor: Predictor, classes: Sequence[str], folder: RunFolder) -> None:
    """Raise CheckpointError for a model that has other classes than the photographs of its run."""
    if predictor.classes != tuple(classes):
        rule = "has other classes than the photographs of the run"
        raise CheckpointError(f"{folder.model} {rule}; restore model/ and photographs.json of one run")
