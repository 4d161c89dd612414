"""Train several recipes with several seeds, and compare them: `mpfgvc compare`.

    OUT/<recipe>-<seed>/        a run like any other, trained or continued in a process of its own

What is done is skipped and what was interrupted goes on, always with the settings that are asked for: a
folder that holds a run with others is refused, before anything is trained. So the same command, typed again
after a kill, gives the table that it would have given.

A process of its own makes the memory of a training, and a crash, its own. At its end it stores the most memory
that it has had. It ends by itself when the process that started it is gone: otherwise it would go on unseen and
keep the run folder.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from mpfgvc.config import Config, shown
from mpfgvc.data.catalog import dataset_root, read_photos
from mpfgvc.data.samples import Split
from mpfgvc.errors import CheckpointError, ConfigError, DataError, MpfgvcError
from mpfgvc.evaluation.comparison import Comparison, RecipeResults, RunResult, compared
from mpfgvc.evaluation.evaluate import evaluate
from mpfgvc.evaluation.metrics import load_answers, save_answers
from mpfgvc.evaluation.statistics import refuse_missing_scipy
from mpfgvc.files import check_digest, write_with_digest
from mpfgvc.processes import Processes, refuse_unguarded_script
from mpfgvc.progress import say
from mpfgvc.recipes_io import changed_settings
from mpfgvc.run_folder import RunFolder, read_rows, training_seconds
from mpfgvc.training.environment import peak_of_this_process
from mpfgvc.training.run import resolve, resume, train


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


Jobs = dict[str, list[Job]]
"""By recipe, in the order of the seeds."""


def compare(
    recipes: Mapping[str, Config],
    *,
    seeds: Sequence[int],
    out: str | Path,
    split: Split = "test",
    reference: str | None = None,
) -> Comparison:
    """Train each recipe with each seed in `out`, and compare it with the reference (None = the first).

    With another split than test, the test photographs are not looked at. Raises ConfigError, DataError,
    CheckpointError or OutputError for a user error; all that can be seen before the training is seen then.
    """
    _refuse_unfit(recipes, seeds, reference)
    reference = reference or next(iter(recipes))
    jobs = _list_jobs(recipes, seeds=seeds, out=Path(out), split=split)
    everything = [job for of_recipe in jobs.values() for job in of_recipe]
    for number, job in enumerate(everything, 1):
        if not job.is_done:
            say(f"run {number} of {len(everything)}: {job.folder}")
            _carry_out_apart(job)
    base = jobs[reference][0].config
    results = [_results(name, of_recipe, base) for name, of_recipe in jobs.items()]
    return compared(results, reference=reference, split=split)


def _refuse_unfit(recipes: Mapping[str, Config], seeds: Sequence[int], reference: str | None) -> None:
    refuse_unguarded_script()
    refuse_missing_scipy()
    if Processes.here().world > 1:
        raise ConfigError("a comparison trains one run after the other; start it without torchrun")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds must be one or more different numbers, got {shown(list(seeds))}")
    if reference is not None and reference not in recipes:
        raise ConfigError(f"--reference must be one of {', '.join(recipes)}, got {reference}")


def _list_jobs(recipes: Mapping[str, Config], *, seeds: Sequence[int], out: Path, split: Split) -> Jobs:
    """All runs, none of which can be refused for its settings or its photographs later."""
    read = cache(read_photos)
    jobs: Jobs = {}
    for name, recipe in recipes.items():
        for seed in seeds:
            config, photos = resolve(recipe.replaced(seed=seed, final_test=split == "test"), read=read)
            if not photos.subset(split):
                hint = "choose another --split, or hold photographs out with data.validation or data.test"
                raise DataError(f"{name}: there are no {split} photographs to compare by; {hint}")
            job = Job(config=config, folder=out / f"{name}-{seed}", split=split)
            _refuse_other_settings(job)
            jobs.setdefault(name, []).append(job)
    return jobs


def _refuse_other_settings(job: Job) -> None:
    """Refuse a folder whose run was trained with other settings; it may have run on another device."""
    folder = RunFolder(job.folder)
    changed = changed_settings(folder.read_config(), job.config) if folder.is_run else {}
    for name, (old, new) in changed.items():
        if name != "device":
            rule = f"holds a run with {name} {shown(old)}, but {shown(new)} was given"
            raise CheckpointError(f"{job.folder} {rule}; choose another --out, or remove that folder")


def _results(name: str, jobs: Sequence[Job], reference: Config) -> RecipeResults:
    config = jobs[0].config
    changed = changed_settings(reference, config)
    return RecipeResults(
        name=name,
        prediction=config.model.prediction,
        runs=tuple(_result(job) for job in jobs),
        changes={setting: shown(new) for setting, (_, new) in changed.items()},
    )


def _result(job: Job) -> RunResult:
    folder = RunFolder(job.folder)
    return RunResult(
        seed=job.config.seed,
        answers=load_answers(folder.predictions(job.split)),
        seconds=training_seconds(read_rows(folder.metrics)),
        peak_bytes=_recorded_peak(folder),
    )


def _carry_out_apart(job: Job) -> None:
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
    code = cast("int", process.exitcode)
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    hint = "give it more memory if that is why, then type the same command again to go on"
    raise CheckpointError(f"the training of {job.folder} ended {how}; {hint}")


def _child(job: Job, sender: Connection) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        _carry_out(job)
        if (peak := peak_of_this_process()) is not None:
            write_with_digest(RunFolder(job.folder).memory, json.dumps({"peak_bytes": peak}).encode())
    except MpfgvcError as error:
        sender.send(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with_the_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _carry_out(job: Job) -> None:
    """Train or continue the run, and evaluate it if its own test does not."""
    folder = RunFolder(job.folder)
    if folder.is_run:
        resume(folder.path, device=job.config.device)
    else:
        train(job.config, out=folder.path)
    if job.split != "test":
        evaluation = evaluate(folder.path, split=job.split, device=job.config.device)
        save_answers(evaluation.below(dataset_root(job.config.data)), folder.predictions(job.split))


def _recorded_peak(folder: RunFolder) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError, CheckpointError):
        check_digest(folder.memory)
        return int(json.loads(folder.memory.read_bytes())["peak_bytes"])
    return None
