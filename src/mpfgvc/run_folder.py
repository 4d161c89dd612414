"""The run folder: all that repeats a run or continues it.

    environment.json     versions, commit, device, command
    photographs.json     every photograph with its class and its split (data/run_photos.py)
    descriptions.csv     the sentences about its classes, if it has some (data/descriptions.py)
    taxonomy.csv         the tree above its classes, if it has one (data/taxonomy_file.py)
    config.yaml          every setting, resolved: a folder is a run once it has this file
    metrics.csv          a row for each epoch of each stage; tensorboard/ holds the same
    training.html        a page about the training: curves and the worst classes on validation
    checkpoint.pt        the last state of the training, to resume from
    stage1.safetensors   what stage 1 trained, written when it ends; stage 2 starts from it
    model/               the trained model (inference/saved_model.py)
    predictions-test.csv what was answered about each test photograph (evaluation/metrics.py)
    evaluation.json      the test result, written last: a run that has it is finished
    embeddings.parquet   the embeddings of its photographs, if `mpfgvc embed RUN` wrote them
    memory.json          the most memory that its processes had; of a run that `mpfgvc compare` trained
    digests.json         the digests of the files that are read again (files.py)

A run is written by one process only, which has claimed the folder. The tensors are those of
training/checkpoint.py.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpfgvc.config import Config
from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.files import (
    DIGESTS,
    check_digest,
    claim_folder,
    make_folder,
    output_errors,
    restore_folder,
    write_with_digest,
)
from mpfgvc.processes import Processes
from mpfgvc.progress import say
from mpfgvc.recipes_io import changed_settings, dump_config, load_config
from mpfgvc.terms import Precision

RESUMABLE = ("data.root", "data.manifest", "device", "sharding")
"""Settings that may be others when a run goes on: they do not change what is trained."""
COLUMNS = (
    *("stage", "epoch", "step", "loss", "accuracy"),
    *("validation_vision", "validation_text", "validation_fusion", "images_per_second", "seconds"),
)
"""The columns of `metrics.csv`; epoch 0 is the pass that embeds photographs."""
Row = Mapping[str, Any]


class Environment(BaseModel):
    """Versions, commit, machine and command of a run: `environment.json`.

    The same settings give the same bits only with the same precision, device, threads, processes and
    versions. training/environment.py finds out what they are on this machine.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    command: tuple[str, ...]
    commit: str | None
    """Commit of the repository that the package was run from; None for an installed package."""
    device: str
    """Name of the GPU, or cpu, or mps."""
    precision: str
    """Fabric's name of the precision that was used, such as 32-true; never auto."""
    processes: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    """Threads of torch in each process."""
    python: str
    platform: str
    processor: str
    packages: dict[str, str | None]
    """Versions; None for a package that is not installed."""

    @property
    def precision_setting(self) -> Precision:
        """The value of the setting `precision` that gives this precision again."""
        return "bf16" if self.precision.startswith("bf16") else "fp32"

    def differences(self, now: Self) -> list[str]:
        """What may give other bits now than then, in words: `threads: 2 then, 1 now`."""
        before, after = self._compared(), now._compared()
        return [
            f"{name}: {before.get(name) or 'none'} then, {after.get(name) or 'none'} now"
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]

    def _compared(self) -> dict[str, object]:
        values = self.model_dump(exclude={"command", "python", "platform", "packages"})
        return {**values, **dict(sorted(self.packages.items()))}


class RunFolder:
    """The paths of one run. `open` refuses a folder that holds none."""

    def __init__(self, path: str | Path):
        if not isinstance(path, str | os.PathLike):
            raise CheckpointError(f"a run is named by its folder, got {path!r:.80}")
        self.path = Path(path)
        self.model = self.path / "model"
        self.config = self.path / "config.yaml"
        self.photographs = self.path / "photographs.json"
        self.descriptions = self.path / "descriptions.csv"
        self.taxonomy = self.path / "taxonomy.csv"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.csv"
        self.training_page = self.path / "training.html"
        self.tensorboard = self.path / "tensorboard"
        self.evaluation = self.path / "evaluation.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.stage1 = self.path / "stage1.safetensors"
        self.embeddings = self.path / "embeddings.parquet"
        self.memory = self.path / "memory.json"
        self.is_new = False

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that was started. Raises CheckpointError for any other folder."""
        folder = cls(path)
        if not folder.is_run:
            rule = "is not a run folder: it has no config.yaml"
            raise CheckpointError(f"{folder.path} {rule}; give the --out of a training")
        return folder

    @classmethod
    def claim_free(cls, parent: Path, name: str) -> Self:
        """The first of `<name>-1`, `<name>-2`, ... in `parent` that is free; it is made here.

        Two processes never get the same one. Claim it next. Raises OutputError.
        """
        make_folder(parent)
        number = 0
        while True:
            number += 1
            folder = cls(parent / f"{name}-{number}")
            with output_errors(folder.path):
                try:
                    folder.path.mkdir()
                except FileExistsError:
                    continue
            folder.is_new = True
            return folder

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Own the folder within the block, and put in order what a killed owner left. On rank 0 only.

        Raises CheckpointError, naming the owner, if another process owns it, and OutputError if it
        cannot be written to. A folder that was made here and holds nothing at the end is removed.
        """
        self.is_new = self.is_new or not os.path.lexists(self.path)
        make_folder(self.path)
        try:
            with claim_folder(self.path):
                restore_folder(self.model)
                yield
        finally:
            if self.is_new:
                with suppress(OSError):
                    self.path.rmdir()

    def predictions(self, split: str) -> Path:
        """The file of the answers about each photograph of a split."""
        return self.path / f"predictions-{split}.csv"

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        with suppress(OSError, ValueError):  # a path that no file can have
            return self.config.is_file()
        return False

    def read_config(self, overrides: Mapping[str, Any] | None = None) -> Config:
        """The settings of the run, with `overrides` on top.

        Raises CheckpointError for a damaged file, ConfigError for bad settings.
        """
        if not check_digest(self.config) and not self.config.read_bytes().rstrip().endswith(b"\n..."):
            rule = "has no digest and does not end with the line ..., so it may have been cut"
            raise CheckpointError(f"{self.config} {rule}; restore it from a copy, or add that line")
        return load_config(self.config, overrides=overrides)

    def read_environment(self) -> Environment | None:
        """What the run was made with; None, with a note, if that cannot be read."""
        try:
            check_digest(self.environment)
            return Environment.model_validate_json(self.environment.read_bytes())
        except (OSError, ValueError, CheckpointError) as error:
            if Processes.here().is_first:
                first = error.errors()[0] if isinstance(error, ValidationError) else None
                reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else one_line(error)
                what = "so it is not known whether this machine gives the same bits"
                say(f"{self.environment} cannot be used, {what}: {reason}")
            return None

    def refuse_existing(self) -> None:
        """Raise CheckpointError if the folder holds a run already, or files of somebody else."""
        if self.is_run:
            hint = f"continue it with --resume {self.path}, add --auto-resume, or choose another --out"
            raise CheckpointError(f"{self.path} already holds a run; {hint}")
        files = (self.environment, self.photographs, self.descriptions, self.taxonomy)
        begun = {DIGESTS, *(file.name for file in files)}  # before there is a config
        names = sorted(entry.name for entry in self.path.iterdir())
        if other := [name for name in names if name not in begun and not name.startswith(".")]:
            rule = f"holds other files ({other[0]}), so it cannot become a run folder"
            raise CheckpointError(f"{self.path} {rule}; choose another --out")

    def refuse_other_settings(self, config: Config) -> None:
        """Raise CheckpointError if the run here has others; those of RESUMABLE may differ."""
        for name, (stored, given) in changed_settings(self.read_config(), config).items():
            if name not in RESUMABLE:
                rule = f"holds a run with {name} {stored}, but {given} was given"
                hint = f"continue it as it is with --resume {self.path}, or choose another --out"
                raise CheckpointError(f"{self.path} {rule}; {hint}")

    def create(self, config: Config, environment: Environment) -> None:
        """Start a new run. Raises OutputError if it cannot be written."""
        make_folder(self.path)
        write_with_digest(self.environment, environment.model_dump_json(indent=2).encode() + b"\n")
        write_with_digest(self.config, dump_config(config).encode())

    def save_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Write the test result, the last file of a run. Raises OutputError."""
        write_with_digest(self.evaluation, json.dumps(evaluation, indent=2).encode() + b"\n")


def format_rows(rows: Iterable[Row]) -> str:
    """The text of `metrics.csv` with these rows; a row without some column has an empty cell."""
    lines = [[row.get(column, "") for column in COLUMNS] for row in rows]
    cells = [[f"{value:.6g}" if isinstance(value, float) else str(value) for value in line] for line in lines]
    return "".join(",".join(line) + "\n" for line in [COLUMNS, *cells])


def read_rows(path: Path) -> list[Row]:
    """The rows of `metrics.csv`; none if there is no file. Raises CheckpointError if it cannot be read.

    A training keeps its rows in its checkpoint and only writes this file.
    """
    if not path.exists():
        return []
    check_digest(path)
    try:
        heading, *lines = [tuple(line.split(",")) for line in path.read_text("utf-8").splitlines()]
        if heading != COLUMNS:
            raise ValueError(f"its columns are not {','.join(COLUMNS)}")
        rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        return [{name: _number(name, text) for name, text in row.items() if text} for row in rows]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({one_line(error)}); restore it from a copy") from None


def training_seconds(rows: Iterable[Row]) -> float:
    """The wall time of all epochs and embedding passes."""
    return sum(float(row.get("seconds") or 0) for row in rows)


def _number(column: str, text: str) -> str | int | float:
    return text if column == "stage" else int(text) if column in ("epoch", "step") else float(text)
