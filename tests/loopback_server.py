"""A real server on a loopback port, with a model of a few lines that can be held, for tests of the server."""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from mpfgvc.deploy.app import create_app
from mpfgvc.deploy.served_model import Answer, Explained, PatchEvidence, Pixels
from mpfgvc.deploy.server import address, listen, server_of
from mpfgvc.deploy.settings import Limits
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.answering import ModelFacts
from mpfgvc.inference.calibration import LevelScores, SourceCalibration, softmax
from mpfgvc.inference.guess import Guess

CLASSES = ("red", "green", "blue", "name with \udcff and é")
CALIBRATION = SourceCalibration(
    source="fusion",
    temperature=1.0,
    truth=(0.25,) * 10 + (0.9,) * 90,
    levels=(
        LevelScores(level="class", confidence=(0.6,) * 50 + (0.3,) * 50, right=(True,) * 50 + (False,) * 50),
    ),
)
"""Answers are right from 0.6 on; in 90 % of the cases the right class has at least 0.25."""
BROKEN_PIXEL = (1, 2, 3)
"""A photograph of this color makes the model fail."""


@dataclass
class ColorModel:
    """Which of red, green and blue a photograph mostly is. `free` holds it; `batches` are their sizes."""

    classes: Sequence[str] = CLASSES
    digest: str = "0" * 64
    at_least: tuple[int, int] = (8, 8)
    batches: list[int] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.free.set()

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(name="colors", classes=tuple(self.classes), calibration=CALIBRATION)

    def prepare(self, photograph: Image.Image) -> Pixels:
        return np.asarray(photograph.resize((1, 1)), dtype=np.float32).transpose(2, 0, 1)

    def answers(self, images: Sequence[Pixels]) -> list[Answer]:
        assert self.free.wait(20)
        self.batches.append(len(images))
        colors = [image.reshape(3) for image in images]
        if any(tuple(color.astype(int)) == BROKEN_PIXEL for color in colors):
            raise CheckpointError("the model: its output is not finite; its weights are damaged")
        shares = [np.append(color, 1) / (color.sum() + 1) for color in colors]
        return [
            Answer(logits=np.log(np.maximum(share, 1e-12)).astype(np.float32), embedding=color)
            for share, color in zip(shares, colors, strict=True)
        ]

    def explain(self, photograph: Image.Image, *, top: int) -> Explained:
        (answer,) = self.answers([self.prepare(photograph)])
        (shares,) = softmax(answer.logits[None])
        order = np.argsort(-shares)[:top]
        return Explained(
            guesses=tuple(Guess(label=self.classes[each], probability=float(shares[each])) for each in order),
            kept=((0, 0), (1, 2)),
            attention=np.full((2, 3), 1 / 6, dtype=np.float32),
            chosen_by="attention",
            evidence=PatchEvidence(answer="red", against="green", difference=2.0, change=(0.5, -0.25)),
        )

    def view(self, photograph: Image.Image) -> Image.Image:
        return photograph

    def picture(self, photograph: Image.Image, *, title: str, top: int) -> Image.Image:
        return photograph.resize((30, 20))


@dataclass
class Running:
    """A server that runs: its address, a client, and what it serves."""

    url: str
    client: httpx.Client
    model: ColorModel
    app: FastAPI


@contextmanager
def running(
    model: ColorModel | None = None, *, token: str | None = None, app: FastAPI | None = None, **limits: float
) -> Iterator[Running]:
    """A server until the end of the block, with these settings, or of a whole application."""
    model = model or ColorModel()
    app = app or create_app(model, limits=Limits(**limits), token=token)
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


def photograph(
    color: tuple[int, int, int] | str = "red", size: tuple[int, int] = (32, 24), kind: str = "PNG"
) -> bytes:
    """A picture of one color as a file."""
    content = io.BytesIO()
    Image.new("RGB", size, color).save(content, format=kind)
    return content.getvalue()


def form(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """The files of a request: 0.png, 1.png, ..."""
    return [("photograph", (f"{place}.png", content, "image/png")) for place, content in enumerate(contents)]
