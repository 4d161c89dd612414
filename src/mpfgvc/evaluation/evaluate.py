"""Evaluate a run: its test split, another split, or a labelled set that it has never seen.

Every photograph counts once: processes take shards without padding, and what they found is put together by
the index of the photograph, so two processes give the very same result as one. Network and precision are
those of a prediction, so `evaluate` and `predict` agree. Whatever the user names, no photograph of the
training or validation split gets into a test.
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
from mpfgvc.evaluation.metrics import Evaluation, LeftOut, SourceMetrics
from mpfgvc.evaluation.report import ReportPhotos, write_report
from mpfgvc.evaluation.statistics import refuse_missing_scipy
from mpfgvc.inference.answering import Calibration
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
    report: str | Path | None = None,
) -> Evaluation:
    """Evaluate the model of a run folder on a split of its photographs, as the run stored it.

    `report` is a folder for a page and tables of the mistakes (report.py); it needs scipy.

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
    calibration: Calibration | None = None,
) -> Evaluation:
    """Evaluate a network on the photographs of a loader, over all processes together.

    `labels` are those of all the photographs of the loader; `calibration` has the temperatures of its
    probabilities. Raises DataError if none of them can be read, and for logits that are not finite.
    """
    temperatures = {source: 1.0 if calibration is None else calibration.temperature_of(source) for source in sources}

    def read(output: Output, indices: Sequence[int]) -> Float64[np.ndarray, "batch sources 4"]:
        right = labels[list(indices)]
        rows = (judged(getattr(output, name), right, temperature=temperature) for name, temperature in named)
        return np.stack(list(rows), axis=1)

    named = temperatures.items()
    found, unreadable = over_photos(inference, loader, read)
    classes = tuple(inference.network.classes)
    rows = np.stack(list(found.values())) if found else np.zeros((0, len(sources), 4))
    truth = labels[list(found)].numpy()
    notes = []
    if unreadable:
        notes.append(counted("photographs that cannot be read, left out", unreadable, len(found) + len(unreadable)))
        if not found:
            raise DataError(f"{notes[0]}; replace them, there is nothing else to evaluate")
    return Evaluation(
        split=split,
        paths=tuple(str(loader.photographs[index].path) for index in found),
        classes=classes,
        sources={name: SourceMetrics.of(rows[:, column], truth, len(classes)) for column, name in enumerate(sources)},
        prediction=inference.network.prediction,
        precision=inference.compute.precision,
        left_out=LeftOut(unreadable=unreadable),
        notes=(*notes, *absent_classes(classes, truth)),
    )


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
    truth = labels.to(logits.device)[:, None]
    indices = torch.arange(logits.shape[1], device=logits.device)
    largest = logits == logits.amax(dim=1, keepdim=True)
    guesses = torch.where(largest, indices, logits.shape[1]).amin(dim=1, keepdim=True)  # argmax: any of them
    right = logits.gather(1, truth)
    before = (logits > right) | ((logits == right) & (indices < truth))
    shares = (logits.float() / temperature).softmax(dim=-1)
    columns = [guesses, before.sum(dim=1, keepdim=True) + 1, shares.gather(1, guesses), shares.gather(1, truth)]
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
    logits = network.logits(embeddings.values.to(network.classifier.weight.device))
    truth, classes = labels[embeddings.indices], tuple(network.classes)
    metrics = {
        name: SourceMetrics.of(judged(getattr(logits, name), truth), truth.numpy(), len(classes)) for name in sources
    }
    return Evaluation(split=split, paths=(), classes=classes, sources=metrics, prediction=network.prediction)


def absent_classes(classes: Sequence[str], labels: NDArray[np.int64]) -> list[str]:
    """A line that names the classes without a photograph; none if there are none."""
    return _note("classes without a photograph", np.delete(np.array(classes, dtype=object), labels), len(classes))


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
    hint: str = "choose another --split",
) -> Choice:
    """The photographs of a split of the run, or of the labelled set at `root` or in `manifest`.

    `external_split` is the split to take of such a set, None = the same; `hint` is the way out for a run
    without the split. Raises DataError for a split without photographs and a set with unknown classes,
    CheckpointError for a damaged list of photographs.
    """
    stored = load_photos(folder.photographs)
    given = root is not None or manifest is not None
    if given and not is_dataset_of(stored, config.data, root=root, manifest=manifest):
        choice = _external(stored, config, split=external_split or split, root=root, manifest=manifest)
    elif not stored.subset(split):
        raise DataError(f"the dataset of {folder.path} has no {split} split; {hint}")
    else:
        choice = _of_run(restore(stored, moved(config.data, root=root, manifest=manifest)), split)
    if not choice.samples:
        raise DataError(f"no photograph is left to evaluate: {'; '.join(choice.notes)}")
    return choice


def _of_run(restored: RunPhotos, split: Split) -> Choice:
    listed, found = restored.photos.subset(split), restored.found(split)
    now = current_digests(found)
    changed = differing(found.digests, now)
    learned = np.isin(now, restored.photos.samples.learned().digests)
    trained_on = changed & learned if split == "test" else np.zeros_like(changed)
    gone = set(restored.missing)
    left_out = LeftOut(
        missing=tuple(str(sample.path) for sample, name in zip(listed, listed.paths, strict=True) if name in gone),
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
    samples, learned = labelled.samples, replace(stored.samples.learned(), root=dataset_root(config.data))
    digests = current_digests(samples)
    files = {learned.path(row).absolute() for row in range(len(learned))}
    trained_on = np.isin(digests, learned.digests) & (digests != b"")
    trained_on |= [sample.path.absolute() in files for sample in samples]
    copy, seen = np.zeros(len(samples), bool), set[tuple[bytes, int]]()
    for row, content in enumerate(zip(digests.tolist(), samples.labels.tolist(), strict=True)):
        copy[row] = content[0] != b"" and content in seen and not trained_on[row]
        seen.add(content)
    left_out = LeftOut(
        trained_on=tuple(sorted(_paths(samples.take(trained_on)))), copies=tuple(_paths(samples.take(copy)))
    )
    samples = samples.take(~trained_on & ~copy)
    what = "photographs under the path of one that was trained on, with other content"
    same_name = _note(what, sorted({*samples.paths} & {*learned.paths}))
    return Choice(
        set="external",
        classes=stored.classes,
        samples=samples,
        left_out=left_out,
        notes=(
            *labelled.notes,
            *_note("photographs that the run was trained on, left out", left_out.trained_on),
            *_note("copies of another photograph of the set, left out", left_out.copies),
            *(f"{note}; if they show the same things, this is not a test" for note in same_name),
        ),
    )


def _paths(samples: Samples) -> list[str]:
    return [str(sample.path) for sample in samples]


def _note(what: str, names: Iterable[str], whole: int | None = None) -> list[str]:
    """A line that counts what has these names; none without any."""
    listed = list(names)
    return [counted(what, listed, whole)] if listed else []
