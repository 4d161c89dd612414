"""`mpfgvc push`: a run to a hub on this machine and back, bit for bit; a refusal leaves one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
import torch
from huggingface_hub import ModelCard
from tests.loopback_hub import ask, environment, serving

from mpfgvc import Config, Predictor, train
from mpfgvc.inference.saved_model import load_model

Cli = Callable[..., tuple[int, str, str]]
FILES = ["README.md", "config.yaml", "digests.json", "model.json", "model.safetensors"]
FRESH = """\
import json, sys
from mpfgvc import Predictor
predictor = Predictor.from_pretrained(sys.argv[1], device="cpu")
answers = [[[guess.label, guess.probability] for guess in predictor(path, top=3)] for path in sys.argv[2:]]
print(json.dumps(answers))
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a hub that this process asks."""
    with serving(tmp_path / "hub") as address:
        ask(monkeypatch, address, tmp_path / "cache")
        yield tmp_path / "hub"


def test_what_was_pushed_answers_the_same_in_a_fresh_process(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path / "hub") as address:
        ask(monkeypatch, address, tmp_path / "cache")
        code, stdout, _ = cli("push", finished, "me/shapes", "--json")
        document = json.loads(stdout)
        assert (code, document["files"], document["changed"]) == (0, FILES, True)
        assert (document["repository"], document["url"]) == ("me/shapes", f"{address}/me/shapes")
        pictures = sorted((photos / "test" / "disc").iterdir())
        words = [sys.executable, "-c", FRESH, "hf://me/shapes", *map(str, pictures)]
        variables = os.environ | environment(address, tmp_path / "fresh") | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    torch.set_num_threads(1)
    predictor = Predictor.from_pretrained(finished, device="cpu")
    expected = [[[guess.label, guess.probability] for guess in predictor(path, top=3)] for path in pictures]
    assert json.loads(done.stdout) == expected


def test_a_second_push_changes_nothing_and_a_dry_run_writes_the_same_and_asks_nobody(
    cli: Cli, hub: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("push", finished, "me/shapes")[0] == 0
    before = {file.name: file.stat().st_mtime_ns for file in (hub / "me" / "shapes").iterdir()}
    code, stdout, _ = cli("push", finished, "hf://me/shapes")
    assert (code, stdout.split()[0]) == (0, "unchanged")
    assert {file.name: file.stat().st_mtime_ns for file in (hub / "me" / "shapes").iterdir()} == before
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN")
    out = tmp_path / "out"
    code, stdout, stderr = cli("push", finished, "me/shapes", "--dry-run", "-o", out, "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout) == {"repository": "me/shapes", "folder": str(out), "files": FILES}
    for name in FILES:
        assert (out / name).read_bytes() == (hub / "me" / "shapes" / name).read_bytes()


def test_the_card_tells_the_counts_and_the_accuracies_of_the_run(cli: Cli, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli("push", finished, "me/shapes", "--dry-run", "-o", out, "--license", "mit", "--dataset", "Shapes")
    card = ModelCard.load(out / "README.md")
    assert (card.data.license, card.data.eval_results[0].dataset_name) == ("mit", "Shapes")
    top1 = json.loads((finished / "evaluation.json").read_text())["top1"]
    assert card.data.eval_results[0].metric_value == pytest.approx(top1, abs=1e-6)
    counts = ["| train | 27 | 9 |", "| validation | 6 | 2 |", "| test | 15 | 5 |"]
    assert {*counts, "cross, disc, stripe"} <= set(card.text.splitlines())
    assert " to " in next(line for line in card.text.splitlines() if line.startswith("| vision |"))


def test_nothing_that_is_pushed_names_a_folder_of_this_machine_and_its_command_trains_the_same(
    cli: Cli, tiny: Callable[..., Config], tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a run whose tower, sentences and taxonomy came from files, which its owner lays beside the settings."""
    own, out, empty = tmp_path / "secret", tmp_path / "out", tmp_path / "empty"
    own.mkdir()
    save_tower(own / "tower.safetensors")
    (own / "words.csv").write_text("class,sentence\ndisc,a round thing\n")
    (own / "tree.csv").write_text("class,kind\ncross,straight\ndisc,round\nstripe,straight\n")
    files = {"model.image_tower.weights": "tower.safetensors", "model.descriptions": "words.csv"}
    settings = {name: str(own / file) for name, file in {**files, "data.taxonomy": "tree.csv"}.items()}
    run = train(tiny({**settings, "stage1.epochs": 1, "stage2.epochs": 1}), out=tmp_path / "run").path
    assert cli("push", run, "me/shapes", "--dry-run", "-o", out)[0] == 0
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
        assert str(photos).encode() not in file.read_bytes(), file.name
    shutil.copytree(own, empty)
    shutil.copy(out / "config.yaml", empty)  # what the first line of the card fetches
    monkeypatch.chdir(empty)
    card = (out / "README.md").read_text()
    assert "which are not in this repository: tower.safetensors, words.csv, tree.csv:" in card
    (command,) = [line for line in card.splitlines() if line.startswith("mpfgvc train")]
    code, stdout, stderr = cli(*command.replace("PHOTOGRAPHS", str(photos)).split()[1:], "--json")
    assert code == 0, stderr
    assert load_model(json.loads(stdout)["run"]).digest == load_model(out).digest == load_model(run).digest


def test_a_run_that_is_not_finished_is_refused(cli: Cli, hub: Path, run: Path) -> None:
    (run / "evaluation.json").unlink()
    hint = f"it has no evaluation.json; finish it with: mpfgvc train --resume {run}"
    assert cli("push", run, "me/shapes") == (2, "", f"mpfgvc: the run {run} is not finished: {hint}\n")
    shutil.rmtree(run / "model")
    assert "has no trained model yet" in cli("push", run, "me/shapes")[2]
    assert not (hub / "me").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["you/shapes"], "cannot push to you/shapes: the token may not write to it; give it the right"),
        (["me"], "a repository of the hub must be user/name, got 'me'"),
        (["me/shapes@main"], "a repository of the hub must be user/name, got 'me/shapes@main'"),
        (["me/shapes", "--dry-run"], "--dry-run needs --out, a new folder for the files"),
        (["me/shapes", "-o", "x"], "--out goes with --dry-run"),
        (["me/shapes", "--dry-run", "-o", "."], ". is not empty; name a new folder with --out"),
    ],
)
def test_what_cannot_be_pushed_is_refused_in_one_line(
    cli: Cli, hub: Path, finished: Path, words: list[str], line: str
) -> None:
    code, stdout, stderr = cli("push", finished, *words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr
    assert not (hub / "me").exists()


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("", "there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_other", "cannot push to me/shapes: the hub refuses the token; log in again with `hf auth login`"),
    ],
)
def test_a_token_that_is_missing_or_refused_is_one_line(
    cli: Cli, hub: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, token: str, line: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(hub / "none"))
    assert cli("push", finished, "me/shapes") == (2, "", f"mpfgvc: {line}\n")
    assert not (hub / "me").exists()


def test_a_public_repository_does_not_take_what_was_meant_to_be_private(cli: Cli, hub: Path, finished: Path) -> None:
    assert cli("push", finished, "me/hidden", "--private")[0] == 0
    assert cli("push", finished, "me/hidden", "--private")[0] == 0
    assert (hub / "me" / "hidden" / ".private").exists()
    (hub / "me" / "open").mkdir()
    code, _, stderr = cli("push", finished, "me/open", "--private")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "me/open is there already and public, so nothing was pushed" in stderr
    assert not list((hub / "me" / "open").iterdir())


def test_an_interrupted_push_leaves_one_line_and_an_empty_repository(finished: Path, tmp_path: Path) -> None:
    arrived, go_on = Event(), Event()

    def wait() -> None:
        arrived.set()
        go_on.wait(60)

    with serving(tmp_path / "hub", on_push=wait) as address:
        variables = os.environ | environment(address, tmp_path / "cache") | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        words = [sys.executable, "-m", "mpfgvc", "push", str(finished), "me/shapes"]
        process = subprocess.Popen(words, env=variables, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts)
        assert arrived.wait(120)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        go_on.set()
    assert (process.returncode, stderr) == (130, "mpfgvc: interrupted; nothing was committed to the hub\n")
    assert not list((tmp_path / "hub" / "me" / "shapes").iterdir())


def _hear_interrupts() -> None:
    """As in a terminal: what a shell runs in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def save_tower(path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    tower = timm.create_model("test_vit", pretrained=False, img_size=48, num_classes=0)
    save_file(tower.state_dict(), path)
