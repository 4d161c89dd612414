"""What a run was made with is written, read back, and compared in words."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mpfgvc.errors import CheckpointError
from mpfgvc.run_environment import Environment, differences

STORED = Environment(
    command=("mpfgvc", "train"),
    commit="abc",
    device="cpu",
    precision="32-true",
    processes=1,
    threads=2,
    python="3.11.7",
    platform="Linux",
    processor="Fast 9",
    packages={"torch": "2.11.0", "timm": "1.0.24", "numpy": None},
)


def test_what_is_written_is_read_back() -> None:
    assert Environment.from_dict(json.loads(json.dumps(STORED.to_dict()))) == STORED


def test_an_entry_of_another_version_is_passed_over() -> None:
    assert Environment.from_dict(STORED.to_dict() | {"weather": "fine"}) == STORED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "2"),
        ("threads", 0),
        ("threads", True),
        ("processes", 1.5),
        ("precision", None),
        ("command", "mpfgvc train"),
        ("packages", ["torch"]),
        ("packages", {"torch": 2}),
        ("commit", 7),
    ],
)
def test_a_damaged_entry_is_named(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"^the entry {name} is missing or damaged, got "):
        Environment.from_dict(STORED.to_dict() | {name: value})


@pytest.mark.parametrize("name", list(STORED.to_dict()))
def test_a_missing_entry_is_never_filled_with_a_default(name: str) -> None:
    values = STORED.to_dict()
    del values[name]
    with pytest.raises(CheckpointError, match=name):
        Environment.from_dict(values)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_what_is_not_an_object_is_refused(values: object) -> None:
    with pytest.raises(CheckpointError, match="must hold entries by name"):
        Environment.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"threads": 1}, ["threads: 2 then, 1 now"]),
        (
            {"processes": 4, "precision": "bf16-mixed"},
            ["precision: 32-true then, bf16-mixed now", "processes: 1 then, 4 now"],
        ),
        (
            {"processor": "Slow 3", "device": "GPU 1"},
            ["device: cpu then, GPU 1 now", "processor: Fast 9 then, Slow 3 now"],
        ),
        ({"commit": None}, ["commit: abc then, none now"]),
        (
            {"packages": {"torch": "2.12.0", "timm": "1.0.24", "numpy": "2.0"}},
            ["numpy: none then, 2.0 now", "torch: 2.11.0 then, 2.12.0 now"],
        ),
        ({"command": ("python",), "platform": "Linux 7", "python": "3.12.1"}, []),
    ],
)
def test_what_may_change_the_bits_is_said(changes: dict[str, Any], said: list[str]) -> None:
    assert differences(STORED, replace(STORED, **changes)) == said


@pytest.mark.parametrize(
    ("precision", "setting"), [("32-true", "fp32"), ("bf16-mixed", "bf16"), ("bf16-true", "bf16")]
)
def test_the_precision_can_be_asked_for_again(precision: str, setting: str) -> None:
    assert replace(STORED, precision=precision).precision_setting == setting
