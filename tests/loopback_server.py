"""A real server on a loopback port, with a model of a few lines that can be held, for tests of the server."""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.deploy.server.app import create_app
from mpfgvc.deploy.server.run import address, listen, server_of
from mpfgvc.deploy.server.settings import Limits
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.answering import Calibration, LevelScores, ModelFacts, SourceCalibration
from mpfgvc.inference.backends import Outputs, Pixels
from mpfgvc.inference.explain import Explanation
from mpfgvc.inference.predictor import Predictor

CLASSES = ("red", "green", "blue", "name with \udcff and é")
CALIBRATION = SourceCalibration(
    source="fusion",
    temperature=1.0,
    truth=(0.25,) * 10 + (0.9,) * 90,
    levels=(LevelScores(level="class", confidence=(0.6,) * 50 + (0.3,) * 50, right=(True,) * 50 + (False,) * 50),),
)
"""Answers are right from 0.6 on; in 90 % of the cases the right class has at least 0.25."""
BROKEN_PIXEL = (1, 2, 3)
"""A photograph of this color makes the model fail."""


class ColorModel(Predictor):
    """Which of red, green and blue a photograph mostly is. `free` holds it; `batches` are their sizes."""

    def __init__(self, classes: Sequence[str] = CLASSES) -> None:
        calibration = Calibration(photographs="a test", sources=(CALIBRATION,))
        facts = ModelFacts(name="colors", classes=tuple(classes), digest="0" * 64, calibration=calibration)
        super().__init__(Colors(facts))

    @property
    def batches(self) -> list[int]:
        return self.backend.batches  # type: ignore[attr-defined]

    @property
    def free(self) -> threading.Event:
        return self.backend.free  # type: ignore[attr-defined]

    def explain(self, image: Image.Image, *, top: int = 3) -> Explanation:  # type: ignore[override]
        return Explanation(
            image=image,
            guesses=self(image, top=top),
            kept=[(0, 0), (1, 2)],
            attention=np.full((2, 3), 1 / 6, dtype=np.float32),
            answer="red",
            against="green",
            difference=2.0,
            change=[0.5, -0.25],
        )


@dataclass
class Colors:
    """The backend of a ColorModel."""

    facts: ModelFacts
    preprocessing = Preprocessing(image_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    width, how, on_cpu = 3, "fp32", True
    batches: list[int] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.free.set()

    def prepare(self, photograph: Image.Image) -> Pixels:
        return np.asarray(photograph.resize((1, 1)), dtype=np.float32).reshape(3)

    def run(self, pixels: Pixels, names: Sequence[str]) -> Outputs:
        assert self.free.wait(20)
        self.batches.append(len(pixels))
        if any(tuple(color.astype(int)) == BROKEN_PIXEL for color in pixels):
            raise CheckpointError("the model: its output is not finite; its weights are damaged")
        shares = np.array([np.append(color, 1) / (color.sum() + 1) for color in pixels])
        logits = np.log(np.maximum(shares, 1e-12)).astype(np.float32)
        return Outputs(logits, logits, logits, pixels, np.zeros((len(pixels), 2), dtype=np.int64))

    def trained(self) -> Any:
        return self


@dataclass
class Running:
    """A server that runs: its address, a client, and what it serves."""

    url: str
    client: httpx.Client
    model: ColorModel
    app: FastAPI


@contextmanager
def running(
    model: ColorModel | None = None,
    *,
    token: str | None = None,
    origins: Sequence[str] = (),
    app: FastAPI | None = None,
    **limits: float,
) -> Iterator[Running]:
    """A server until the end of the block, with these settings, or of a whole application."""
    model = model or ColorModel()
    app = app or create_app(model, limits=Limits(**limits), token=token, origins=origins)
    bound = listen("127.0.0.1", 0)
    server = server_of(app, stop_seconds=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    url = address(bound)
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Running(url, client, model, app)
    finally:
        model.free.set()
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def free_port() -> int:
    """A port of this machine that nobody has now, for a server that must be told one."""
    with listen("127.0.0.1", 0) as bound:
        port: int = bound.getsockname()[1]
        return port


def photograph(color: tuple[int, int, int] | str = "red", size: tuple[int, int] = (32, 24), kind: str = "PNG") -> bytes:
    """A picture of one color as a file."""
    content = io.BytesIO()
    Image.new("RGB", size, color).save(content, format=kind)
    return content.getvalue()


def form(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """The files of a request: 0.png, 1.png, ..."""
    return [("photograph", (f"{place}.png", content, "image/png")) for place, content in enumerate(contents)]
