"""docs/serving.md: its commands start servers, its calls are answered, and its tables are the truth."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from tests.readme.blocks import Block, blocks_of, columns
from tests.readme.conftest import REPOSITORY, SMALL, Python
from tests.readme.test_readme import README

from mpfgvc.deploy.server.settings import Limits

PAGE = REPOSITORY / "docs" / "serving.md"
BLOCKS = blocks_of(PAGE)
ADDRESS = "http://127.0.0.1:8000"
SERVERS = [
    words
    for page in (PAGE, README)
    for block in blocks_of(page)
    if block.language == "bash"
    for words in block.commands
    if words[:2] in (["mpfgvc", "serve"], ["mpfgvc", "demo"])
]


@pytest.fixture
def trained(mpfgvc: Callable[[list[str]], str], workshop: Path) -> Path:
    mpfgvc(["train", "--data.root", "my_photos/", "--out", "runs/mushrooms", *SMALL])
    (workshop / "other.jpg").write_bytes((workshop / "photo.jpg").read_bytes())
    return workshop


def start(words: list[str], folder: Path) -> tuple[str, "subprocess.Popen[str]"]:
    """A server of these words on a free port of this machine: the line that it prints, and its process."""
    changed = ["127.0.0.1" if word == "0.0.0.0" else word for word in words[1:]]  # noqa: S104
    process = subprocess.Popen(
        [sys.executable, "-m", "mpfgvc", *changed, "--port", "0", "--device", "cpu"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    return process.stdout.readline(), process


@pytest.mark.slow("starts servers and another Python")
@pytest.mark.timeout(600)
def test_the_servers_start_and_the_calls_are_answered(trained: Path, python: Python) -> None:
    assert {words[1] for words in SERVERS} == {"serve", "demo"}
    line, process = start(SERVERS[0], trained)
    try:
        (expected,) = [block.text for block in BLOCKS if block.language == "text"]
        url = line.split()[1]
        assert columns(line) == columns(expected)
        transport = httpx.HTTPTransport(retries=100)
        httpx.Client(transport=transport, trust_env=False).get(f"{url}/health")
        answers = [_called(words, url, trained) for words in _only("curl -F").commands]
        assert list(json.loads(answers[0])) == list(json.loads(_only('{"digest"').text))
        assert len(json.loads(answers[1])["photographs"]) == 2
        assert (trained / "why.png").read_bytes().startswith(b"\x89PNG")
        (trained / "ask.py").write_text(_only("import time").text.replace(ADDRESS, url))
        done = python(["ask.py"])
        assert done.stdout.strip() in ("bolete", "chanterelle", "morel"), done.stderr
    finally:
        process.kill()
        process.communicate()


def test_the_table_of_limits_is_that_of_the_settings() -> None:
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| ([\d.]+) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    usual = asdict(Limits())
    del usual["decoders"]
    assert rows == {name.replace("_", "-"): f"{value:g}" for name, value in usual.items()}


def _called(words: list[str], url: str, folder: Path) -> str:
    done = subprocess.run(
        [word.replace(ADDRESS, url) for word in words] + ["--noproxy", "*", "-sS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def _only(start: str) -> Block:
    (block,) = [block for block in BLOCKS if block.text.startswith(start)]
    return block
