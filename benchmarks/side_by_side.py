"""How the speed benchmarks measure: ours and a plain reference in turns, in one run, and their ratio.

Machines are noisy, so nothing is compared with a figure of another run: the two take turns in one
process, the ratio is taken turn by turn, and the median and the spread (least to most) of these ratios
are reported. Memory is the peak of a forked process above what it held before the work began, without
pages of files (code that is read in).
"""

import ctypes
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mpfgvc.training.environment import describe_environment

RESULTS = Path(__file__).parent / "results"
Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One claim: both medians in `unit`, and reference / ours."""

    claim: str
    unit: str
    ours: float
    reference: float
    ratio: float
    least: float
    most: float
    wanted: float
    """The ratio to reach."""


def compare_time(claim: str, *, ours: Work, reference: Work, wanted: float, turns: int = 5) -> Comparison:
    """How many times as long the reference takes."""
    ours(), reference()  # warm up
    pairs = [(_seconds(ours), _seconds(reference)) for _ in range(turns)]
    return comparison(claim, "s", pairs, wanted)


def compare_memory(claim: str, *, ours: Work, reference: Work, wanted: float, turns: int = 3) -> Comparison:
    """How many times as much memory the reference takes at its peak, above what was there before."""
    pairs = [(peak_megabytes(ours), peak_megabytes(reference)) for _ in range(turns)]
    return comparison(claim, "MB", pairs, wanted)


def peak_megabytes(work: Work) -> float:
    """What `work` adds to the resident memory of a forked process at its peak."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure_peak, args=(work, sender))
    process.start()
    sender.close()
    try:
        peak: float = receiver.recv()
    except EOFError:
        raise SystemExit("the process whose memory was measured died") from None
    process.join()
    return peak


def report(
    name: str, comparisons: list[Comparison], *, device: str = "cpu", precision: str = "32-true"
) -> None:
    """Print a row for each claim and write results/NAME.json."""
    for row in comparisons:
        verdict = "" if row.ratio >= row.wanted else f"   NOT the {row.wanted:g} wanted"
        medians = f"{row.ours:9.3g} {row.reference:9.3g} {row.unit:4s}"
        ratios = f"{row.ratio:6.2f} x ({row.least:.2f} .. {row.most:.2f})"
        print(f"{row.claim:60s} {medians} {ratios}{verdict}", flush=True)
    environment = describe_environment(device=device, precision=precision, processes=1)
    del environment["command"]  # it holds the paths of one machine
    document = {"name": name, "claims": [asdict(row) for row in comparisons], "environment": environment}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def comparison(claim: str, unit: str, pairs: list[tuple[float, float]], wanted: float) -> Comparison:
    """A claim from pairs (ours, reference), one a turn."""
    ratios = [reference / ours for ours, reference in pairs]
    return Comparison(
        claim=claim,
        unit=unit,
        ours=statistics.median(ours for ours, _ in pairs),
        reference=statistics.median(reference for _, reference in pairs),
        ratio=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
        wanted=wanted,
    )


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _measure_peak(work: Work, sender: "multiprocessing.connection.Connection") -> None:
    torch.set_num_threads(1)  # a forked process has lost the threads of its parent
    ctypes.CDLL(None).malloc_trim(0)  # else the work would live in what its parent has freed
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of the parent
    before = _status("RssAnon")
    work()
    sender.send(_status("VmHWM") - _status("RssFile") - before)


def _status(kind: str) -> float:
    """Resident memory of this process in MB: its own (RssAnon), of files (RssFile), the peak of both (VmHWM).

    A forked process maps the code of libraries anew as it comes to use it: 100 MB that nobody allocated.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == kind:
            return int(amount.split()[0]) / 1024
    raise KeyError(kind)
