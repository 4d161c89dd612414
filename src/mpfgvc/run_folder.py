"""The run folder: all that repeats a run or continues it.

    config.yaml          every setting, resolved
    environment.json     versions, commit, device, command
    metrics.csv          a row for each epoch of each stage; tensorboard/ holds the same and more
    checkpoint.pt        the last state of the training, to resume from
    stage1.safetensors   what stage 1 trained, written when it ends; stage 2 starts from it
    model/               the trained model (inference/saved_model.py)
    evaluation.json      the test result, written last: a run that has it is finished

This file knows their names and the config; the tensors are those of training/checkpoint.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mpfgvc.config import Config
from mpfgvc.config_io import dump_config, load_config
from mpfgvc.errors import CheckpointError
from mpfgvc.storage import make_folder, write_text


class RunFolder:
    """The paths of one run. `open` asks whether it is one."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.model = self.path / "model"
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.evaluation = self.path / "evaluation.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.stage1 = self.path / "stage1.safetensors"

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that was started. Raises CheckpointError for any other folder."""
        folder = cls(path)
        if not folder.is_run:
            rule = "is no run folder: it has no config.yaml"
            raise CheckpointError(f"{folder.path} {rule}; give the --out of a training")
        return folder

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.config.is_file()

    def read_config(self, overrides: Mapping[str, Any] | None = None) -> Config:
        """The settings of the run, with `overrides` on top. Raises ConfigError."""
        return load_config(self.config, overrides=overrides)

    def refuse_existing(self) -> None:
        """Raise CheckpointError if the folder holds a run already."""
        if self.is_run:
            hint = f"continue it with --resume {self.path}, or choose another --out"
            raise CheckpointError(f"{self.path} already holds a run; {hint}")

    def create(self, config: Config, environment: Mapping[str, Any]) -> None:
        """Start a new run. Raises OutputError if it cannot be written."""
        make_folder(self.path)
        write_text(self.environment, json.dumps(environment, indent=2) + "\n")
        write_text(self.config, dump_config(config))

    def save_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Write the test result, the last file of a run. Raises OutputError."""
        write_text(self.evaluation, json.dumps(evaluation, indent=2) + "\n")
