"""How the speed benchmarks measure: ours and a plain reference in turns, in one run, and their ratio.

Machines are noisy, so nothing is compared with a figure of another run: the two take turns in one
process, the ratio is taken turn by turn, and the median and the range (least to most) of these ratios
are reported. Memory is the peak of a forked process above what it held before the work began, without
mapped files (the code of libraries).
"""

import ctypes
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common import write_result

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
    """The reference's time divided by ours."""
    ours(), reference()  # warm up
    pairs = [(seconds_of(ours), seconds_of(reference)) for _ in range(turns)]
    return comparison(claim, "s", pairs, wanted)


def compare_memory(claim: str, *, ours: Work, reference: Work, wanted: float, turns: int = 3) -> Comparison:
    """The reference's peak memory divided by ours, both above what was there before."""
    pairs = [(peak_megabytes(ours), peak_megabytes(reference)) for _ in range(turns)]
    return comparison(claim, "MB", pairs, wanted)


def peak_megabytes(work: Work) -> float:
    """What `work` adds to the resident memory of a forked process at its peak."""
    return _in_a_fork(_measure_peak, work)


def own_megabytes(work: Work) -> float:
    """As `peak_megabytes`, where `work` maps files for a while; looked at every two milliseconds."""
    return _in_a_fork(_measure_own, work)


def _in_a_fork(measure: Callable[..., None], work: Work) -> float:
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measure, args=(work, sender))
    process.start()
    sender.close()
    try:
        peak: float = receiver.recv()
    except EOFError:
        raise SystemExit("the process whose memory was measured died") from None
    process.join()
    return peak


def report(name: str, comparisons: list[Comparison], **machine: str) -> None:
    """Print a row for each claim and write results/NAME.json; `machine` as `common.environment` takes it."""
    for row in comparisons:
        verdict = "" if row.ratio >= row.wanted else f"   BELOW the {row.wanted:g} wanted"
        medians = f"{row.ours:9.3g} {row.reference:9.3g} {row.unit:4s}"
        ratios = f"{row.ratio:6.2f} x ({row.least:.2f} .. {row.most:.2f})"
        print(f"{row.claim:60s} {medians} {ratios}{verdict}", flush=True)
    document = {"name": name, "claims": [asdict(row) for row in comparisons]}
    write_result(name, document, **machine)


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


def seconds_of(work: Work) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Peak:
    """The peak of this process's resident memory from now on, above what it holds now."""

    def __init__(self) -> None:
        ctypes.CDLL(None).malloc_trim(0)  # else the work would live in what was freed before
        self.before = _status("RssAnon")
        self.again()

    def again(self) -> None:
        """Forget the peak so far."""
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")

    def megabytes(self) -> float:
        """The peak, in MB."""
        return _status("VmHWM") - _status("RssFile") - self.before


def _measure_peak(work: Work, sender: "multiprocessing.connection.Connection") -> None:
    torch.set_num_threads(1)  # a forked process has lost the threads of its parent
    peak = Peak()  # that so far was of the parent
    work()
    sender.send(peak.megabytes())


def _measure_own(work: Work, sender: "multiprocessing.connection.Connection") -> None:
    torch.set_num_threads(1)
    before, seen, done = Peak().before, [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            seen.append(_status("RssAnon"))

    watch = threading.Thread(target=look)
    watch.start()
    work()
    done.set()
    watch.join()
    sender.send(max(seen) - before)


def _status(kind: str) -> float:
    """Resident memory of this process in MB: its own (RssAnon), of files (RssFile), the peak of both (VmHWM).

    A forked process maps the code of libraries again as it uses it: 100 MB that nobody allocated.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, amount = line.partition(":")
        if name == kind:
            return int(amount.split()[0]) / 1024
    raise KeyError(kind)
