"""`mpfgvc serve serve.yaml`: what is refused in one line before Ray is started."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
OURS = "mpfgvc.deploy.serve_many:application"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("applications: [", "serve.yaml is not YAML: while parsing a flow node"),
        ("http_options: {port: 1}", f"must have an application with import_path: {OURS}, got none"),
        ("applications: [{import_path: 'other:app'}]", f"import_path: {OURS}, got none"),
        (f"applications: [{{import_path: '{OURS}', args: 3}}]", "serve.yaml: args must hold settings, got 3"),
        (f"applications: [{{import_path: '{OURS}'}}]", "serve.yaml: model is missing"),
        (
            f"applications: [{{import_path: '{OURS}', args: {{model: no/run, token_from: null}}}}]",
            "serve.yaml: there is no folder no/run",
        ),
        (
            f"applications: [{{import_path: '{OURS}', args: {{model: no/run}}}}]",
            "serve.yaml: token_from must name a variable that is set, got MPFGVC_TOKEN",
        ),
    ],
)
def test_a_file_that_would_not_start_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, line: str
) -> None:
    monkeypatch.delenv("MPFGVC_TOKEN", raising=False)
    file = tmp_path / "serve.yaml"
    file.write_text(content)
    code, stdout, stderr = cli("serve", file)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr


def test_a_missing_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    code, _, stderr = cli("serve", tmp_path / "none.yaml")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "cannot read" in stderr


def test_an_option_that_the_file_says_is_refused(cli: Cli, tmp_path: Path) -> None:
    code, _, stderr = cli("serve", tmp_path / "serve.yaml", "--batch-size", "3")
    assert (code, "--batch-size is not for" in stderr) == (2, True)


def test_without_ray_the_extra_is_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    file = tmp_path / "serve.yaml"
    file.write_text(f"applications: [{{import_path: '{OURS}', args: {{model: {model}, token_from: null}}}}]")
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, stderr = cli("serve", file)
    assert (code, stderr) == (
        2,
        "mpfgvc: serving on many machines needs ray: pip install 'mpfgvc[ray,serve]'\n",
    )
