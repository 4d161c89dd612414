"""What one replica of a server on many machines is told, and how it opens its model. No torch, no Ray.

The settings are the `args` of an application in Ray Serve's own file (docs/serve-many.md). serve_many.py
reads them once, before a replica of the model before is touched, and hands them to each replica.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mpfgvc.config import Precision
from mpfgvc.config_values import build
from mpfgvc.deploy.runtime import Runtime, read_description
from mpfgvc.deploy.runtime_model import RuntimeModel, warm_up
from mpfgvc.deploy.served_model import ServedModel
from mpfgvc.deploy.settings import Limits, checked_token
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.inference.model_source import stored_digests
from mpfgvc.storage.digests import file_digest
from mpfgvc.terms import Engine, Source


@dataclass(frozen=True, kw_only=True)
class ManySettings:
    """The model, how it computes, who may ask, and the limits of each replica.

    Raises ConfigError for settings that do not fit the model.
    """

    model: str
    """A run folder, a model folder, hf://user/name@REVISION, or a .onnx file: the same on all machines."""
    device: str = "auto"
    """As --device. Ray shows a replica the GPUs that its ray_actor_options ask for."""
    source: Source | None = None
    """The classifier that answers; None for the model's own."""
    precision: Precision = "fp32"
    engine: Engine | None = None
    """What runs a .onnx file; None for onnxruntime."""
    threads: int | None = None
    """Of a .onnx file; None for as many as the replica has CPUs."""
    token_from: str | None = "MPFGVC_TOKEN"  # noqa: S105  # the name of a variable
    """The variable that holds the token, on every machine; None for a server that anyone may ask."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.is_exported and (self.device not in ("auto", "cpu") or self.precision != "fp32"):
            rule = "device and precision are not for a .onnx file, which runs on the CPU as it was exported"
            raise ConfigError(f"{rule}; leave them out for {self.model}")
        if not self.is_exported and (self.engine, self.threads) != (None, None):
            raise ConfigError(f"engine and threads are for a .onnx file, got {self.model}; leave them out")

    @classmethod
    def read(cls, arguments: Mapping[str, object]) -> "ManySettings":
        """The settings that a file states. Raises ConfigError for an unknown, wrong or missing one."""
        if "model" not in arguments:
            raise ConfigError("model is missing; name a run folder, hf://user/name or a .onnx file in args")
        return build(cls, arguments)

    @property
    def is_exported(self) -> bool:
        """Whether the model is a file of `mpfgvc export`, which needs no torch."""
        return self.model.endswith(".onnx")

    def token(self) -> str | None:
        """The token of this machine. Raises ConfigError if it must have one and has none."""
        if self.token_from is None:
            return None
        if not os.environ.get(self.token_from):
            way_out = "set it before `ray start`, or say token_from: null to let anyone ask"
            raise ConfigError(
                f"token_from must name a variable that is set, got {self.token_from}; {way_out}"
            )
        return checked_token(os.environ[self.token_from])

    def fingerprint(self) -> str:
        """Which model this is: the digests of its files, "" for one without. Nothing is loaded.

        Raises CheckpointError for a model that is missing.
        """
        if not self.is_exported:
            return stored_digests(self.model)
        read_description(Path(self.model))
        return file_digest(Path(self.model))

    def open(self, *, fingerprint: str) -> ServedModel:
        """The model, warm. Raises CheckpointError also if it is not the one that was deployed.

        A replica may start days after the others. If the files were replaced meanwhile, two models would
        answer under one address.
        """
        if (now := self.fingerprint()) != fingerprint:
            reason = f"{self.model} is not what was deployed: its digest was {fingerprint[:8]}, now {now[:8]}"
            raise CheckpointError(f"{reason}; put each model into a folder of its own, and deploy that")
        return self._exported() if self.is_exported else self._trained()

    def _trained(self) -> ServedModel:
        from mpfgvc.deploy import predictor_model
        from mpfgvc.inference.predictor import Predictor

        predictor = Predictor.from_pretrained(
            self.model, device=self.device, source=self.source, precision=self.precision
        )
        model = predictor_model.PredictorModel(predictor)
        predictor_model.warm_up(model)
        return model

    def _exported(self) -> ServedModel:
        engine = self.engine or "onnxruntime"
        model = RuntimeModel(Runtime(self.model, engine=engine, source=self.source, threads=self.threads))
        warm_up(model)
        return model
