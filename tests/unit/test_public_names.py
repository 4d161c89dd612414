"""The public names of the package: one table, and no import before they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mpfgvc


def test_types_and_star_imports_list_the_names_that_can_be_looked_up() -> None:
    tree = ast.parse(Path(mpfgvc.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    (modules,) = (ast.literal_eval(table) for table in tables if isinstance(table, ast.Dict))
    homes = {name: f"mpfgvc.{module}" for module, names in modules.items() for name in names}
    assert homes == imported
    assert sorted(mpfgvc.__all__) == sorted(homes)


@pytest.mark.parametrize("name", mpfgvc.__all__)
def test_each_name_is_what_it_says(name: str) -> None:
    assert getattr(mpfgvc, name).__name__ == name


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        mpfgvc.Predicter  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mpfgvc; print({'torch', 'timm', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
