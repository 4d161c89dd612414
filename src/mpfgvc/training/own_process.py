"""A training in a process of its own, so that its memory is its own and a crash is its own, too.

The process records the most memory that it has had in the run folder, every few seconds; after a kill the
next one goes on from that number. It ends by itself when the process that started it is gone, whatever ended
that one: otherwise it would go on unseen and keep the run folder.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mpfgvc.config import Config
from mpfgvc.data.place import dataset_root
from mpfgvc.data.samples import Split
from mpfgvc.errors import CheckpointError, MpfgvcError, OutputError
from mpfgvc.evaluation.answers import save_answers
from mpfgvc.evaluation.evaluate import evaluate
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage.whole_files import write_text
from mpfgvc.training.run import resume, train

RECORD_SECONDS = 5.0
"""Time between two records of the memory."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be trained, or continued, in `folder` and evaluated on `split`."""

    config: Config
    folder: Path
    split: Split

    @property
    def is_done(self) -> bool:
        """Whether it has been trained and evaluated."""
        folder = RunFolder(self.folder)
        tested = self.split != "test" or folder.evaluation.is_file()
        return tested and folder.predictions(self.split).is_file()


def carry_out_apart(job: Job) -> None:
    """Train and evaluate in a new process, and wait for it.

    Raises what the training refuses, and CheckpointError if its process is killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would begin with this process's memory
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(job, sender))
    process.start()
    sender.close()
    try:
        process.join()
    finally:
        if process.is_alive():  # Ctrl-C here; what is on disk is whole
            process.terminate()
            process.join()
    if process.exitcode == 0:
        return
    error = None
    with suppress(EOFError):
        error = receiver.recv()
    if isinstance(error, MpfgvcError):
        raise error
    hint = "give it more memory if that is why, then type the same command again to go on"
    raise CheckpointError(f"the training of {job.folder} ended {_how(process.exitcode)}; {hint}")


def carry_out(job: Job) -> None:
    """Train or continue the run, and evaluate it if its own test does not."""
    folder = RunFolder(job.folder)
    if folder.is_run:
        resume(folder.path, device=job.config.device)
    else:
        train(job.config, out=folder.path)
    if job.split != "test":
        evaluation = evaluate(folder.path, split=job.split, device=job.config.device)
        save_answers(evaluation.answers.below(dataset_root(job.config.data)), folder.predictions(job.split))


def peak_bytes(folder: RunFolder) -> int | None:
    """The most memory that the processes of a run had, as far as it was recorded."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(folder.memory.read_bytes())["peak_bytes"])
    return None


def _child(job: Job, sender: Connection) -> None:
    threading.Thread(target=_watch, args=(job.folder,), daemon=True).start()
    try:
        carry_out(job)
        _record_peak(RunFolder(job.folder))
    except MpfgvcError as error:
        sender.send(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _watch(folder: Path) -> None:
    """Record the memory now and then; end this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:  # it was not started by another one
        return
    parent.join(RECORD_SECONDS)
    while parent.is_alive():
        with suppress(OutputError):
            _record_peak(RunFolder(folder))
        parent.join(RECORD_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _record_peak(folder: RunFolder) -> None:
    """Store the most memory so far, if it is more than what is stored."""
    peak = _peak_of_this_process()
    if folder.is_run and peak is not None and peak > (peak_bytes(folder) or 0):
        write_text(folder.memory, json.dumps({"peak_bytes": peak}) + "\n")


def _peak_of_this_process() -> int | None:
    """None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"by {signal.Signals(-exit_code).name}"
    return f"with exit code {exit_code}"
