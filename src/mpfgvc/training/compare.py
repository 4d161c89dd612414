"""Train several recipes with several seeds, and compare them: `mpfgvc compare`.

    OUT/<recipe>-<seed>/        a run like any other, trained or continued in a process of its own

What is done is skipped and what was interrupted goes on, always with the settings that are asked for: a
folder that holds a run with others is refused, before anything is trained. So the same command, typed again
after a kill, gives the table that it would have given.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mpfgvc.config import Config, shown
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.samples import Split
from mpfgvc.errors import CheckpointError, ConfigError, DataError
from mpfgvc.evaluation.answers import load_answers
from mpfgvc.evaluation.comparison import Comparison, RecipeResults, RunResult, compared
from mpfgvc.evaluation.statistics import refuse_missing_scipy
from mpfgvc.launcher import Processes, refuse_unguarded_script
from mpfgvc.progress import say
from mpfgvc.recipes_io import changed_settings
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage.metric_rows import training_seconds
from mpfgvc.training.own_process import Job, carry_out_apart, peak_bytes
from mpfgvc.training.run import resolve

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
    jobs = _plan(recipes, seeds=seeds, out=Path(out), split=split)
    _carry_out([job for each in jobs.values() for job in each])
    configs = {name: each[0].config for name, each in jobs.items()}
    results = [_results(name, each, configs[reference]) for name, each in jobs.items()]
    return compared(results, reference=reference, split=split)


def _refuse_unfit(recipes: Mapping[str, Config], seeds: Sequence[int], reference: str | None) -> None:
    refuse_unguarded_script()
    refuse_missing_scipy()
    if Processes.here().world > 1:
        raise ConfigError("a comparison trains one run after the other; start it without torchrun or srun")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds must be one or more different numbers, got {shown(list(seeds))}")
    if reference is not None and reference not in recipes:
        raise ConfigError(f"--reference must be one of {', '.join(recipes)}, got {reference}")


def _plan(recipes: Mapping[str, Config], *, seeds: Sequence[int], out: Path, split: Split) -> Jobs:
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
    if not folder.is_run:
        return
    changed = changed_settings(folder.read_config().replaced(device=job.config.device), job.config)
    if changed:
        differences = [f"{name} {shown(old)}, now {shown(new)}" for name, (old, new) in changed.items()]
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        rule = f"holds a run with other settings ({'; '.join(differences[:3])}{more})"
        raise CheckpointError(f"{job.folder} {rule}; choose another --out, or remove that folder")


def _carry_out(jobs: Sequence[Job]) -> None:
    for number, job in enumerate(jobs, 1):
        if not job.is_done:
            say(f"run {number} of {len(jobs)}: {job.folder}")
            carry_out_apart(job)


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
        seconds=training_seconds(folder.metrics),
        peak_bytes=peak_bytes(folder),
    )
