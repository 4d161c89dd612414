"""The run folder: all that repeats a run or continues it.

    environment.json     versions, commit, device, command
    photographs.json     every photograph with its class and its split (data/photo_list.py); of packed shards
                         these are in photographs.idx (data/listed_shards.py)
    descriptions.csv     the sentences about its classes, if it has some (data/descriptions.py)
    taxonomy.csv         the tree above its classes, if it has one (data/taxonomy_file.py)
    config.yaml          every setting, resolved: a folder is a run once it has this file
    metrics.csv          a row for each epoch of each stage; tensorboard/ holds the same
    training.html        a page about the training: curves and the worst classes on validation
    checkpoint.pt        the last state of the training, to resume from
    stage1.safetensors   what stage 1 trained, written when it ends; stage 2 starts from it
    model/               the trained model (inference/saved_model.py)
    predictions-test.csv what was answered about each test photograph (evaluation/answers.py)
    evaluation.json      the test result, written last: a run that has it is finished
    embeddings.parquet   the embeddings of its photographs, if `mpfgvc embed RUN` wrote them
    memory.json          the most memory that its processes had; of a run that `mpfgvc compare` trained

A file that is reloaded has its digest beside it (digests.py). A run is written by one
process only, which has claimed the folder. The tensors are those of training/checkpoint.py.
"""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from mpfgvc.config import Config
from mpfgvc.errors import CheckpointError, OutputError, one_line
from mpfgvc.launcher import Processes
from mpfgvc.progress import say
from mpfgvc.recipes_io import changed_settings, dump_config, load_config
from mpfgvc.run_environment import Environment
from mpfgvc.storage.digests import check_digest, digest_path, write_with_digest
from mpfgvc.storage.folder_claim import claim_folder
from mpfgvc.storage.part_files import remove_leftovers
from mpfgvc.storage.whole_files import make_folder, restore_folder, write_text

RESUMABLE = ("data.root", "data.manifest", "device", "sharding")
"""Settings that may be others when a run goes on: they do not change what is trained."""


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
        for number in itertools.count(1):
            folder = cls(parent / f"{name}-{number}")
            with suppress(FileExistsError):
                folder._make()
                return folder
        raise AssertionError  # the numbers do not end

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
                remove_leftovers(self.path, owned=self._file_names())
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
        check_digest(self.config)
        return load_config(self.config, overrides=overrides)

    def read_environment(self) -> Environment | None:
        """What the run was made with; None, with a note, if that cannot be read."""
        try:
            check_digest(self.environment)
            return Environment.from_dict(json.loads(self.environment.read_bytes()))
        except (OSError, ValueError, RecursionError, CheckpointError) as error:
            if Processes.here().is_first:
                what = "so it is not known whether this machine gives the same bits"
                say(f"{self.environment} cannot be used, {what}: {one_line(error)}")
            return None

    def refuse_existing(self) -> None:
        """Raise CheckpointError if the folder holds a run already, or files of somebody else."""
        if self.is_run:
            hint = f"continue it with --resume {self.path}, add --auto-resume, or choose another --out"
            raise CheckpointError(f"{self.path} already holds a run; {hint}")
        own = self._file_names() | {self.tensorboard.name}
        names = sorted(entry.name for entry in self.path.iterdir())
        if other := [name for name in names if name not in own and not name.startswith(".")]:
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
        write_with_digest(self.environment, _json(environment.to_dict()))
        write_with_digest(self.config, dump_config(config).encode())

    def save_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Write the test result, the last file of a run. Raises OutputError."""
        write_text(self.evaluation, _json(evaluation).decode())

    def _make(self) -> None:
        """Make the folder. Raises FileExistsError if it is there already, OutputError."""
        try:
            self.path.mkdir()
        except FileExistsError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another --out") from None
        self.is_new = True

    def _file_names(self) -> set[str]:
        """Names that only the owner writes."""
        files = (
            self.config,
            self.photographs,
            self.photographs.with_suffix(".idx"),
            self.descriptions,
            self.taxonomy,
            self.environment,
            self.metrics,
            self.training_page,
            self.evaluation,
            self.checkpoint,
            self.stage1,
            *(self.predictions(split) for split in ("train", "validation", "test")),
        )
        return {path.name for file in files for path in (file, digest_path(file))} | {self.model.name}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
