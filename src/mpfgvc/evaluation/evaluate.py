"""Evaluate a run: its test split, another split, or a labelled set that it has never seen.

Every photograph counts once: processes take shards without padding, and only whole numbers are added up,
so two processes give the very same result as one. Network and precision are those of a prediction, so
`evaluate` and `predict` agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc.config import Precision, Source
from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.place import dataset_root
from mpfgvc.data.samples import Split, counted
from mpfgvc.devices import gather, start_fabric
from mpfgvc.errors import DataError
from mpfgvc.evaluation.answers import Answers
from mpfgvc.evaluation.choice import choose_photos
from mpfgvc.evaluation.hierarchical import with_hierarchy
from mpfgvc.evaluation.judgement import Judgement, certainty_of, judgements
from mpfgvc.evaluation.metrics import Evaluation, LeftOut, Scorer
from mpfgvc.evaluation.photo_loader import photo_loader, refuse_other_classes
from mpfgvc.evaluation.report import write_report
from mpfgvc.evaluation.report_photos import ReportPhotos
from mpfgvc.evaluation.retrieval import recall_at
from mpfgvc.inference.calibration import Calibration
from mpfgvc.inference.embeddings import Embeddings
from mpfgvc.inference.forward import Inference
from mpfgvc.inference.predictor import Predictor
from mpfgvc.launcher import Processes
from mpfgvc.model.network import MPFGVC, SOURCES
from mpfgvc.run_folder import RunFolder


def evaluate(
    run: str | Path,
    *,
    split: Split = "test",
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    recall: Sequence[int] = (),
    report: str | Path | None = None,
) -> Evaluation:
    """Evaluate the model of a run folder on a split of its photographs, as the run stored it.

    `recall` are the k of recall@k (retrieval.py), which compares each photograph with each other.
    `report` is a folder for a page and tables of the mistakes (report.py).

    `root` and `manifest` say where the dataset is now, if it moved. If they name another labelled set,
    all of it is evaluated (choice.py tells the two apart). Raises CheckpointError for a run without model,
    DataError for photographs that cannot be read, a split without photographs, and unknown classes, and
    OutputError if the report cannot be written.
    """
    folder = RunFolder.open(run)
    config = folder.read_config({"device": device, "precision": precision})
    choice = choose_photos(folder, config, split=split, root=root, manifest=manifest)
    fabric = start_fabric(config.device, precision)
    predictor = Predictor.from_pretrained(folder.path, device=fabric.device.type, precision=precision)
    refuse_other_classes(predictor, choice.classes, folder)
    found = evaluate_photos(
        predictor.inference,
        photo_loader(predictor, choice.samples, config),
        labels_of(choice.samples),
        split=split,
        recall=recall,
        calibration=predictor.calibration,
    )
    evaluation = replace(
        with_hierarchy(found, predictor.answering.facts.taxonomy),
        set=choice.set,
        left_out=replace(choice.left_out, unreadable=found.left_out.unreadable),
        notes=(*choice.notes, *found.notes),
    )
    if report is not None and Processes.here().is_first:
        place = Path(root) if root is not None else dataset_root(config.data)
        photos = ReportPhotos(predictor=predictor, samples=choice.samples, root=place)
        write_report(evaluation, report, photos=photos, class_accuracy=folder.class_accuracy)
    return evaluation


@torch.inference_mode()
def evaluate_photos(
    inference: Inference,
    loader: EvaluationLoader,
    labels: Int[Tensor, " photographs"],
    *,
    split: str,
    sources: Sequence[Source] = SOURCES,
    recall: Sequence[int] = (),
    calibration: Calibration | None = None,
) -> Evaluation:
    """Evaluate a network on the photographs of a loader, over all processes together.

    `labels` are those of all the photographs of the loader; `calibration` has the temperatures of its
    probabilities. Raises DataError if none of them can be read,
    and for logits that are not finite.
    """
    network = inference.network.eval()
    unreadable: list[int] = []
    scorer, judged = Scorer(network.classes, sources), dict[int, tuple[Judgement, ...]]()
    embedded: dict[int, NDArray[np.float32]] = {}
    temperatures: dict[str, float] = {each: _temperature(calibration, each) for each in sources}
    for batch in loader:
        unreadable += [failure.index for failure in batch.unreadable]
        if not batch.indices:
            continue
        names = [str(loader.photographs[index].path) for index in batch.indices]
        output = inference(batch.images, names)
        truth = labels[list(batch.indices)].to(output.logits.device)
        logits: dict[str, Tensor] = {source: getattr(output, source) for source in sources}
        scorer.add(logits, truth, names)
        found = zip(
            *(judgements(each, truth, temperature=temperatures[source]) for source, each in logits.items()),
            strict=True,
        )
        judged.update(zip(batch.indices, found, strict=True))
        if recall:
            embedded.update(zip(batch.indices, output.embedding.float().cpu().numpy(), strict=True))
    shares = gather((scorer, unreadable, judged, embedded))
    first, *others = (share[0] for share in shares)
    indices = sorted(index for share in shares for index in share[1])
    paths = tuple(str(loader.photographs[index].path) for index in indices)
    everything = {index: found for share in shares for index, found in share[2].items()}
    evaluation = Evaluation(
        split=split,
        classes=network.classes,
        sources=first.join(others).metrics(),
        prediction=network.prediction,
        precision=inference.compute.precision,
        answers=_answers(everything, loader, labels, network.classes, sources),
        recall=_recall({index: each for share in shares for index, each in share[3].items()}, labels, recall),
        left_out=LeftOut(unreadable=paths),
    )
    if evaluation.count == 0 and paths:
        raise DataError(f"{_unreadable_note(evaluation)}; replace them, there is nothing else to evaluate")
    return replace(evaluation, notes=_notes(evaluation))


@torch.inference_mode()
def evaluate_embeddings(
    network: MPFGVC,
    embeddings: Embeddings,
    labels: Int[Tensor, " photographs"],
    *,
    split: str,
    sources: Sequence[str] = SOURCES,
) -> Evaluation:
    """Evaluate a deployed network on the embeddings of its image tower, in this process only.

    `labels` are those of all the photographs that were to be embedded.
    """
    network.eval()
    device = network.classifier.weight.device
    logits = network.logits(embeddings.values.to(device))
    truth = labels[embeddings.indices].to(device)
    scorer = Scorer(network.classes, sources)
    scorer.add({source: getattr(logits, source) for source in sources}, truth)
    return Evaluation(
        split=split, classes=network.classes, sources=scorer.metrics(), prediction=network.prediction
    )


def _temperature(calibration: Calibration | None, source: Source) -> float:
    return 1.0 if calibration is None else calibration.temperature_of(source)


def _recall(
    embedded: Mapping[int, NDArray[np.float32]], labels: Int[Tensor, " photographs"], counts: Sequence[int]
) -> dict[int, float]:
    """Recall@k of the photographs that were embedded, by their index."""
    if not (counts and embedded):
        return {}
    indices = sorted(embedded)
    return recall_at(np.stack([embedded[index] for index in indices]), labels[indices].numpy(), counts)


def _answers(
    judged: Mapping[int, tuple[Judgement, ...]],
    loader: EvaluationLoader,
    labels: Int[Tensor, " photographs"],
    classes: Sequence[str],
    sources: Sequence[str],
) -> Answers:
    """The answers in the order of the photographs; `judged` has what each source says for an index."""
    indices = sorted(judged)
    by_source = {source: [judged[index][place] for index in indices] for place, source in enumerate(sources)}
    return Answers(
        paths=tuple(str(loader.photographs[index].path) for index in indices),
        labels=tuple(classes[label] for label in labels[indices].tolist()),
        predicted={
            source: tuple(classes[each.answer] for each in found) for source, found in by_source.items()
        },
        certainty={source: certainty_of(found) for source, found in by_source.items()},
    )


def _notes(evaluation: Evaluation) -> tuple[str, ...]:
    notes = [_unreadable_note(evaluation)] if evaluation.left_out.unreadable else []
    if evaluation.absent_classes:
        what = "classes without a photograph that was evaluated"
        notes.append(counted(what, evaluation.absent_classes, len(evaluation.classes)))
    return tuple(notes)


def _unreadable_note(evaluation: Evaluation) -> str:
    unreadable = evaluation.left_out.unreadable
    whole = evaluation.count + len(unreadable)
    return counted("photographs that cannot be read, left out", unreadable, whole)
