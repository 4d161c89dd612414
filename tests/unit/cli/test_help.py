"""The commands, their help, and that neither help nor a refusal imports torch."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from mpfgvc.cli import train
from mpfgvc.cli.main import COMMANDS
from mpfgvc.config import SETTINGS

Cli = Callable[..., tuple[int, str, str]]
REFUSED = [
    ["train", "--data.rot", "x"],
    ["train", "--model.kept_tokens", "0", "--data.root", "x"],
    ["train", "--data.dataset", "folder"],
    ["train", "--config", "cubs"],
    ["predict", "run", "photos", "--top", "0"],
    ["explain", "run", "-o", "why.jpg"],
    ["data", "synthesize", "--out", "x", "--seed", "5"],
    ["evaluate"],
]
HELP = [
    ["--help"],
    ["data", "--help"],
    ["train", "--help-all"],
    *[[*command.split(), "--help"] for command in COMMANDS],
]


def test_the_list_of_commands_imports_nothing_and_no_help_or_refusal_imports_torch() -> None:
    code = (
        "import sys; from mpfgvc.cli.main import main\n"
        f"codes = {{main(['--help']), main(['--version'])}}\n"
        "at_first = {'numpy', 'PIL', 'pydantic', 'tqdm', 'yaml'} & set(sys.modules)\n"
        f"codes = codes, {{main(words) for words in {HELP!r}}}, {{main(words) for words in {REFUSED!r}}}\n"
        "heavy = {'torch', 'timm', 'open_clip', 'lightning_fabric'} & set(sys.modules)\n"
        "print(codes, at_first | heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "({0}, {0}, {2}) set()"


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_every_command_has_a_help(cli: Cli, words: list[str]) -> None:
    code, stdout, stderr = cli(*words)
    assert (code, stderr) == (0, "")
    command = " ".join(word for word in words if not word.startswith("--"))
    assert stdout.startswith(f"usage: mpfgvc {command}".rstrip())


def test_the_help_of_train_explains_the_settings_that_most_need_and_names_the_way_to_all(cli: Cli) -> None:
    short, full = cli("train", "--help")[1], cli("train", "--help-all")[1]
    for name in SETTINGS:
        assert f"  --{name}   " in full
    assert "  --model.kept_tokens   a whole number or null; default: 49\n" in short
    assert "Patches of each image that reach the last block" in " ".join(short.split())
    assert "--data.augment.flip" not in short
    assert "  --data.augment.flip   a number; default: 0.5\n" in full
    assert "mpfgvc train --help-all" in short


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict", "run", "x", "--topp", "3"], "unknown option --topp; did you mean --top?"),
        (["evaluate", "run", "--frob"], "unknown option --frob; see mpfgvc evaluate --help"),
        (["evaluate", "run", "more"], "unknown option more; see mpfgvc evaluate --help"),
        (["--json", "evaluate", "run"], "--json belongs behind the command: mpfgvc evaluate ... --json"),
        (["--device=cpu", "train"], "--device belongs behind the command: mpfgvc train ... --device"),
        (["--seed=1", "train"], "--seed belongs behind the command: mpfgvc train ... --seed"),
        (["data", "--quick", "check"], "--quick belongs behind the command: mpfgvc data check ... --quick"),
        (["train", "--conifg=cub"], "unknown option --conifg=cub; did you mean --config?"),
        (["predict"], "the following arguments are required: MODEL, PHOTO; see mpfgvc predict --help"),
        (["predcit"], "invalid choice: 'predcit'"),
        ([], "the following arguments are required: COMMAND; see mpfgvc --help"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(cli: Cli, words: list[str], line: str) -> None:
    code, stdout, stderr = cli(*words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr


def test_only_the_first_process_speaks_and_the_others_skip_what_they_cannot_share(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert cli("predict", "no run", "no photo") == (0, "", "")
    assert cli("train", "--seed", "x") == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    assert cli("train", "--seed", "x")[2] == "mpfgvc: seed must be a whole number, got x\n"


def test_a_bug_shows_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(train, "COMMAND", replace(train.COMMAND, run=fail))
    with pytest.raises(RuntimeError, match="a bug"):
        cli("train")
