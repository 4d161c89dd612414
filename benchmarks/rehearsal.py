"""Recipe `cub` at its true size, from the first download to an exported file, on eight photographs.

    python benchmarks/rehearsal.py --work FOLDER

A hub on this machine serves random weights under the true names (1.0 GB), so timm, open_clip and mpfgvc load
them as they would from the true one. Everything is as in the recipe (ViT-B/16 at 448 px, K = 96, CLIP's text
tower) but for one epoch in each stage and batches of four. Seconds and peak memory of each command, which is
a process of its own; its loader processes are not counted. FOLDER needs 4 GB; it is deleted at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.loopback_hub import environment, serving
from tests.true_weights import write_true_weights

from common import MEASURED_COMMAND, write_result

BIRDS = [f"--data.birds.{name}" for name in ("species=2", "train=2", "test=2", "image_size=448")]
SHORT = [
    *("--stage1.epochs=1", "--stage1.batch_size=4", "--stage1.warmup_epochs=0"),
    *("--stage2.epochs=1", "--stage2.batch_size=4", "--stage2.warmup_epochs=0"),
    *("--data.validation=0", "--device=cpu"),
]
COMMANDS = {
    "train": ["train", "--config", "cub", "--data.root", "birds", "--out", "run", *SHORT],
    "predict": ["predict", "run", "birds/images", "--device=cpu", "--json"],
    "explain": ["explain", "run", "PHOTOGRAPH", "--out", "why.png"],
    "export": ["export", "run", "--out", "cub.onnx", "--photos", "birds/images"],
    "predict by onnxruntime": ["predict", "cub.onnx", "birds/images", "--json"],
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that ended well."""

    seconds: float
    peak_mb: float
    output: str


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work: Path = parser.parse_args().work.resolve()
    work.mkdir(parents=True)
    try:
        rows = rehearse(work)
    finally:
        shutil.rmtree(work)
    write_result("rehearsal", {"photographs": 8, "commands": rows})


def rehearse(work: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of each command, in MB. The exported model must answer as the run does."""
    write_true_weights(work / "hub")
    ended: dict[str, Ended] = {}
    with serving(work / "hub") as address:
        run(work, address, ["data", "synthesize", "--out", "birds", *BIRDS])
        photograph = str(next((work / "birds" / "images").rglob("*.png")))
        for name, words in COMMANDS.items():
            ended[name] = run(work, address, [photograph if word == "PHOTOGRAPH" else word for word in words])
            print(f"{name:24s} {ended[name].seconds:7.1f} s {ended[name].peak_mb:8.0f} MB", flush=True)
    before, after = (json.loads(ended[name].output) for name in ("predict", "predict by onnxruntime"))
    if [best(each) for each in before] != [best(each) for each in after]:
        raise SystemExit("rehearsal: the exported model answers otherwise")
    return {name: {"seconds": round(each.seconds, 1), "peak_mb": round(each.peak_mb)} for name, each in ended.items()}


def best(prediction: dict[str, list[dict[str, str]]]) -> str:
    """The label of the first guess."""
    return prediction["guesses"][0]["label"]


def run(work: Path, address: str, words: list[str]) -> Ended:
    """Run a command in the folder with a hub at `address`."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED_COMMAND, *words],
        cwd=work,
        env=os.environ | environment(address, work / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"rehearsal: {words[0]} failed:\n{done.stderr[-2000:]}")
    peak = int(done.stderr.split()[-1]) / 1024
    return Ended(seconds=time.perf_counter() - started, peak_mb=peak, output=done.stdout)


if __name__ == "__main__":
    main()
