"""The photographs of a run, wherever the dataset is now.

The split is the one that the run stored (photo_list.py), never one that is drawn again. What was added to
the dataset since then is in no split; what is missing is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpfgvc.config import Config, DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.listed_shards import ListedPhoto, ListedShards
from mpfgvc.data.listing import missing_files
from mpfgvc.data.photo_list import PhotoList, photo_digests, relative_path
from mpfgvc.data.place import dataset_root, moved
from mpfgvc.data.readers.manifest import read_labelled_manifest
from mpfgvc.data.readers.shards import read_layout
from mpfgvc.data.readers.synthetic import read_birds
from mpfgvc.data.samples import PhotoSet, Sample, SampleTable, Split, counted
from mpfgvc.data.shard_index import ShardSample
from mpfgvc.errors import CheckpointError, DataError, MpfgvcError
from mpfgvc.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class RestoredPhotos:
    """All photographs that a run began with, in their splits, at the place where the dataset is now.

    `missing` and `added` are paths below the dataset's root; `notes` say the same to people.
    """

    photos: PhotoSet
    digests: Mapping[Path, str]
    """What `digest_of` gives; empty for packed shards, whose photographs know their own."""
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    root: Path | None = None

    def found(self, split: Split) -> Sequence[Sample]:
        """The photographs of a split that are there, in their order."""
        gone = set(self.missing)
        samples = self.photos.subset(split)
        if not gone:
            return samples
        return tuple(sample for sample in samples if relative_path(sample.path, self.root) not in gone)

    def digest_of(self, sample: Sample) -> str:
        """What `photo_digest` gave when the run began; empty text where it is not known."""
        own = sample.digest if isinstance(sample, ShardSample) else ""
        return self.digests.get(sample.path, own)

    def changed(self, samples: Sequence[Sample], digests: Mapping[Path, str]) -> tuple[Sample, ...]:
        """Those of some photographs whose content has changed since the run began, by today's `digests`."""
        return tuple(
            sample
            for sample in samples
            if digests.get(sample.path) and self.digest_of(sample) not in ("", digests[sample.path])
        )

    def refuse_changed(self, now: PhotoList) -> None:
        """Raise DataError if photographs of `now` have other content than when the run began."""
        if isinstance(self.photos.samples, SampleTable):  # the index was compared, and the size of each shard
            return
        digests = {
            sample.path: photo.digest
            for sample, photo in zip(self.photos.samples, now.photographs, strict=True)
        }
        if changed := self.changed(self.photos.samples, digests):
            count = f"{len(changed)} photographs changed after the run began, first {changed[0].path}"
            raise DataError(f"{count}; put back the photographs of the run, or start a new run")

    def refuse_missing(self) -> None:
        """Raise DataError if photographs are missing; a training that continues needs all of them."""
        if self.missing:
            what = f"photographs of the run that are missing in {self.root}"
            hint = "put them back, or say where the dataset is with --data.root"
            raise DataError(f"{counted(what, self.missing, len(self.photos.samples))}; {hint}")


def photos_of_run(
    folder: RunFolder, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> RestoredPhotos:
    """The photographs of a run; `root` and `manifest` say where the dataset is now, if it moved.

    Raises CheckpointError for a damaged list, DataError if none of the photographs is there.
    """
    config = folder.read_config()
    photo_list, notes = list_of_run(folder, config, root=root, manifest=manifest)
    restored = restore(photo_list, config.data, root=root, manifest=manifest)
    return replace(restored, notes=(*notes, *restored.notes))


def list_of_run(
    folder: RunFolder, config: Config, *, root: str | Path | None = None, manifest: str | Path | None = None
) -> tuple[PhotoList, tuple[str, ...]]:
    """The list that a run stored, and notes. For a run of an older version the split is drawn again."""
    stored = PhotoList.load(folder.photographs)
    if stored is not None:
        return stored, ()
    data = config.data
    try:
        photos = read_photos(data, seed=config.seed)
    except MpfgvcError:
        if root is None and manifest is None:
            raise
        data = moved(data, root=root, manifest=manifest)
        photos = read_photos(data, seed=config.seed)
    note = f"{folder.path} does not store its split (older version): it was drawn again from its settings"
    return PhotoList.of(photos, root=dataset_root(data), digests={}), (note,)


def restore(
    photo_list: PhotoList,
    config: DataConfig,
    *,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
) -> RestoredPhotos:
    """The photographs of a list, at the place that the settings name, or at `root` and `manifest`.

    Raises DataError if none of them is there, CheckpointError if the settings draw other synthetic birds.
    """
    config = moved(config, root=root, manifest=manifest)
    place = dataset_root(config)
    if place is None:
        return _drawn_again(photo_list, config)
    if isinstance(photo_list.photographs, ListedShards):
        return _same_shards(photo_list, photo_list.photographs, config, place)
    packed = _packed(config)
    missing = _missing(photo_list.photographs, place, packed)
    total = len(photo_list.photographs)
    if len(missing) == total:
        count = f"none of the {total} photographs of the run is in {place}"
        raise DataError(f"{count}, first {missing[0]}; say where the dataset is with --data.root")
    added, notes = _added(photo_list, config, place, packed)
    if missing:
        notes = [counted("photographs of the run that are missing", missing, total), *notes]
    return RestoredPhotos(
        photos=_photo_set(photo_list, tuple(_sample(each, place, packed) for each in photo_list.photographs)),
        digests={photo.at(place): photo.digest for photo in photo_list.photographs},
        missing=tuple(missing),
        added=tuple(added),
        notes=tuple(notes),
        root=place,
    )


def is_dataset_of(
    photo_list: PhotoList, config: DataConfig, *, root: str | Path | None, manifest: str | Path | None
) -> bool:
    """Whether `root` and `manifest` name the dataset of the run at another place, or else another dataset.

    It is the run's if at least half of the test photographs are there under their paths, and have the
    digests of then where these are known. Without a test split all photographs count. Packed shards are the
    run's if their index is.
    """
    if config.dataset == "synthetic" or (manifest is not None and config.dataset != "manifest"):
        return False
    config = moved(config, root=root, manifest=manifest)
    place = dataset_root(config)
    if isinstance(photo_list.photographs, ListedShards):
        return _has_shards_of(photo_list.photographs, config)
    wanted = photo_list.subset("test") or photo_list.photographs
    gone = set(_missing(wanted, place, {}))
    if manifest is not None and place is not None:
        rows = read_labelled_manifest(Path(manifest), place, check_files=False)
        named = {relative_path(row.path, place) for row in rows}
        gone |= {photo.path for photo in wanted if photo.path not in named}
    there = [photo for photo in wanted if photo.path not in gone]
    digests = photo_digests(photo.at(place) for photo in there if photo.digest)
    same = [photo for photo in there if photo.digest in ("", digests.get(photo.at(place)))]
    return 2 * len(same) >= len(wanted)


def _same_shards(
    photo_list: PhotoList, listed: ListedShards, config: DataConfig, place: Path
) -> RestoredPhotos:
    """The photographs of a run on packed shards. Raises DataError where other shards are now."""
    if not _has_shards_of(listed, config):
        hint = "put those back, or say where they are with --data.root"
        raise DataError(f"the shards of the run are not in {place}; {hint}")
    read_photos(config.replaced(validation=0), seed=0)  # it refuses a shard that is missing or cut
    table = replace(listed.table, folder=place)
    return RestoredPhotos(photos=_photo_set(photo_list, table), digests={}, root=place)


def _has_shards_of(listed: ListedShards, config: DataConfig) -> bool:
    """Whether the place that the settings name holds the shards of the list, under their names."""
    now, then = read_layout(config), listed.table.layout
    return now is not None and (now.index_digest, now.shards) == (then.index_digest, then.shards)


def _photo_set(photo_list: PhotoList, samples: Sequence[Sample]) -> PhotoSet:
    return PhotoSet(
        name=photo_list.dataset,
        classes=photo_list.classes,
        samples=samples,
        supercategory=photo_list.supercategory,
    )


def _sample(photo: ListedPhoto, place: Path, packed: Mapping[Path, Sample]) -> Sample:
    path = photo.at(place)
    if path in packed:  # it knows its place in the shard
        return replace(packed[path], label=photo.label, split=photo.split)
    return Sample(path=path, label=photo.label, split=photo.split)


def _packed(config: DataConfig) -> dict[Path, Sample]:
    """The photographs of a dataset in shards by their paths; none of another dataset."""
    if config.dataset != "shards":
        return {}
    return {sample.path: sample for sample in read_photos(config, seed=0).samples}


def _drawn_again(photo_list: PhotoList, config: DataConfig) -> RestoredPhotos:
    birds = read_birds(config.birds)
    drawn = {sample.path.as_posix(): sample for sample in birds.samples}
    listed = {photo.path: photo.label for photo in photo_list.photographs}
    if birds.classes != photo_list.classes or listed != {name: each.label for name, each in drawn.items()}:
        raise CheckpointError(
            "photographs.json lists other synthetic birds than data.birds of config.yaml; restore both files"
        )
    samples = tuple(replace(drawn[photo.path], split=photo.split) for photo in photo_list.photographs)
    digests = {sample.path: "" for sample in samples}
    return RestoredPhotos(photos=_photo_set(photo_list, samples), digests=digests)


def _missing(
    photographs: Sequence[ListedPhoto], place: Path | None, packed: Mapping[Path, Sample]
) -> list[str]:
    """The paths of those that are not there; those that are known to be in shards are."""
    places = [photo.at(place) for photo in photographs]
    gone = set(missing_files([path for path in places if path not in packed]))
    return [photo.path for photo in photographs if photo.at(place) in gone]


def _added(
    photo_list: PhotoList, config: DataConfig, place: Path, packed: Mapping[Path, Sample]
) -> tuple[list[str], list[str]]:
    """The photographs of the dataset today that are not in the list, and notes on them."""
    try:
        today = packed or [each.path for each in read_photos(config, seed=0, check_files=False).samples]
    except MpfgvcError as error:
        return [], [f"the dataset cannot be read as it is now, to look for added photographs: {error}"]
    listed = {photo.path for photo in photo_list.photographs}
    names = [relative_path(path, place) for path in today]
    added = [name for name in names if name not in listed]
    what = "photographs added to the dataset after the run began, in no split and left out"
    return added, [counted(what, added)] if added else []
