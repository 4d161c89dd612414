"""The pages of the documentation site, put together in build/docs for MkDocs or Zensical (mkdocs.yml).

They are written where they belong: in docs/, RESULTS.md and others of the repository. This script copies
them, turns links between files into links between pages, and fills in what must not go stale: the help of
every command and every recipe. A link to a file that is no page, such as source code, becomes plain text.

    python docs/build.py
"""

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

from mpfgvc.cli.main import COMMANDS, main

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = REPOSITORY / "build" / "docs"
ELSEWHERE = {
    "RESULTS.md": "results.md",
    "benchmarks/README.md": "measurements.md",
    "benchmarks/LOG.md": "log.md",
    "pretraining/CARD.md": "towers.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files outside docs/ that are pages, and the names of the pages."""
PICTURES = (".png", ".svg", ".jpg")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)")


def pages() -> dict[Path, str]:
    """Each file that is a page, and the name of its page."""
    own = {path: path.name for path in sorted((REPOSITORY / "docs").glob("*.md"))}
    return own | {REPOSITORY / path: name for path, name in ELSEWHERE.items()}


def build(target: Path) -> None:
    """Write all pages and their pictures into a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for sheet in (REPOSITORY / "docs").glob("*.css"):
        shutil.copy(sheet, target)
    for source, name in pages().items():
        parts = _FENCE.split(source.read_text("utf-8"))
        parts[::2] = [_LINK.sub(partial(_link, source=source, target=target), part) for part in parts[::2]]
        text = "".join(parts)
        if "<!-- commands -->" in text:
            text = text.replace("<!-- commands -->", "\n".join(_commands()))
        if "<!-- recipes -->" in text:
            text = text.replace("<!-- recipes -->", "\n".join(_recipes()))
        (target / name).write_text(text, "utf-8")


def _link(link: re.Match[str], *, source: Path, target: Path) -> str:
    """A link as it is on the site; pictures are copied there."""
    text, address = link["text"], link["target"]
    path, _, anchor = address.partition("#")
    if "://" in address or not path:
        return link[0]
    file = (source.parent / path).resolve()
    known = pages() | {REPOSITORY / "README.md": "index.md"}
    if file in known:
        return f"{text}({known[file]}{'#' + anchor if anchor else ''})"
    if file.suffix in PICTURES:
        shutil.copyfile(file, target / file.name)
        return f"{text}({file.name})"
    return text.strip("[]")


def _commands() -> Iterator[str]:
    for name in COMMANDS:
        yield f"## mpfgvc {name}\n\n```text\n{_help(name.split()).rstrip()}\n```\n"


def _help(words: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([*words, "--help-all" if words == ["train"] else "--help"])
    return printed.getvalue()


def _recipes() -> Iterator[str]:
    """Each recipe under its name, with the ablations at the end."""
    folder = Path(str(files("mpfgvc"))) / "recipes"
    for path in [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]:
        name = path.relative_to(folder).with_suffix("").as_posix()
        yield f"## {name}\n\n```yaml\n{path.read_text('utf-8').rstrip()}\n```\n"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "82"  # a help is as wide as a page at 1280 pixels
    if sys.argv[1:]:
        sys.exit("docs/build.py takes no words: it writes build/docs")
    build(TARGET)
