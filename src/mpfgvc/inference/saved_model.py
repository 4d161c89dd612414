"""A trained model on disk: `model.safetensors` and `model.json`, all that prediction needs.

Neither dataset, hub, text tower nor tokenizer: the text features are constants
by then. The JSON holds the architecture, the class names and the preprocessing.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from mpfgvc.config import ModelConfig
from mpfgvc.config_io import model_config_from_dict
from mpfgvc.data.transforms import Preprocessing
from mpfgvc.errors import CheckpointError, MpfgvcError, one_line
from mpfgvc.model.network import MPFGVC
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage import new_folder, write_bytes, write_text

FORMAT = 1
"""Version of the layout; raised when an older reader would misread a newer folder."""
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A deployed network, its preprocessing, and the config it was built from."""

    network: MPFGVC
    preprocessing: Preprocessing
    config: ModelConfig


def save_model(saved: SavedModel, folder: Path) -> None:
    """Write a model folder in one step. Raises OutputError."""
    network = saved.network.deployed()
    description = {
        "format": FORMAT,
        "classes": list(network.classes),
        "embed": network.embed,
        "preprocessing": saved.preprocessing.to_dict(),
        "model": asdict(saved.config),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with new_folder(folder) as part:
        write_bytes(part / WEIGHTS, serialise(tensors))
        write_text(part / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False) + "\n")


def load_model(source: str | Path) -> SavedModel:
    """Read a model folder, a run folder that holds one, or a repository of the hub.

    The network is in evaluation mode, on the CPU. Raises CheckpointError for
    what is missing, broken, or of another model.
    """
    folder = _find_folder(source)
    description = _read_description(folder / DESCRIPTION)
    try:
        config = model_config_from_dict(description["model"])
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
        classes, embed = description["classes"], description["embed"]
    except (KeyError, TypeError, MpfgvcError) as error:
        reason = f"is not a model description of format {FORMAT} ({error})"
        raise CheckpointError(f"{folder / DESCRIPTION} {reason}; train again or restore the file") from None
    network = MPFGVC.deployed_from_config(config, classes, embed=embed)
    _load_tensors(network, folder / WEIGHTS)
    return SavedModel(network=network.eval(), preprocessing=preprocessing, config=config)


def _find_folder(source: str | Path) -> Path:
    path = Path(source)
    for folder in (path / "model", path):
        if (folder / DESCRIPTION).is_file():
            return folder
    if RunFolder(path).is_run:
        hint = f"finish it with: mpfgvc train --resume {path}"
        raise CheckpointError(f"the run {path} has no trained model yet ({path / 'model'}); {hint}")
    if path.exists() or str(source).count("/") != 1:
        raise CheckpointError(f"no {DESCRIPTION} in {path}; give a run folder, its model folder or a hub id")
    return _download(str(source))


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, DESCRIPTION]))
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        reason = one_line(error)
        raise CheckpointError(
            f"{repository} is no folder here, nor to be had from the hub: {reason}"
        ) from None


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; train again or restore the file") from None
    version = description.get("format") if isinstance(description, dict) else None
    if version != FORMAT:
        hint = "use the version of mpfgvc that wrote it"
        raise CheckpointError(f"{path} has format {version}, this version reads {FORMAT}; {hint}")
    return dict(description)


def _load_tensors(network: torch.nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; restore it or train again") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = one_line(error)
        raise CheckpointError(f"{path} does not fit its {DESCRIPTION}: {reason}; restore both") from None
