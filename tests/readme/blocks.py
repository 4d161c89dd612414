"""The fenced code blocks of a Markdown page, and the commands of a shell block."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block: the language after its fence, and what is in it."""

    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block; comments are left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    return [Block(match["language"], match["text"]) for match in _FENCE.finditer(page.read_text("utf-8"))]


def columns(line: str) -> list[str]:
    """The shape of a line of output: a word stays as it is, a number becomes #."""
    return [re.sub(r"\d+(\.\d+)?", "#", word) for word in line.split()]
