"""Evaluate a run: its test split, another split, or a labelled set that it has never seen.

Every photograph counts once: processes take shards without padding, and what they found is put together by
the index of the photograph, so two processes give the very same result as one. Network and precision are
those of a prediction, so `evaluate` and `predict` agree. Whatever the user names, no photograph of the
training or validation split gets into a test.

Recall@k is the measure of metric learning (Oh Song et al., CVPR 2016): how often the k photographs that are
nearest to one hold another of its class. One that is the only one of its class finds none, and counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from numpy.typing import NDArray
from torch import Tensor

from mpfgvc.config import NESTED_FOLDERS, Config
from mpfgvc.data.catalog import dataset_root, moved
from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.photographs_file import load_photos
from mpfgvc.data.run_photos import RunPhotos, current_digests, differing, is_dataset_of, read_labelled_set, restore
from mpfgvc.data.samples import PhotoSet, Samples, Split, counted
from mpfgvc.data.transforms import eval_transform
from mpfgvc.distributed import gather, start_fabric
from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.evaluation.metrics import Answers, Evaluation, LeftOut, SourceMetrics
from mpfgvc.evaluation.report import ReportPhotos, write_report
from mpfgvc.evaluation.statistics import refuse_missing_scipy
from mpfgvc.inference.answering import Calibration
from mpfgvc.inference.embeddings import nearest_others
from mpfgvc.inference.forward import Embeddings, Inference
from mpfgvc.inference.predictor import Predictor
from mpfgvc.model.network import MPFGVC, SOURCES, Output
from mpfgvc.processes import Processes
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Precision, Source

Row = TypeVar("Row")


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

    `recall` are the k of recall@k, which compares each photograph with each other. `report` is a folder for a
    page and tables of the mistakes (report.py); it needs scipy.

    `root` and `manifest` say where the dataset is now, if it moved. If they name another labelled set,
    all of it is evaluated. Raises CheckpointError for a run without model, DataError for photographs that
    cannot be read, a split without photographs, and unknown classes, and OutputError if the report cannot be
    written.
    """
    if report is not None:
        refuse_missing_scipy()
    folder = RunFolder.open(run)
    config = folder.read_config({"device": device, "precision": precision})
    choice = choose_photos(folder, config, split=split, root=root, manifest=manifest)
    fabric = start_fabric(config.device, precision)
    predictor = Predictor.from_pretrained(folder.path, device=fabric.device.type, precision=precision)
    refuse_other_classes(predictor, choice, folder)
    found = evaluate_photos(
        predictor.inference,
        run_loader(predictor, choice.samples, config),
        labels_of(choice.samples),
        split=split,
        recall=recall,
        calibration=predictor.backend.facts.calibration,
    )
    evaluation = replace(
        found,
        taxonomy=predictor.answering.facts.taxonomy,
        set=choice.set,
        left_out=replace(choice.left_out, unreadable=found.left_out.unreadable),
        notes=(*choice.notes, *found.notes),
    )
    if report is not None and Processes.here().is_first:
        folder_now = Path(root) if root is not None else dataset_root(config.data)
        photos = ReportPhotos(predictor=predictor, samples=choice.samples, root=folder_now)
        dataset = str(manifest or folder_now or config.data.dataset)
        write_report(evaluation, report, photos=photos, run=str(run), dataset=dataset)
    return evaluation


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
    probabilities. Raises DataError if none of them can be read, and for logits that are not finite.
    """
    temperatures = {source: 1.0 if calibration is None else calibration.temperature_of(source) for source in sources}

    def read(output: Output, indices: Sequence[int]) -> Iterable[tuple[NDArray[np.float64], NDArray[np.float32]]]:
        """The answer of each source, (sources, 4), and the embedding for each photograph of a batch."""
        answers = [
            judged(logits, labels[list(indices)].to(logits.device), temperature=temperatures[source])
            for source in sources
            for logits in [getattr(output, source)]
        ]
        embeddings = output.embedding.float().cpu().numpy() if recall else np.zeros((len(indices), 0), np.float32)
        return zip(np.stack(answers, axis=1), embeddings, strict=True)

    found, unreadable = over_photos(inference, loader, read)
    truth = labels[list(found)].numpy()
    rows = np.stack([answers for answers, _ in found.values()]) if found else np.zeros((0, len(sources), 4))
    classes = tuple(inference.network.classes)
    evaluation = Evaluation(
        split=split,
        answers=Answers(
            paths=tuple(str(loader.photographs[index].path) for index in found),
            classes=classes,
            sources={
                source: SourceMetrics.of(rows[:, column], truth, len(classes)) for column, source in enumerate(sources)
            },
        ),
        prediction=inference.network.prediction,
        precision=inference.compute.precision,
        recall=recall_at(np.stack([embedding for _, embedding in found.values()]), truth, recall)
        if found and recall
        else {},
        left_out=LeftOut(unreadable=unreadable),
    )
    return replace(evaluation, notes=_notes(evaluation))


def judged(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], *, temperature: float = 1.0
) -> Float64[np.ndarray, "batch 4"]:
    """Guess, rank of the right class, and the probabilities of both, a row for each photograph.

    `labels` are the right classes. Probabilities are the softmax of the logits over the temperature.
    Raises DataError for logits that are not finite.
    """
    if not logits.isfinite().all():
        hint = "the model is damaged or its training diverged, restore it or train again"
        raise DataError(f"logits must be finite, got NaN or infinity; {hint}")
    indices = torch.arange(logits.shape[1], device=logits.device)
    largest = logits == logits.amax(dim=1, keepdim=True)
    guesses = torch.where(largest, indices, logits.shape[1]).amin(dim=1, keepdim=True)  # argmax: any of them
    right = logits.gather(1, labels[:, None])
    before = (logits > right) | ((logits == right) & (indices < labels[:, None]))
    shares = (logits.float() / temperature).softmax(dim=-1)
    columns = [guesses, before.sum(dim=1, keepdim=True) + 1]
    columns += [shares.gather(1, guesses), shares.gather(1, labels[:, None])]
    return np.concatenate([column.cpu().double().numpy() for column in columns], axis=1)


@torch.inference_mode()
def over_photos(
    inference: Inference, loader: EvaluationLoader, read: Callable[[Output, Sequence[int]], Iterable[Row]]
) -> tuple[dict[int, Row], tuple[str, ...]]:
    """What `read` makes of each photograph, by its index, in order; and the files that cannot be read.

    Over all processes together, the same in all of them. `read` gets the output for a batch and the indices
    of its photographs.
    """
    inference.network.eval()
    rows: dict[int, Row] = {}
    unreadable: list[int] = []
    for batch in loader:
        unreadable += [failure.index for failure in batch.unreadable]
        if batch.indices:
            names = [str(loader.photographs[index].path) for index in batch.indices]
            rows.update(zip(batch.indices, read(inference(batch.images, names), batch.indices), strict=True))
    shares = gather((rows, unreadable))
    everything = sorted((item for share in shares for item in share[0].items()), key=lambda item: item[0])
    missing = sorted(index for share in shares for index in share[1])
    return dict(everything), tuple(str(loader.photographs[index].path) for index in missing)


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
    truth = labels[embeddings.indices]
    metrics = {
        source: SourceMetrics.of(judged(getattr(logits, source), truth.to(device)), truth.numpy(), len(network.classes))
        for source in sources
    }
    answers = Answers(paths=(), classes=tuple(network.classes), sources=metrics)
    return Evaluation(split=split, answers=answers, prediction=network.prediction)


def recall_at(values: NDArray[np.float32], labels: NDArray[np.int64], counts: Sequence[int]) -> dict[int, float]:
    """The share of photographs, 0..1, with one of their class among the k nearest, for each k of `counts`.

    `values` is (photographs, width). With fewer than k other photographs, all of them are looked at.
    """
    nearest, _ = nearest_others(values, max(counts))
    found = labels[nearest] == labels[:, None]
    return {count: float(found[:, :count].any(axis=1).mean()) for count in counts}


def _notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What was left out. Raises DataError if nothing is left."""
    notes, unreadable = [], evaluation.left_out.unreadable
    if unreadable:
        whole = evaluation.count + len(unreadable)
        notes.append(counted("photographs that cannot be read, left out", unreadable, whole))
        if evaluation.count == 0:
            raise DataError(f"{notes[0]}; replace them, there is nothing else to evaluate")
    if absent := evaluation.absent_classes:
        what = "classes without a photograph that was evaluated"
        notes.append(counted(what, absent, len(evaluation.classes)))
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The photographs to evaluate, with the labels of the run; what is left out, and lines that say so."""

    set: Literal["run", "external"]
    classes: tuple[str, ...]
    samples: Samples
    left_out: LeftOut
    notes: tuple[str, ...]


def run_loader(predictor: Predictor, samples: Samples, config: Config) -> EvaluationLoader:
    """This process's share of the photographs, prepared for the model, as the settings of its run say."""
    return EvaluationLoader(
        samples,
        eval_transform(predictor.preprocessing),
        batch_size=config.stage1.batch_size,
        processes=Processes.here(),
        workers=config.data.workers,
        model_on_cpu=predictor.backend.on_cpu,
        on_error=config.data.on_error,
    )


def refuse_other_classes(predictor: Predictor, choice: Choice, folder: RunFolder) -> None:
    """Raise CheckpointError for a model that has other classes than the photographs of its run."""
    if predictor.classes != tuple(choice.classes):
        rule = "has other classes than the photographs of the run"
        raise CheckpointError(f"{folder.model} {rule}; restore model/ and photographs.json of one run")


def choose_photos(
    folder: RunFolder,
    config: Config,
    *,
    split: Split,
    root: str | Path | None,
    manifest: str | Path | None,
    external_split: Split | None = None,
) -> Choice:
    """The photographs of a split of the run, or of the labelled set at `root` or in `manifest`.

    `external_split` is the split to take of such a set, None = the same.
    Raises DataError for a split without photographs and a set with unknown classes, CheckpointError for a
    damaged list of photographs.
    """
    stored = load_photos(folder.photographs)
    given = root is not None or manifest is not None
    if given and not is_dataset_of(stored, config.data, root=root, manifest=manifest):
        choice = _external(stored, config, split=external_split or split, root=root, manifest=manifest)
    else:
        restored = restore(stored, moved(config.data, root=root, manifest=manifest))
        choice = _of_run(restored, split, folder.path)
    if not choice.samples:
        raise DataError(f"no photograph is left to evaluate: {'; '.join(choice.notes)}")
    return choice


def _of_run(restored: RunPhotos, split: Split, run: Path) -> Choice:
    listed, found = restored.photos.subset(split), restored.found(split)
    if not listed:
        raise DataError(f"the dataset of {run} has no {split} split; choose another --split")
    now = current_digests(found)
    changed = differing(found.digests, now)
    learned = np.isin(now, restored.photos.samples.learned().digests)
    trained_on = changed & learned if split == "test" else np.zeros_like(changed)
    gone = set(restored.missing)
    left_out = LeftOut(
        missing=tuple(str(each.path) for each, name in zip(listed, listed.paths, strict=True) if name in gone),
        trained_on=tuple(sorted(_paths(found.take(trained_on)))),
        added=tuple(str((restored.root or Path()) / name) for name in restored.added),
    )
    return Choice(
        set="run",
        classes=restored.photos.classes,
        samples=found.take(~trained_on),
        left_out=left_out,
        notes=(
            *restored.notes,
            *_note(f"{split} photographs whose content changed after the run began", _paths(found.take(changed))),
            *_note("photographs that the run was trained on, left out", left_out.trained_on),
        ),
    )


def _external(
    stored: PhotoSet, config: Config, *, split: Split, root: str | Path | None, manifest: str | Path | None
) -> Choice:
    if root is None and config.data.dataset == "manifest":
        root = config.data.root
    labelled = read_labelled_set(
        root=root, manifest=manifest, classes=stored.classes, split=split, nested=config.data.taxonomy == NESTED_FOLDERS
    )
    learned = replace(stored.samples.learned(), root=dataset_root(config.data))
    trained_on = _trained_on(labelled.samples, learned)
    samples = labelled.samples.take(~trained_on)
    paths = tuple(sorted(_paths(labelled.samples.take(trained_on))))
    same_name = _note(
        "photographs under the path of one that was trained on, with other content",
        sorted({*samples.paths} & {*learned.paths}),
    )
    return Choice(
        set="external",
        classes=stored.classes,
        samples=samples,
        left_out=LeftOut(trained_on=paths),
        notes=(
            *labelled.notes,
            *_note("photographs that the run was trained on, left out", paths),
            *(f"{note}; if they show the same things, this is not a test" for note in same_name),
        ),
    )


def _trained_on(samples: Samples, learned: Samples) -> NDArray[np.bool_]:
    """Which photographs the run has learned from: the same content, or the very same file."""
    digests = current_digests(samples)
    files = {learned.path(row).absolute() for row in range(len(learned))}
    same_file = [each.path.absolute() in files for each in samples]
    same: NDArray[np.bool_] = np.isin(digests, learned.digests) & (digests != b"") | same_file
    return same


def _paths(samples: Samples) -> list[str]:
    return [str(each.path) for each in samples]


def _note(what: str, paths: Iterable[str]) -> list[str]:
    """A line that counts photographs; none without any."""
    names = list(paths)
    return [counted(what, names)] if names else []
