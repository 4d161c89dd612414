"""Kill every command that writes, and repeat it: nothing is lost, half-written or different.

Half of the kills come at a file event of the command (a file is opened, renamed or removed, a folder made; Python's
audit hooks tell of them), half at a random time, by SIGKILL. Then the same command, or the one that continues, runs to
its end. Its files must be those of a command that nobody killed, byte for byte, and none may be left over. What holds
times, such as metrics.csv, must be there.

    python benchmarks/kills.py --work FOLDER --kills 1000
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from common import write_result

PROCESSES = multiprocessing.get_context("forkserver")
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
KILLED = 9
TIMED = {
    "digests.json",
    "environment.json",
    "metrics.csv",
    "memory.json",
    "checkpoint.pt",
    "comparison.json",
    "table.csv",
}
"""Files that hold times, or digests of such."""
TIMED_ENDINGS = (".html", ".md", ".lock", ".yaml")
TINY = [
    *("--model.image_tower.name=test_vit", "--model.image_tower.pretrained=false", "--model.image_tower.image_size=48"),
    *("--model.text_tower.name=mpfgvc-small", "--model.text_tower.pretrained=null", "--model.kept_tokens=4"),
    *("--stage1.epochs=1", "--stage1.batch_size=8", "--stage1.start=random", "--stage2.epochs=2"),
    *("--data.validation=0.5", "--checkpoint_steps=2", "--data.workers=0", "--device=cpu", "--precision=fp32"),
]
"""A training of a second."""


@dataclass(frozen=True)
class Case:
    """A command that writes below `out`: its words, and those that continue it once `out`/config.yaml is there."""

    words: list[str]
    out: str
    starts_from: str | None = None
    """A folder that is copied to `out` before."""
    resume: list[str] | None = None


def cases(birds: Path, run: Path) -> dict[str, Case]:
    """Every command that writes; `{}` stands for the folder of one attempt."""
    data = ["--data.dataset=cub", "--data.root", str(birds)]
    photos, started = str(birds / "images"), str(run)
    return {
        "train": Case(["train", *data, *TINY, "--out", "{}/run"], "run", resume=["train", "--resume", "{}/run"]),
        "compare": Case(
            ["compare", "full", "coop", "--base", "synthetic", "--seeds", "2", *data, *TINY, "--out", "{}/runs"], "runs"
        ),
        "evaluate --report": Case(["evaluate", "{}/run", "--report", "{}/run/report"], "run", started),
        "calibrate": Case(["calibrate", "{}/run"], "run", started),
        "embed": Case(["embed", "{}/run"], "run", started),
        "embed -o": Case(["embed", started, photos, "-o", "{}/rows/", "--part-size", "16"], "rows"),
        "predict -o": Case(["predict", started, photos, "-o", "{}/rows/", "--part-size", "16"], "rows"),
        "explain": Case(["explain", started, "-o", "{}/why.png", "--nearest", "0"], "why.png"),
        "export": Case(["export", started, "-o", "{}/bird.onnx"], "bird.onnx"),
        "push --dry-run": Case(["push", started, "me/birds", "--dry-run", "-o", "{}/card"], "card"),
        "data pack": Case(["data", "pack", *data, "--per-shard", "16", "--out", "{}/shards"], "shards"),
        "data synthesize": Case(
            [
                "data",
                "synthesize",
                "--data.birds.species=4",
                "--data.birds.train=4",
                "--data.birds.test=2",
                "--out",
                "{}/b",
            ],
            "b",
        ),
    }


def measure(name: str, case: Case, work: Path, kills: int, generator: random.Random) -> dict[str, int | list[str]]:
    """Kill this command so many times; how many repetitions failed, differed or left files over."""
    folder = work / name.replace(" ", "_")
    began = time.monotonic()
    events = attempt(case, folder, None)
    seconds = time.monotonic() - began
    expected = contents(folder)
    shutil.rmtree(folder)
    faults: list[str] = []
    for index in range(kills):
        event, after = (generator.randrange(events), None) if index % 2 == 0 else (None, generator.random() * seconds)
        prepare(case, folder)
        process = started(case.words, folder, event)
        process.join(after)
        process.kill()
        process.join()
        goes_on = case.resume is not None and (folder / case.out / "config.yaml").exists()
        code = ended(case.resume if goes_on and case.resume else case.words, folder)
        found = contents(folder)
        wrong = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
        done = code == 2 and not wrong  # what is whole already is refused, and left as it is
        if wrong or (code != 0 and not done):
            faults.append(f"{name}, event {event}, seconds {after}: exit code {code}, {wrong[:5]}")
            print(faults[-1], (folder.parent / "said.txt").read_text()[-400:], flush=True)
        shutil.rmtree(folder)
    print(f"{name}: {kills} kills, {events} events, {len(faults)} faults", flush=True)
    return {"events": events, "kills": kills, "faults": faults}


def attempt(case: Case, folder: Path, event: int | None) -> int:
    """Run a command whole; the number of its file events."""
    prepare(case, folder)
    counted = folder.parent / "events.txt"
    process = started(case.words, folder, event)
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{case.words} failed: {(folder.parent / 'said.txt').read_text()[-2000:]}")
    return int(counted.read_text())


def prepare(case: Case, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.starts_from is not None:
        shutil.copytree(case.starts_from, folder / case.out)


def started(words: list[str], folder: Path, event: int | None) -> ForkServerProcess:
    process = PROCESSES.Process(target=run_until, args=([word.format(folder) for word in words], folder, event))
    process.start()
    return process


def ended(words: list[str], folder: Path) -> int | None:
    process = started(words, folder, None)
    process.join(300)
    process.kill()
    return process.exitcode


def run_until(words: list[str], folder: Path, event: int | None) -> None:
    """Run a command in this process until a file event below `folder`, and write how many there were."""
    said = os.open(folder.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    here, numbers, below = os.getpid(), itertools.count(), str(folder)

    def count(name: str, arguments: tuple[object, ...]) -> None:
        counts = name in EVENTS and os.getpid() == here and below in str(arguments[0])
        if counts and next(numbers) == event:
            os._exit(KILLED)

    sys.addaudithook(count)
    from mpfgvc.cli.main import main

    code = main(words)
    (folder.parent / "events.txt").write_text(str(next(numbers)))
    sys.exit(code)


def contents(folder: Path) -> dict[str, str]:
    """Every file with the digest of its bytes, or with no digest where it holds times."""
    return {
        str(path.relative_to(folder)): digest(path)
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


def digest(path: Path) -> str:
    """Empty for what holds times; the metadata of safetensors have another order in each file."""
    if path.name in TIMED or path.name.endswith(TIMED_ENDINGS):
        return ""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(content[:8], "little")
        content = json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    return sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for all that is written")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--only", nargs="+", default=None, help="these commands alone")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(["mpfgvc.training.run", "mpfgvc.training.compare", "mpfgvc.inference.forward"])
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    birds, run = work / "birds", work / "run"
    small = ["--data.birds.species=4", "--data.birds.train=20", "--data.birds.test=5"]
    if not birds.exists() and ended(["data", "synthesize", *small, "--out", str(birds)], work / "x") != 0:
        raise SystemExit((work / "said.txt").read_text())
    if (
        not run.exists()
        and ended(["train", "--data.dataset=cub", "--data.root", str(birds), *TINY, "--out", str(run)], work / "x") != 0
    ):
        raise SystemExit((work / "said.txt").read_text())
    chosen = {name: case for name, case in cases(birds, run).items() if options.only is None or name in options.only}
    generator = random.Random(0)  # noqa: S311
    results = {
        name: measure(name, case, work, -(-options.kills // len(chosen)), generator) for name, case in chosen.items()
    }
    if options.only is None:
        write_result("kills", {"commands": results})


if __name__ == "__main__":
    main()
