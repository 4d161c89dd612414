"""The documentation site: its pages are put together from the repository, and every link leads somewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import markdown
import pytest
import yaml
from tests.readme.conftest import REPOSITORY

import mpfgvc
from mpfgvc.cli.main import COMMANDS
from mpfgvc.config import SETTINGS

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as docs/build.py writes them."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    _builder().build(folder)
    return folder


def test_every_link_leads_to_a_page_a_heading_or_a_picture(site: Path) -> None:
    broken = [
        f"{page.name}: {target}"
        for page in sorted(site.glob("*.md"))
        for target in LINK.findall(FENCE.sub("", page.read_text("utf-8")))
        if "://" not in target and not _leads_somewhere(page, target)
    ]
    assert broken == []


def test_every_link_of_a_source_leads_to_a_file(site: Path) -> None:
    """As the repository is read without a site."""
    for source in (*_builder().pages(), REPOSITORY / "README.md"):
        text = FENCE.sub("", source.read_text("utf-8"))
        targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
        missing = [target for target in targets if target and not (source.parent / target).exists()]
        assert missing == [], source.name


def test_the_navigation_lists_every_page_and_no_other(site: Path) -> None:
    settings = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))
    listed = list(_names(settings["nav"]))
    there = {page.name for page in site.glob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_the_pages_have_the_help_of_every_command_and_setting_and_every_recipe(site: Path) -> None:
    commands, recipes = ((site / name).read_text("utf-8") for name in ("commands.md", "recipes.md"))
    for command in COMMANDS:
        assert f"\n## mpfgvc {command}\n\n```text\nusage: mpfgvc {command} [-h]" in commands
    assert [name for name in SETTINGS if f"--{name}" not in commands] == []
    for path in (Path(mpfgvc.__file__).parent / "recipes").rglob("*.yaml"):
        assert path.read_text("utf-8").rstrip() in recipes


def test_the_python_page_has_every_public_name() -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text("utf-8")
    assert sorted(re.findall(r"^::: mpfgvc\.(\w+)$", text, re.MULTILINE)) == sorted(mpfgvc.__all__)


@pytest.mark.slow("starts servers and another Python")
def test_the_site_builds_without_a_warning(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    settings = (REPOSITORY / "mkdocs.yml").read_text("utf-8").replace("build/docs", str(site))
    (tmp_path / "mkdocs.yml").write_text(settings.replace("[src]", f"[{REPOSITORY / 'src'}]"))
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "out")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "from_pretrained" in (tmp_path / "out" / "api.html").read_text("utf-8")


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", REPOSITORY / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return file.is_file() and (not anchor or anchor in _anchors(file))


def _anchors(page: Path) -> set[str]:
    """The anchors that MkDocs gives the headings of a page."""
    html = markdown.markdown(page.read_text("utf-8"), extensions=["toc", "tables", "fenced_code"])
    return set(re.findall(r'<h\d id="([^"]+)"', html))


def _names(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [name for value in values for name in _names(value)]  # type: ignore[attr-defined]
