"""Class prompts spread over processes: what a step of the text branch costs each of 1, 2 and 4.

    python benchmarks/spread_prompts.py                       # 9 minutes
    python benchmarks/spread_prompts.py --classes 500 --whole 100

CLIP's ViT-B-16 text tower (random weights: speed does not depend on them), J = 4, "bird", fp32, one thread
a process, gloo. Of several processes the dearest counts. Seconds are those of the processor, as four
processes on two cores take turns. Memory is what the step adds to the process at its peak. It is measured
with prompts that are read in one piece; read in chunks, it is that of one chunk anyway.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
import torch.nn.functional as F

from common import CLIP_TEXT
from mpfgvc.distributed import start_fabric
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.model.towers.text_tower import build_text_tower
from mpfgvc.processes import Processes
from mpfgvc.training.stages import text_features
from side_by_side import Comparison, comparison, report

PROCESSES = (1, 2, 4)
BATCH, CHUNK = 32, 256


def main() -> None:
    options = _parse()
    if options.result is not None:
        _measure(options)
        return
    found = {processes: _launch(options, processes) for processes in PROCESSES}
    report("spread_prompts", [row for processes in PROCESSES[1:] for row in _rows(options, found, processes)])


def _rows(options: Namespace, found: dict[int, dict[str, float]], processes: int) -> tuple[Comparison, Comparison]:
    one, each = found[1], found[processes]
    who = f"each of {processes} processes against one"
    time_claim = f"prompts of {options.classes:,} classes, a step: {who}"
    memory_claim = f"prompts of {options.whole:,} classes in one piece: {who}"
    wanted = 0.85 * processes
    return (
        comparison(time_claim, "s", [(each["seconds"], one["seconds"])], wanted),
        comparison(memory_claim, "MB", [(each["megabytes"], one["megabytes"])], wanted),
    )


def _launch(options: Namespace, processes: int) -> dict[str, float]:
    """The most that any of so many processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        words = ["--classes", options.classes, "--whole", options.whole, "--result", folder]
        command = [sys.executable, *launcher, __file__, *map(str, words)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        found = [json.loads(file.read_text()) for file in Path(folder).iterdir()]
    return {name: max(each[name] for each in found) for name in found[0]}


def _measure(options: Namespace) -> None:
    """In one of the processes: memory first, as the peak of the process is only ever raised."""
    fabric = start_fabric("cpu", "fp32")
    tower = build_text_tower(CLIP_TEXT)
    processes = Processes.here()
    embeddings = F.normalize(torch.randn(BATCH, tower.embed), dim=-1)

    def step(classes: int, chunk: int) -> None:
        prompts = ClassPrompts(tower=tower, endings=["bird"] * classes, context_tokens=4, chunk=chunk)
        features = F.normalize(text_features(prompts, processes), dim=-1)
        labels = torch.arange(BATCH) % classes
        F.cross_entropy(embeddings @ features.T / 0.07, labels).backward()

    step(8 * processes.world, CHUNK)  # loads what a first step loads
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _megabytes("VmRSS")
    step(options.whole, options.whole)
    megabytes = _megabytes("VmHWM") - before
    fabric.barrier()
    started = time.process_time()
    step(options.classes, CHUNK)
    seconds = time.process_time() - started
    result = Path(options.result, f"{processes.rank}.json")
    result.write_text(json.dumps({"seconds": seconds, "megabytes": megabytes}))


def _megabytes(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=10_000, help="classes of the timed step")
    parser.add_argument("--whole", type=int, default=1000, help="classes of the step whose memory is measured")
    parser.add_argument("--result", help="folder for what one process measured; set by the script itself")
    return parser.parse_args()


if __name__ == "__main__":
    main()
