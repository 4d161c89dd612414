"""Evaluate a pair of towers without any training: each photograph goes to the nearest class text.

Only towers of one training can do that (towers/alignment.py). The class texts are the prompts before the
first step, so what they say is up to `model.context_init`, `prompt_ending` and `descriptions`.
"""

from dataclasses import replace
from pathlib import Path

from mpfgvc.config import Config
from mpfgvc.data.catalog import dataset_root, read_photos
from mpfgvc.data.loading import labels_of
from mpfgvc.data.samples import PhotoSet, Split
from mpfgvc.distributed import start_fabric
from mpfgvc.errors import ConfigError, DataError
from mpfgvc.evaluation.evaluate import evaluate_photos, run_loader
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.evaluation.report import ReportPhotos, write_report
from mpfgvc.evaluation.statistics import refuse_missing_scipy
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.predictor import Predictor
from mpfgvc.inference.saved_model import SavedModel
from mpfgvc.model.network import MPFGVC, check_settings
from mpfgvc.processes import Processes
from mpfgvc.terms import Precision


def evaluate_zero_shot(
    config: Config, *, split: Split = "test", precision: Precision = "fp32", report: str | Path | None = None
) -> Evaluation:
    """Evaluate the towers of some settings on a split that a training with them would see.

    Only the source `text` is there. `report` is a folder for a page and tables of the mistakes (report.py).
    Raises ConfigError for towers that were not trained together, DataError for a split without photographs,
    CheckpointError for weights that are not available, OutputError if the report cannot be written.
    """
    if report is not None:
        refuse_missing_scipy()
    photos = read_photos(config.data, seed=config.seed)
    samples = photos.subset(split)
    if not samples:
        raise DataError(f"the dataset has no {split} split; choose another --split")
    network = _aligned_network(config, photos)
    fabric = start_fabric(config.device, precision)
    preprocessing = preprocessing_of(network.image_encoder.tower.input, config.data)
    saved = SavedModel(network=network.deployed(), preprocessing=preprocessing, config=config.model)
    predictor = Predictor.of(saved, device=fabric.device, precision=precision)
    loader = run_loader(predictor, samples, config)
    found = evaluate_photos(predictor.inference, loader, labels_of(samples), split=split, sources=("text",))
    notes = [*photos.notes, *network.start.notes]
    encoder = network.image_encoder
    if encoder.kept_tokens < encoder.tower.patches:
        kept = f"{encoder.kept_tokens} of {encoder.tower.patches} patches were kept"
        notes.append(f"{kept}; the towers were trained with all: model.kept_tokens null")
    evaluation = replace(found, notes=(*notes, *found.notes))
    if report is not None and Processes.here().is_first:
        drawn = ReportPhotos(predictor=predictor, samples=samples, root=dataset_root(config.data))
        write_report(evaluation, report, photos=drawn)
    return evaluation


def _aligned_network(config: Config, photos: PhotoSet) -> MPFGVC:
    word = config.model.supercategory or photos.supercategory
    settings = config.model.replaced(supercategory=word)
    check_settings(settings, photos.classes)
    network = MPFGVC.from_config(settings, photos.classes, seed=config.seed).eval()
    if not network.start.aligned:
        names = f"{settings.image_tower.name} and {settings.text_tower.name} ({network.start.reason})"
        rule = "model.image_tower and model.text_tower must be of one training for zero-shot"
        raise ConfigError(f"{rule}, got {names}; choose a CLIP's own two, such as --config clip")
    return network
