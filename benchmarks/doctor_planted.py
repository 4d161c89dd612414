"""Copies planted among real photographs, and what the doctor finds of them and of what was there before.

    python benchmarks/doctor_planted.py --data DIR --work FOLDER [--copies 50]

Of `--copies` random photographs of each set, one copy of each kind (planted_copies.py) and an equal file are
written into FOLDER as JPEGs of quality 90. All are checked together with the whole set, without a model.
Recall: the share of the copies that are paired with their original. The pairs among the photographs of the
set itself are listed; those judged by eye to show different pictures are in JUDGED_FALSE. A pair of
copies is strange if their originals are no pair. Writes results/doctor_planted.json.
"""

import shutil
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from common import photographs, write_result
from mpfgvc.data.doctor import Report, check_photos
from mpfgvc.data.images import read_image
from mpfgvc.data.samples import PhotoSet, Samples
from planted_copies import CHANGES

SETS = {"CUB-27": "CUB_200_2011", "Flowers-17": "flowers17", "CUB_50": "CUB_50", "flowers-102": "flowers-102"}
EQUAL = "equal file"
JUDGED_FALSE: dict[str, set[tuple[str, str]]] = {name: set() for name in SETS} | {
    "flowers-102": {("image_05136.jpg", "image_05142.jpg")}
}
"""Pairs, by file name, that show different pictures; looked at on 2026-11-30."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    rows = []
    for name in options.sets:
        files = photographs(options.data / SETS[name])
        copies = plant(files, options.work / SETS[name], options.copies)
        report = check_photos(photo_set(name, [*files, *copies]))
        rows.append({"set": name, "photographs": len(files), **judge(name, report, files, copies)})
        print({key: value for key, value in rows[-1].items() if key != "pairs"}, flush=True)
        write_result("doctor_planted", {"copies": options.copies, "rows": rows})


def plant(files: list[Path], folder: Path, count: int) -> dict[Path, tuple[str, Path]]:
    """The copies, each with its kind and its original."""
    generator = np.random.default_rng(0)
    copies = {}
    for place in generator.choice(len(files), count, replace=False):
        image = read_image(files[place])
        for kind, change in CHANGES.items():
            path = folder / kind / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(image, generator).save(path, quality=90)
            copies[path] = (kind, files[place])
        path = folder / EQUAL / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[place], path)
        copies[path] = (EQUAL, files[place])
    return copies


def photo_set(name: str, paths: list[Path]) -> PhotoSet:
    samples = Samples.of(None, [(str(path), 0, "train") for path in paths])
    return PhotoSet(name=name, classes=("one",), samples=samples)


def judge(name: str, report: Report, files: list[Path], copies: dict[Path, tuple[str, Path]]) -> dict[str, object]:
    """Recall of each kind, and the pairs of the set itself, with the false ones."""
    origin = {str(path): str(path) for path in files} | {str(path): str(kind[1]) for path, kind in copies.items()}
    real = set(map(str, files))
    own = {frozenset(pair.paths) for pair in report.pairs if real.issuperset(pair.paths)}
    paired = {frozenset(pair.paths) for pair in report.pairs}
    found: dict[str, list[bool]] = {}
    for path, (kind, original) in copies.items():
        found.setdefault(kind, []).append({str(path), str(original)} in paired)
    strange = [
        pair.paths
        for pair in report.pairs
        if origin[pair.paths[0]] != origin[pair.paths[1]] and frozenset(origin[path] for path in pair.paths) not in own
    ]
    listed = [
        {"files": sorted(Path(path).name for path in pair.paths), "kind": pair.kind, "likeness": pair.likeness}
        for pair in report.pairs
        if frozenset(pair.paths) in own
    ]
    false = [each for each in listed if tuple(each["files"]) in JUDGED_FALSE[name]]
    return {
        "recall": {kind: sum(each) / len(each) for kind, each in found.items()},
        "pairs_found": len(listed),
        "of_equal_files": sum(each["kind"] == "same file" for each in listed),
        "judged_false": len(false),
        "false_per_1000": round(1000 * len(false) / len(files), 2),
        "strange_pairs_of_copies": len(strange),
        "pairs": listed,
    }


if __name__ == "__main__":
    main()
