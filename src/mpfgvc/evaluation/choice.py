"""Which photographs an evaluation of a run looks at: a split of the run, or another labelled set.

Whatever the user names, no photograph of the training or validation split gets into a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mpfgvc.config import NESTED_FOLDERS, Config
from mpfgvc.data.labelled_set import read_labelled_set
from mpfgvc.data.photo_list import PhotoList, photo_digests, relative_path
from mpfgvc.data.place import dataset_root
from mpfgvc.data.run_photos import RestoredPhotos, is_dataset_of, list_of_run, restore
from mpfgvc.data.samples import Sample, Split, counted
from mpfgvc.errors import DataError
from mpfgvc.evaluation.metrics import LeftOut
from mpfgvc.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The photographs to evaluate, with the labels of the run; what is left out, and lines that say so."""

    set: Literal["run", "external"]
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    left_out: LeftOut
    notes: tuple[str, ...]


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
    photo_list, notes = list_of_run(folder, config, root=root, manifest=manifest)
    given = root is not None or manifest is not None
    if given and not is_dataset_of(photo_list, config.data, root=root, manifest=manifest):
        wanted = split if external_split is None else external_split
        choice = _external(photo_list, config, split=wanted, root=root, manifest=manifest)
    else:
        restored = restore(photo_list, config.data, root=root, manifest=manifest)
        choice = _of_run(restored, photo_list, split, folder.path)
    if not choice.samples:
        raise DataError(f"no photograph is left to evaluate: {'; '.join(choice.notes)}")
    return replace(choice, notes=(*notes, *choice.notes))


def _of_run(restored: RestoredPhotos, photo_list: PhotoList, split: Split, run: Path) -> Choice:
    listed, found = restored.photos.subset(split), restored.found(split)
    if not listed:
        raise DataError(f"the dataset of {run} has no {split} split; choose another --split")
    digests = photo_digests(sample.path for sample in found if restored.digest_of(sample))
    changed = [sample.path for sample in restored.changed(found, digests)]
    learned = _learned_contents(photo_list, {digests[path] for path in changed})
    trained_on = {path for path in changed if split == "test" and digests[path] in learned}
    there = {sample.path for sample in found} if restored.missing else set()
    left_out = LeftOut(
        missing=tuple(str(each.path) for each in listed if restored.missing and each.path not in there),
        trained_on=tuple(sorted(str(path) for path in trained_on)),
        added=tuple(str((restored.root or Path()) / name) for name in restored.added),
    )
    notes = (
        *restored.notes,
        *_changed_notes(split, [str(path) for path in changed]),
        *_trained_on_notes(left_out.trained_on),
    )
    return Choice(
        set="run",
        classes=restored.photos.classes,
        samples=tuple(each for each in found if each.path not in trained_on) if trained_on else found,
        left_out=left_out,
        notes=notes,
    )


def _external(
    photo_list: PhotoList,
    config: Config,
    *,
    split: Split,
    root: str | Path | None,
    manifest: str | Path | None,
) -> Choice:
    if root is None and config.data.dataset == "manifest":
        root = config.data.root
    labelled = read_labelled_set(
        root=root,
        manifest=manifest,
        classes=photo_list.classes,
        split=split,
        nested=config.data.taxonomy == NESTED_FOLDERS,
    )
    trained_on = _trained_on(labelled.samples, photo_list, dataset_root(config.data))
    samples = tuple(sample for sample in labelled.samples if sample.path not in trained_on)
    paths = tuple(sorted(str(path) for path in trained_on))
    place = Path(root).expanduser() if root is not None else None
    names = {relative_path(each.path, place) for each in samples}
    same_name = {photo.path for photo in photo_list.learned() if photo.path in names}
    return Choice(
        set="external",
        classes=photo_list.classes,
        samples=samples,
        left_out=LeftOut(trained_on=paths),
        notes=(*labelled.notes, *_trained_on_notes(paths), *_same_name_notes(sorted(same_name))),
    )


def _trained_on(samples: Sequence[Sample], photo_list: PhotoList, root: Path | None) -> set[Path]:
    """The photographs that the run has learned from: the same content, or the very same file."""
    digests = photo_digests(sample.path for sample in samples)
    contents = _learned_contents(photo_list, set(digests.values()))
    wanted = {sample.path.absolute() for sample in samples}
    places = (photo.at(root).absolute() for photo in photo_list.learned())
    files = {place for place in places if place in wanted}
    return {
        sample.path
        for sample in samples
        if digests[sample.path] in contents or sample.path.absolute() in files
    }


def _learned_contents(photo_list: PhotoList, digests: set[str]) -> set[str]:
    """Those of some digests that photographs have which the run learns from."""
    wanted = digests - {""}
    return {photo.digest for photo in photo_list.learned() if photo.digest in wanted} if wanted else set()


def _trained_on_notes(paths: Sequence[str]) -> list[str]:
    return [counted("photographs that the run was trained on, left out", paths)] if paths else []


def _changed_notes(split: Split, paths: Sequence[str]) -> list[str]:
    what = f"{split} photographs whose content changed after the run began"
    return [counted(what, paths)] if paths else []


def _same_name_notes(paths: Sequence[str]) -> list[str]:
    what = "photographs under the path of one that was trained on, with other content"
    return [f"{counted(what, paths)}; if they show the same things, this is not a test"] if paths else []
