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
from mpfgvc.data.duplicates import Pair, same_pictures
from mpfgvc.data.images import read_image
from mpfgvc.data.inspection import check_headers, take_thumbnails
from mpfgvc.data.samples import Samples
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
        pairs = pairs_of([*files, *copies])
        rows.append({"set": name, "photographs": len(files), **judge(name, pairs, files, copies)})
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


def pairs_of(paths: list[Path]) -> list[Pair]:
    """The pairs that `mpfgvc data check` finds."""
    samples = Samples.of(None, [(str(path), 0, "train") for path in paths])
    headers = check_headers(samples, "skip").found
    return same_pictures(samples, {path: each.digest for path, each in headers.items()}, take_thumbnails(list(headers)))


def judge(name: str, pairs: list[Pair], files: list[Path], copies: dict[Path, tuple[str, Path]]) -> dict[str, object]:
    """Recall of each kind, and the pairs of the set itself, with the false ones."""
    origin = {path: path for path in files} | {path: original for path, (_, original) in copies.items()}
    paired = {frozenset((pair.first.path, pair.second.path)): pair for pair in pairs}
    own = {paths for paths in paired if paths.issubset(files)}
    found: dict[str, list[bool]] = {}
    for path, (kind, original) in copies.items():
        found.setdefault(kind, []).append(frozenset((path, original)) in paired)
    origins = [frozenset(origin[path] for path in paths) for paths in paired]
    strange = [each for each in origins if len(each) == 2 and each not in own]
    listed = [
        {"files": sorted(path.name for path in paths), "kind": paired[paths].kind, "likeness": paired[paths].likeness}
        for paths in paired
        if paths in own
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
