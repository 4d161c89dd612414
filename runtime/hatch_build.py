"""Put the modules that mpfgvc and its runtime share into the runtime, as they are.

They live in src/mpfgvc and import each other relatively, so the same files work under both names and nothing
is written twice. A test of mpfgvc checks that this list is closed: none of them imports anything beyond it.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHARED = (
    "cli/__init__.py",
    "cli/output.py",
    "cli/predictions.py",
    "cli/runtime_command.py",
    "cli/serving.py",
    "data/__init__.py",
    "data/remote.py",
    "data/tars.py",
    "data/listing.py",
    "data/images.py",
    "data/preprocessing.py",
    "data/taxonomy.py",
    "deploy/__init__.py",
    "deploy/access.py",
    "deploy/admission.py",
    "deploy/app.py",
    "deploy/batcher.py",
    "deploy/description.py",
    "deploy/desk.py",
    "deploy/documents.py",
    "deploy/engines.py",
    "deploy/measures.py",
    "deploy/onnx_file.py",
    "deploy/refusals.py",
    "deploy/runtime.py",
    "deploy/runtime_model.py",
    "deploy/served_model.py",
    "deploy/server.py",
    "deploy/settings.py",
    "deploy/uploads.py",
    "errors.py",
    "inference/__init__.py",
    "inference/answering.py",
    "inference/arguments.py",
    "inference/calibration.py",
    "inference/guess.py",
    "inference/plain_source.py",
    "inference/strict_json.py",
    "launcher.py",
    "plain_text.py",
    "terms.py",
    "version.py",
)
"""Files and folders below src/mpfgvc."""


class SharedModules(BuildHookInterface):
    """They stand in the package of a wheel, and in `shared` of a source archive, where a wheel finds them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to hatchling."""
        root = Path(self.root)
        archived = root / "shared"
        source = archived if archived.is_dir() else root.parent / "src" / "mpfgvc"
        target = "mpfgvc_runtime" if self.target_name == "wheel" else "shared"
        for name in SHARED:
            for file in _modules(source / name):
                place = file.relative_to(source).as_posix()
                build_data["force_include"][str(file)] = f"{target}/{place}"


def _modules(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]
