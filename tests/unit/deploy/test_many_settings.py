"""What a replica is told: read strictly, and refused before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpfgvc.deploy.many_settings import ManySettings
from mpfgvc.errors import CheckpointError, ConfigError
from mpfgvc.storage.digests import write_with_digest


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that looks like a saved model from outside."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_with_digest(folder / "model.safetensors", b"weights")
    write_with_digest(folder / "model.json", b"{}")
    return folder


def test_settings_are_read_by_their_type() -> None:
    settings = ManySettings.read({"model": "runs/x", "device": "cpu", "limits": {"queue": 7, "wait": 2}})
    assert (settings.model, settings.device, settings.token_from) == ("runs/x", "cpu", "MPFGVC_TOKEN")
    assert (settings.limits.queue, settings.limits.wait, settings.limits.batch_size) == (7, 2.0, 32)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "model is missing; name a run folder"),
        ({"model": 3}, "model must not be empty|model must be text, got 3"),
        ({"model": "x", "modle": "y"}, "unknown setting modle; did you mean model"),
        ({"model": "x", "limits": {"que": 1}}, "unknown setting limits.que"),
        ({"model": "x", "limits": {"queue": 0}}, "--queue must be at least 1, got 0"),
        ({"model": "x", "limits": {"queue": "7"}}, "limits.queue must be a whole number, got 7"),
        ({"model": "x", "limits": 7}, "limits must hold settings of its own, got 7"),
        ({"model": "x", "threads": 2}, "engine and threads are for a .onnx file, got x"),
        ({"model": "x.onnx", "device": "cuda"}, "leave them out for x.onnx"),
        ({"model": "x", "source": "sound"}, "source must be one of fusion, vision, text or null, got sound"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as refused:
        ManySettings.read(arguments)
    assert "\n" not in str(refused.value)


def test_a_server_without_its_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPFGVC_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="must name a variable that is set, got MPFGVC_TOKEN; set it"):
        ManySettings.read({"model": "x"}).token()
    monkeypatch.setenv("OTHER", "long-enough")
    assert ManySettings.read({"model": "x", "token_from": "OTHER"}).token() == "long-enough"
    assert ManySettings.read({"model": "x", "token_from": None}).token() is None
    monkeypatch.setenv("OTHER", "short")
    with pytest.raises(ConfigError, match="at least 8 printable ASCII characters"):
        ManySettings.read({"model": "x", "token_from": "OTHER"}).token()


def test_a_model_that_changed_since_it_was_deployed_is_refused(saved: Path) -> None:
    settings = ManySettings(model=str(saved))
    before = settings.fingerprint()
    assert len(before.split()) == 2
    write_with_digest(saved / "model.json", b'{"calibration": 1}')
    with pytest.raises(CheckpointError, match=r"is not what was deployed: its digest was .* and deploy that"):
        settings.open(fingerprint=before)
    write_with_digest(saved / "model.json", b"{}")
    assert settings.fingerprint() == before


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        ManySettings(model=str(tmp_path / "none")).fingerprint()
    with pytest.raises(CheckpointError, match=r"none\.onnx"):
        ManySettings(model=str(tmp_path / "none.onnx")).fingerprint()


def test_a_file_is_deployed_and_a_refusal_said_without_torch(saved: Path) -> None:
    program = f"""
import sys
from mpfgvc.deploy.many_settings import ManySettings
ManySettings.read({{"model": {str(saved)!r}, "token_from": None}}).fingerprint()
assert "torch" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)
