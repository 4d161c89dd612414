"""Prediction of many photographs on Ray beside plain `predict`: the same rows, overhead, memory, and kills.

    python benchmarks/predict_many.py --work FOLDER [--photographs 10000] [--kills 10] [--core 1]
    python benchmarks/predict_many.py --work FOLDER --overhead      # that alone: predict_many_overhead.json

Draws synthetic birds of 96 pixels to disk, and makes a run of ViT-tiny with random weights at 224 pixels:
speed does not depend on them. Each command is a process of its own, with one thread, and Ray has one actor
with one core, so both compute with the same means (--core keeps all of it on that core).

- Overhead: seconds of the whole command with `--engine ray`, start of the cluster included, against
  `predict --csv`; also without Ray, and the seconds until the first part is there.
- Memory: the largest resident memory of the driver and of an actor, with a tenth of the photographs and all.
- Kills: `kill -9` of the actor or of the driver at a random moment, by a seed; after a driver the same
  command again. In the end the rows must be those of the plain command.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from common import write_result

BATCH = 32
LIMIT = 1.15
"""The largest time against plain predict."""
MOST_GROWTH = 1.1
"""The largest memory with all photographs against a tenth of them."""
ACTOR = b"ray::MapWorker"
DIGITS = 6
"""Of a probability in CSV."""


@dataclass(kw_only=True)
class Watched:
    """A command that ran: seconds, seconds to its first part, and the largest memory in MB."""

    seconds: float = 0.0
    first_part: float = 0.0
    driver: float = 0.0
    actor: float = 0.0
    killed: list[str] = field(default_factory=list)


def main() -> None:
    options = _parse()
    options.work.mkdir(parents=True, exist_ok=True)
    photos, run = _photographs(options), _run(options)
    few, many = _tables(options.work, photos, options.photographs)
    if options.overhead:
        _overhead_alone(options, run, many)
        return
    plain = _plain(options, run, many)
    local = _job(options, run, many, "local")
    ray = _job(options, run, many, "ray", "--engine", "ray")
    tenth = _job(options, run, few, "tenth", "--engine", "ray")
    expected = _rows_of_csv(options.work / "plain.csv")
    differ = {name: _different(options.work / name, expected) for name in ("local", "ray")}
    killed = _with_kills(options, run, many, ray.seconds)
    differ["killed"] = _different(options.work / "killed", expected)
    document = {
        "name": "predict_many",
        "photographs": options.photographs,
        "part_size": options.part_size,
        "plain": asdict(plain),
        "local": asdict(local),
        "ray": asdict(ray),
        "ray_with_a_tenth": asdict(tenth),
        "overhead": ray.seconds / plain.seconds,
        "overhead_without_start": _pace(ray, options, options.part_size) / _pace(plain, options, BATCH),
        "memory_growth": {"driver": ray.driver / tenth.driver, "actor": ray.actor / tenth.actor},
        "kills": killed,
        "different_rows": differ,
    }
    _print(document)
    write_result("predict_many", document)
    if any(differ.values()):
        raise SystemExit("predict_many: rows differ from those of plain predict")


def _overhead_alone(options: Namespace, run: Path, table: Path) -> None:
    ray = _job(options, run, table, "ray", "--engine", "ray")
    plain = _plain(options, run, table)
    document = {
        "name": "predict_many_overhead",
        "photographs": options.photographs,
        "core": options.core,
        "plain": asdict(plain),
        "ray": asdict(ray),
        "overhead": ray.seconds / plain.seconds,
        "different_rows": _different(options.work / "ray", _rows_of_csv(options.work / "plain.csv")),
    }
    print(f"overhead {document['overhead']:.2f}, at most {LIMIT} wanted")
    write_result("predict_many_overhead", document)


def _pace(seen: Watched, options: Namespace, first: int) -> float:
    """Seconds for a photograph after those of the first part or batch."""
    return (seen.seconds - seen.first_part) / (options.photographs - first)


def _print(document: dict[str, object]) -> None:
    for name in ("overhead", "overhead_without_start", "memory_growth", "kills", "different_rows"):
        print(f"{name:24s} {document[name]}")
    print(f"wanted: overhead at most {LIMIT}, growth at most {MOST_GROWTH}, no different rows")


def _photographs(options: Namespace) -> Path:
    """At least as many birds as are asked for, drawn once."""
    folder: Path = options.work / "birds"
    if not folder.exists():
        each = -(-options.photographs // 100)
        sizes = {"species": 100, "train": each, "test": 1, "image_size": 96}
        words = [word for name, value in sizes.items() for word in (f"--data.birds.{name}", str(value))]
        _finish(options, ["data", "synthesize", "--out", folder, *words])
    return folder / "images"


def _run(options: Namespace) -> Path:
    """A run of ViT-tiny without a single step."""
    run: Path = options.work / "run"
    if not run.exists():
        towers = ["--model.image_tower.pretrained", "false", "--model.text_tower.pretrained", "null"]
        nothing = ["--stage1.epochs", "0", "--stage2.epochs", "0", "--stage1.start", "random"]
        data = ["--data.dataset", "synthetic", "--data.birds.species", "100", "--data.birds.train", "1"]
        more = ["--data.birds.test", "1", "--data.validation", "0", "--final_test", "false"]
        _finish(options, ["train", "--config", "vit_tiny", *towers, *nothing, *data, *more, "--out", run])
    return run


def _tables(work: Path, photos: Path, count: int) -> tuple[Path, Path]:
    """Tables of a tenth of the photographs and of all."""
    import pyarrow as arrow

    names = [str(path.absolute()) for path in sorted(photos.rglob("*.png"))[:count]]
    if len(names) < count:
        raise SystemExit(f"{photos} holds {len(names)} photographs; choose another --work")
    tables = work / "tenth.parquet", work / "all.parquet"
    for table, part in zip(tables, (names[: count // 10], names), strict=True):
        parquet.write_table(arrow.table({"path": part}), table)
    return tables


def _plain(options: Namespace, run: Path, table: Path) -> Watched:
    """Plain predict, its rows in plain.csv. It takes no tables, so the photographs are named."""
    names = parquet.read_table(table)["path"].to_pylist()
    script = options.work / "plain.py"
    script.write_text(f"from mpfgvc.cli.main import main\nmain({['predict', str(run), *names, '--csv']!r})\n")
    with (options.work / "plain.csv").open("w") as output:
        process = subprocess.Popen(_pinned(options, [script]), stdout=output, env=_environment())
        return _watch(process, lambda: output.tell() > 0 or Path(output.name).stat().st_size > 0)


def _job(options: Namespace, run: Path, table: Path, name: str, *more: str) -> Watched:
    """A job into a new folder."""
    out = options.work / name
    _empty(out)
    return _watch(_start(options, run, table, out, *more), lambda: any(out.glob("part-*")))


def _with_kills(options: Namespace, run: Path, table: Path, seconds: float) -> list[str]:
    """What was killed, one after the other, until a job with Ray is done."""
    out, generator, killed = options.work / "killed", np.random.default_rng(0), []
    _empty(out)
    while len(killed) < options.kills:
        process = _start(options, run, table, out, "--engine", "ray")
        while process.poll() is None:
            victim = "driver" if generator.random() < 0.5 else "actor"
            moment = time.perf_counter() + generator.uniform(0, seconds / max(1, options.kills))
            while time.perf_counter() < moment and process.poll() is None:
                time.sleep(0.05)
            target = process.pid if victim == "driver" else next(iter(_actors(process.pid)), None)
            if len(killed) < options.kills and target is not None and process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
                    killed.append(victim)
        process.wait()
        if not _missing(options, out, table):
            break  # done before all kills were made
    while _missing(options, out, table):
        _watch(_start(options, run, table, out, "--engine", "ray"), lambda: True)
    return killed


def _missing(options: Namespace, out: Path, table: Path) -> int:
    parts = -(-parquet.read_metadata(table).num_rows // options.part_size)
    return parts - len(list(out.glob("part-*")))


def _start(options: Namespace, run: Path, table: Path, out: Path, *more: str) -> "subprocess.Popen[bytes]":
    words = ["predict", run, table, "-o", out, "--part-size", options.part_size, *more]
    words += ["--actors", 1] if more else []
    command = _pinned(options, ["-m", "mpfgvc", *words])
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_environment())


def _watch(process: "subprocess.Popen[bytes]", has_begun: Callable[[], bool]) -> Watched:
    """Look at a command ten times a second until it ends."""
    started, seen = time.perf_counter(), Watched()
    while process.poll() is None:
        if not seen.first_part and has_begun():
            seen.first_part = time.perf_counter() - started
        seen.driver = max(seen.driver, _megabytes(process.pid))
        seen.actor = max([seen.actor, *map(_megabytes, _actors(process.pid))])
        time.sleep(0.1)
    seen.seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"a command failed with {process.returncode}")
    return seen


def _actors(driver: int) -> Iterator[int]:
    """The actors that descend from a driver."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_bytes()
    for process, name in names.items():
        above = process
        while above in parents and above != driver:
            above = parents[above]
        if above == driver and name.startswith(ACTOR):
            yield process


def _megabytes(process: int) -> float:
    """Resident memory without shared memory and mapped files; 0 for a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


Row = tuple[tuple[str, ...], tuple[float, ...], str]


def _rows_of_csv(file: Path) -> dict[str, Row]:
    rows: dict[str, list[dict[str, str]]] = {}
    with file.open(newline="") as text:
        for row in csv.DictReader(text):
            rows.setdefault(row["path"], []).append(row)
    return {path: _row(each) for path, each in rows.items()}


def _row(guesses: Sequence[dict[str, str]]) -> Row:
    known = [each for each in guesses if not each["error"]]
    shares = tuple(float(each["probability"]) for each in known)
    return tuple(each["label"] for each in known), shares, guesses[0]["error"]


def _different(out: Path, expected: dict[str, Row]) -> int:
    """Rows of a job that are not those expected, in order; probabilities to the digits of CSV."""
    rows = parquet.read_table(out).to_pylist()
    if [row["path"] for row in rows] != list(expected):
        return max(len(rows), len(expected))
    return sum(not _equal(row, expected[row["path"]]) for row in rows)


def _equal(row: dict[str, object], expected: Row) -> bool:
    labels, shares, error = expected
    found = np.array(row["probabilities"] or [], dtype=np.float64)
    same = tuple(row["labels"] or ()) == labels and (row["error"] or "") == error  # type: ignore[arg-type]
    return same and len(found) == len(shares) and bool((abs(found - shares) <= 10**-DIGITS).all())


def _empty(out: Path) -> None:
    import shutil

    shutil.rmtree(out, ignore_errors=True)


def _finish(options: Namespace, words: Sequence[object]) -> None:
    command = _pinned(options, ["-m", "mpfgvc", *words])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment())


def _pinned(options: Namespace, words: Sequence[object]) -> list[str]:
    core = [] if options.core is None else ["taskset", "-c", str(options.core)]
    return [*core, sys.executable, *map(str, words)]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the photographs and results")
    parser.add_argument("--photographs", type=int, default=10_000)
    parser.add_argument("--part-size", type=int, default=256)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--core", type=int, help="the only core to compute on")
    parser.add_argument("--overhead", action="store_true", help="measure the overhead alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
