"""`--auto-resume`: the same command starts a training and goes on with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpfgvc import Config, train
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.training import loop


class FailedError(Exception):
    """What stands for a failure here."""


@pytest.fixture
def stopped(tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was started with auto_resume and failed after its first checkpoint."""

    def fail(*_: object) -> None:
        raise FailedError

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_end_epoch", fail)
        with pytest.raises(FailedError):
            train(tiny(), out=tmp_path / "run", auto_resume=True)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    return tmp_path / "run"


def test_the_same_call_starts_goes_on_and_then_has_nothing_left_to_do(
    tiny: Callable[..., Config], stopped: Path, tmp_path: Path
) -> None:
    unbroken = train(tiny(), out=tmp_path / "unbroken")
    run = train(tiny(), out=stopped, auto_resume=True)
    model = run.model_dir / "model.safetensors"
    assert model.read_bytes() == (unbroken.model_dir / "model.safetensors").read_bytes()
    again = train(tiny(), out=stopped, auto_resume=True)
    assert again.metrics is not None
    assert unbroken.metrics is not None
    assert again.metrics.to_dict() == unbroken.metrics.to_dict()


def test_a_run_of_other_settings_is_refused_by_the_first_that_differs(
    tiny: Callable[..., Config], stopped: Path
) -> None:
    before = (stopped / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"holds a run with stage1\.lr 0\.\d+, but 0\.5 was given"):
        train(tiny({"stage1.lr": 0.5}), out=stopped, auto_resume=True)
    assert (stopped / "checkpoint.pt").read_bytes() == before


def test_without_it_a_run_is_not_overwritten_and_the_refusal_names_it(
    tiny: Callable[..., Config], stopped: Path
) -> None:
    with pytest.raises(CheckpointError, match="add --auto-resume"):
        train(tiny(), out=stopped)


def test_it_needs_the_name_of_the_folder(tiny: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="--auto-resume needs --out"):
        train(tiny(), auto_resume=True)
