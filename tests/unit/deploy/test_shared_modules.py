"""The modules that mpfgvc-runtime takes from this package: a closed list, and one that needs no torch."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCE, RUNTIME = REPOSITORY / "src" / "mpfgvc", REPOSITORY / "runtime"
FOREIGN = ("torch", "torchvision", "timm", "open_clip", "lightning_fabric", "tqdm", "rich", "yaml", "mpfgvc")
"""What a machine with mpfgvc-runtime alone does not have."""


def _shared() -> list[Path]:
    """The files of the list in hatch_build.py, which itself needs hatchling."""
    tree = ast.parse((RUNTIME / "hatch_build.py").read_text("utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    (names,) = (ast.literal_eval(node.value) for node in assigned if node.targets[0].id == "SHARED")  # type: ignore[attr-defined]
    paths = [SOURCE / name for name in names]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the wheel holds it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(RUNTIME / "src", folder, dirs_exist_ok=True)
    for file in _shared():
        target = folder / "mpfgvc_runtime" / file.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return folder


def test_no_shared_module_imports_anything_beyond_the_list() -> None:
    shared = {file.resolve() for file in _shared()}
    for file in shared:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] in FOREIGN for alias in node.names), file
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] not in FOREIGN, file
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = file.parents[node.level - 1]
                base = folder.joinpath(*(node.module or "").split(".")) if node.module else folder
                targets = [base / f"{alias.name}.py" for alias in node.names] if base.is_dir() else []
                for target in targets or [base.with_suffix(".py")]:
                    assert target.resolve() in shared, f"{file} imports {target}"


def test_the_runtime_works_where_only_its_own_packages_are(installed: Path, tmp_path: Path) -> None:
    program = f"""
import sys
for name in {FOREIGN!r}:
    sys.modules[name] = None
import mpfgvc_runtime
from mpfgvc_runtime.cli.runtime_command import main
assert sorted(mpfgvc_runtime.__all__) == mpfgvc_runtime.__all__
assert all(hasattr(mpfgvc_runtime, name) for name in mpfgvc_runtime.__all__)
sys.exit(main(["describe", "none.onnx"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "mpfgvc: cannot read none.onnx: No such file or directory; check the path\n"
    assert done.returncode == 2
