"""Each sign is said where it is there, once, with the setting to change, and not elsewhere."""

from dataclasses import replace

import pytest

from mpfgvc.config import StageConfig
from mpfgvc.processes import core_count
from mpfgvc.training.signs import EarlySigns, EpochFacts

SETTINGS = StageConfig(epochs=8, batch_size=8, lr=1e-3, warmup_epochs=1.0)
FINE = EpochFacts(
    stage="stage1",
    epoch=3,
    first_loss=2.0,
    loss=1.2,
    accuracy=0.7,
    predicted=(30, 25, 35),
    waited=1.0,
    seconds=60.0,
    steps=12,
)


def said(*epochs: EpochFacts, settings: StageConfig = SETTINGS, workers: int = 0) -> list[str]:
    lines: list[str] = []
    signs = EarlySigns(classes=("auk", "tern", "wren"), photographs=(30, 30, 4), workers=workers, tell=lines.append)
    for facts in epochs:
        signs.look(facts, settings)
    assert lines == list(signs.said.values())
    return lines


def test_a_healthy_epoch_says_nothing() -> None:
    assert said(FINE, replace(FINE, stage="stage2"), replace(FINE, epoch=1)) == []


def test_a_class_that_is_never_predicted_is_named_once() -> None:
    never = replace(FINE, predicted=(60, 0, 30))
    (line,) = said(never, never, replace(never, epoch=4))
    assert line.startswith("stage1, epoch 3: classes that are never predicted: 1 of 3 (tern); ")
    assert "mpfgvc data check" in line
    assert "stage1.class_weights to balanced" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 2},  # the warm-up and one epoch more
        {"predicted": (45, 45, 0)},  # 0.3 ** 4 is no rare chance
        {"accuracy": 0.1},  # hardly anything is learned yet
        {"predicted": None},  # resumed in the middle of the epoch
        {"stage": "features"},
    ],
)
def test_a_class_may_be_missing_for_a_harmless_reason(changes: dict[str, object]) -> None:
    assert said(replace(replace(FINE, predicted=(60, 0, 30)), **changes)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "way"),
    [(2.5, "; lower stage1.lr and stage1.tower_lr (stage1.lr is 0.001)"), (1.99, "; try ten times more, or less")],
)
def test_a_loss_that_does_not_fall_names_the_rate(loss: float, way: str) -> None:
    (line,) = said(replace(FINE, loss=loss, accuracy=0.2, first_loss=2.0))
    assert line.startswith(f"stage1: the loss does not fall, 2 in epoch 1 and {loss:g} in epoch 3")
    assert way in line


@pytest.mark.parametrize("changes", [{"accuracy": 0.74}, {"loss": 1.9}, {"epoch": 2}, {"first_loss": None}])
def test_a_loss_may_stay_for_a_harmless_reason(changes: dict[str, object]) -> None:
    flat = replace(FINE, loss=2.0, accuracy=0.73, predicted=None)
    assert len(said(flat)) == 1  # naming the largest class would give 30 / 64
    assert said(replace(flat, **changes)) == []  # type: ignore[arg-type]


def test_a_loader_slower_than_the_model_names_the_workers_or_the_photographs() -> None:
    slow = replace(FINE, waited=45.0, epoch=1)
    (line,) = said(slow)
    assert line.startswith("stage1 waits for photographs 75 % of its time; set data.workers higher: it is 0")
    (line,) = said(slow, workers=core_count())
    assert "store smaller photographs" in line


@pytest.mark.parametrize("changes", [{"seconds": 91.0}, {"waited": 9.0, "seconds": 10.0}, {"steps": 3}])
def test_a_short_wait_is_no_sign(changes: dict[str, object]) -> None:
    assert said(replace(replace(FINE, waited=45.0), **changes)) == []  # type: ignore[arg-type]
