"""Every code block of README runs, with small photographs and towers in place of large ones.

SUBSTITUTES and SMALL are all that is changed. Expected output is compared in its columns; its numbers and
class names depend on the data.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.readme.blocks import Block, blocks_of, columns
from tests.readme.conftest import REPOSITORY, SETTINGS, SMALL, Python

README = REPOSITORY / "README.md"
BLOCKS = blocks_of(README)
SUBSTITUTES = {
    "/data/CUB_200_2011": "birds",
    '{"data.root": "my_photos/"}': repr({"data.root": "my_photos/"} | SETTINGS | {"data.workers": 1}),
}
"""What stands in README, and what is run in its place: whole words of a command, or parts of a script."""
SERVERS = ("serve", "demo")
"""Commands that do not end; test_serving_page.py starts them."""
SPAWN = 'import multiprocessing\n\nmultiprocessing.set_start_method("spawn", force=True)\n'
BIRDS = [f"--data.birds.{name}" for name in ("species=3", "train=4", "test=2", "image_size=48")]


def test_the_commands_run_in_the_order_of_the_page(mpfgvc: Callable[[list[str]], str]) -> None:
    commands = [_small(words[1:]) for block in BLOCKS for words in _shell(block) if words[0] == "mpfgvc"]
    outputs = [mpfgvc(words) for words in commands if words[0] not in SERVERS]
    trained = next(output for output in outputs if "run folder" in output)
    shapes = [columns(line) for line in trained.splitlines()]
    for line in _output_after(_only("make demo")):
        assert columns(line) in shapes


@pytest.mark.slow("starts another Python, which starts two")
@pytest.mark.timeout(600)
def test_torchrun_starts_the_same_training(python: Python, mpfgvc: Callable[[list[str]], str]) -> None:
    mpfgvc(["data", "synthesize", "--out", "birds", *BIRDS])
    ((_, *words),) = [words for block in BLOCKS for words in _shell(block) if words[0] == "torchrun"]
    done = python(["-m", "torch.distributed.run", *_small(words)])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run folder") == 1


@pytest.mark.slow("starts another Python, which starts two")
@pytest.mark.timeout(600)
def test_the_script_runs_where_processes_are_spawned(python: Python, workshop: Path) -> None:
    (workshop / "script.py").write_text(SPAWN + _script())
    done = python(["script.py"])
    assert done.returncode == 0, done.stderr[-2000:]
    printed, expected = done.stdout.splitlines(), _output_after(_only("from mpfgvc import"))
    assert columns(printed[0]) == columns(expected[0])
    assert [columns(line)[-1] for line in printed] == [columns(line)[-1] for line in expected]


@pytest.mark.slow("starts another Python, which starts two")
@pytest.mark.timeout(600)
def test_a_script_without_the_guard_is_told_to_have_one(python: Python, workshop: Path) -> None:
    guard = re.compile(r"^if __name__ .*$", re.MULTILINE)
    (workshop / "script.py").write_text(SPAWN + guard.sub("if True:", _script()))
    done = python(["script.py"])
    raised = [line for line in done.stderr.splitlines() if line.startswith("mpfgvc.errors.")]
    assert done.returncode == 1
    assert len(raised) == 2
    assert all("put the script's calls under if __name__ ==" in line for line in raised)


def test_the_installation_takes_the_versions_that_were_tested() -> None:
    installations = [words for block in BLOCKS for words in _shell(block) if words[0] == "pip"]
    assert installations == [["pip", "install", "--constraint", "constraints.txt", "."]]
    assert (REPOSITORY / "constraints.txt").is_file()


def test_make_knows_every_target_and_installs_with_the_same_versions() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = [words[1] for block in BLOCKS for words in _shell(block) if words[0] == "make"]
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert "--constraint constraints.txt" in makefile
    assert "make test-all" in (REPOSITORY / ".ci" / "run").read_text()


def test_no_block_is_left_without_a_rule() -> None:
    assert {block.language for block in BLOCKS} == {"bash", "python", "text"}
    programs = {words[0] for block in BLOCKS for words in _shell(block)}
    assert programs <= {"make", "pip", "mpfgvc", "torchrun"}
    before = [BLOCKS[place - 1] for place, block in enumerate(BLOCKS) if block.language == "text"]
    assert before == [_only("make demo"), _only("from mpfgvc import")]


def test_the_pages_lines_pictures_and_links_are_in_order() -> None:
    text = README.read_text("utf-8")
    assert [line for line in text.splitlines() if len(line) > 120] == []
    targets = re.findall(r"\]\(\s*(?!https:)([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []
    assert (REPOSITORY / "docs" / "why.png").stat().st_size < 150_000


def _shell(block: Block) -> list[list[str]]:
    return block.commands if block.language == "bash" else []


def _small(command: list[str]) -> list[str]:
    """The words of a command, with what stands in for large things."""
    words = [SUBSTITUTES.get(word, word) for word in command]
    trains = "train" in words and not {"--resume", "--help"} & set(words)
    return [*words, *(SMALL if trains else [])]


def _only(start: str) -> Block:
    """The only block that begins with these words."""
    (block,) = [block for block in BLOCKS if block.text.startswith(start)]
    return block


def _script() -> str:
    """README's script, its settings made small."""
    script = _only("from mpfgvc import").text
    (large,) = [text for text in SUBSTITUTES if text in script and "{" in text]
    return script.replace(large, SUBSTITUTES[large])


def _output_after(block: Block) -> list[str]:
    """The lines of the output block behind a block."""
    output = BLOCKS[BLOCKS.index(block) + 1]
    assert output.language == "text"
    return output.text.splitlines()
