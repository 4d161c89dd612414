"""A finished run as a model repository of the Hugging Face hub: what is in it, and that written to a folder.

    README.md            the model card (model_card.py)
    model.safetensors    the weights, with their digest beside them
    model.json           classes, preprocessing, architecture, with its digest
    config.yaml          every setting of the training

Nothing in it names a folder of this machine.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from mpfgvc.config_io import dump_config
from mpfgvc.config_paths import model_without_folders
from mpfgvc.deploy.hub import HubModel
from mpfgvc.deploy.model_card import model_card
from mpfgvc.deploy.run_record import read_record
from mpfgvc.errors import OutputError
from mpfgvc.inference.model_description import ModelDescription
from mpfgvc.inference.model_source import (
    DESCRIPTION,
    FILES,
    HUB,
    WEIGHTS,
    check_repository,
    find_model_folder,
)
from mpfgvc.model.towers.hub_names import hub_repositories
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage.digests import check_digest, digest_line, digest_path
from mpfgvc.storage.whole_files import new_folder, write_bytes

CARD = "README.md"
SETTINGS = "config.yaml"


def hub_model(
    run: str | Path, repository: str, *, license_name: str | None = None, dataset: str | None = None
) -> HubModel:
    """The repository of a finished run; `dataset` is what its card calls the photographs.

    Raises CheckpointError for a run that is not finished or is damaged, or a name that the hub does not take.
    """
    repository = check_repository(repository.removeprefix(HUB))
    folder = RunFolder.open(run)
    model = find_model_folder(folder.path, description=DESCRIPTION, files=FILES)
    record = read_record(folder, dataset=dataset)
    for name in (WEIGHTS, DESCRIPTION):
        check_digest(model / name)
    description = ModelDescription.read(model / DESCRIPTION)
    description = replace(description, model=model_without_folders(description.model))
    card = model_card(
        record,
        repository=repository,
        description=description,
        base_models=hub_repositories(folder.read_config().model),
        license_name=license_name,
    )
    content = description.to_bytes()
    files: dict[str, bytes | Path] = {
        CARD: card.encode(errors="backslashreplace"),
        WEIGHTS: model / WEIGHTS,
        DESCRIPTION: content,
        digest_path(Path(DESCRIPTION)).name: digest_line(hashlib.sha256(content).hexdigest(), DESCRIPTION),
        SETTINGS: dump_config(record.config).encode(),
    }
    if (digest := digest_path(model / WEIGHTS)).is_file():
        files[digest.name] = digest
    return HubModel(repository=repository, files=files, notes=record.notes)


def write_model(model: HubModel, out: Path) -> None:
    """Write what would be pushed into a new folder. Raises OutputError if `out` holds something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty; name a new folder with --out")
    with new_folder(out) as part:
        for name, content in model.files.items():
            if isinstance(content, bytes):
                write_bytes(part / name, content)
            else:
                shutil.copyfile(content, part / name)
