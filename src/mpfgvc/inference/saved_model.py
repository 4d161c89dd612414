"""A trained model on disk: `model.safetensors` and `model.json`, all that prediction needs.

Neither dataset, hub, text tower nor tokenizer: the text features are constants
by then. `digests.json` holds the SHA-256 digests of both.

What is read is checked before it is used, the cheapest first: digests,
description, shapes of the stored tensors, and only then is a network built.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from mpfgvc.config import ModelConfig
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.taxonomy import Taxonomy
from mpfgvc.errors import CheckpointError, MpfgvcError, one_line
from mpfgvc.files import StoredTensor, check_digest, new_folder, read_header, stored_digest, write_with_digest
from mpfgvc.inference.answering import Calibration
from mpfgvc.inference.description import DESCRIPTION, WEIGHTS, ModelDescription, find_model_folder
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.towers.names import trained_name


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A deployed network, its preprocessing, and the config it was built from.

    `name` is what errors call the model; for one that was loaded, its folder. `digest` is the SHA-256 of
    the weights file that it was loaded from, "" for a model in memory or a file without one.
    """

    network: MPFGVC
    preprocessing: Preprocessing
    config: ModelConfig
    name: str = "the model"
    digest: str = ""
    calibration: Calibration | None = None
    taxonomy: Taxonomy | None = None


def save_model(saved: SavedModel, folder: Path) -> None:
    """Write a model folder in one step. Raises OutputError."""
    network = saved.network.deployed()
    tower = saved.config.image_tower
    if ":" in tower.name or trained_name(tower.name) != tower.name:
        # A hub's name, which must do without the hub, or one that was built under another (towers/names.py).
        tower = tower.replaced(name=network.image_encoder.tower.architecture)
    description = ModelDescription(
        classes=network.classes,
        embed=network.embed,
        preprocessing=saved.preprocessing,
        model=saved.config.replaced(image_tower=tower).without_folders(),
        calibration=saved.calibration,
        taxonomy=saved.taxonomy,
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with new_folder(folder) as part:
        write_with_digest(part / WEIGHTS, serialise(tensors))
        write_with_digest(part / DESCRIPTION, description.to_bytes())


def rewrite_description(folder: Path, *, calibration: Calibration | None, taxonomy: Taxonomy | None) -> None:
    """Give a stored model another calibration and taxonomy. Raises CheckpointError, OutputError."""
    path = folder / DESCRIPTION
    check_digest(path)
    description = replace(ModelDescription.read(path), calibration=calibration, taxonomy=taxonomy)
    write_with_digest(path, description.to_bytes())


def load_model(source: str | Path) -> SavedModel:
    """Read a model folder, a run folder that holds one, or a repository of the hub (`hf://user/name`).

    The network is in evaluation mode, on the CPU. Raises CheckpointError for
    what is missing, damaged, or of another model. A file without a digest is read.
    """
    folder = find_model_folder(source)
    weights, described = folder / WEIGHTS, folder / DESCRIPTION
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing or not a regular file; restore it or train again")
    for file in (described, weights):
        check_digest(file)
    description = ModelDescription.read(described)
    stored = _header(weights)
    _check_shapes(_plan(description, described, stored), stored, weights)
    network = MPFGVC.deployed_from_config(
        description.model, description.classes, embed=description.embed, stored=stored
    )
    _load_tensors(network, weights)
    return SavedModel(
        network=network.eval(),
        preprocessing=description.preprocessing,
        config=description.model,
        name=str(folder),
        digest=stored_digest(weights),
        calibration=description.calibration,
        taxonomy=description.taxonomy,
    )


def _header(path: Path) -> dict[str, StoredTensor]:
    try:
        return read_header(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}; restore it or train again") from None


def _plan(description: ModelDescription, path: Path, stored: Collection[str]) -> MPFGVC:
    """The network without its tensors: their names and shapes only, so any size costs nothing."""
    try:
        with torch.device("meta"):
            network = MPFGVC.deployed_from_config(
                description.model, description.classes, embed=description.embed, stored=stored
            )
    except MpfgvcError as error:
        raise CheckpointError(f"{path}: {error}; restore the file or train again") from None
    except Exception as error:  # towers refuse a size with almost any exception
        reason = f"{description.model.image_tower.name} cannot be built as described: {one_line(error)}"
        raise CheckpointError(f"{path}: {reason}; restore the file or train again") from None
    seen, prepared = network.image_encoder.tower.image_size, description.preprocessing.image_size
    if seen != prepared:
        rule = f"must be the tower's {list(seen)}, got {list(prepared)}"
        raise CheckpointError(f"{path}: preprocessing.image_size {rule}; restore the file or train again")
    return network


def _check_shapes(network: MPFGVC, stored: dict[str, StoredTensor], path: Path) -> None:
    """Refuse a weights file whose header, `stored`, does not list the network's tensors."""
    wanted = {name: StoredTensor(tuple(value.shape), "F32") for name, value in network.state_dict().items()}
    for name in sorted(wanted.keys() | stored.keys()):
        if stored.get(name) != wanted.get(name):
            reason = f"tensor {name} must be {_words(wanted.get(name))}, got {_words(stored.get(name))}"
            raise CheckpointError(f"{path} does not fit its {DESCRIPTION}: {reason}; restore both")


def _words(tensor: StoredTensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


def _load_tensors(network: MPFGVC, path: Path) -> None:
    try:
        tensors = load_file(path)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = one_line(error)
        raise CheckpointError(f"{path} does not fit its {DESCRIPTION}: {reason}; restore both") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            reason = f"tensor {name} holds NaN or infinity"
            raise CheckpointError(f"{path} is damaged: {reason}; restore it or train again")
