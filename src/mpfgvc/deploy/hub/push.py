"""A finished run as a model repository of the Hugging Face hub: pushed in one commit, or written to a folder.

    README.md            the model card (card.py)
    model.safetensors    the weights
    model.json           classes, preprocessing, architecture
    digests.json         the SHA-256 digests of both
    config.yaml          every setting of the training

Nothing in it names a folder of this machine. The token is the one that huggingface_hub finds: that of
`hf auth login`, or the variable HF_TOKEN.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpfgvc.errors import MpfgvcError, OutputError, one_line
from mpfgvc.files import DIGESTS, check_digest, digests_document, file_digest, new_folder, write_bytes
from mpfgvc.inference.description import (
    DESCRIPTION,
    HUB,
    WEIGHTS,
    ModelDescription,
    check_repository,
    find_model_folder,
)
from mpfgvc.recipes_io import dump_config
from mpfgvc.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """What a repository `user/name` will hold: by file name, its content or the file with it."""

    repository: str
    files: Mapping[str, bytes | Path]
    notes: tuple[str, ...] = ()
    """Lines for people: what the card could not tell."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A commit on the hub; `changed` is False if the repository held exactly this already."""

    repository: str
    url: str
    commit: str
    changed: bool


def hub_model(
    run: str | Path, repository: str, *, license_name: str | None = None, dataset: str | None = None
) -> HubModel:
    """The repository of a finished run; `dataset` is what its card calls the photographs.

    Raises CheckpointError for a run that is not finished or is damaged, or a name that the hub does not take.
    """
    from mpfgvc.deploy.hub.card import model_card
    from mpfgvc.model.towers.names import hub_repositories

    repository = check_repository(repository.removeprefix(HUB))
    folder = RunFolder.open(run)
    model, config = find_model_folder(folder.path), folder.read_config()
    for name in (WEIGHTS, DESCRIPTION):
        check_digest(model / name)
    description = ModelDescription.read(model / DESCRIPTION)
    description = replace(description, model=description.model.without_folders())
    card = model_card(
        folder,
        description,
        repository=repository,
        base_models=hub_repositories(config.model),
        license_name=license_name,
        dataset=dataset,
    )
    content = description.to_bytes()
    digests = {DESCRIPTION: [hashlib.sha256(content).hexdigest()], WEIGHTS: [file_digest(model / WEIGHTS)]}
    files: dict[str, bytes | Path] = {
        "README.md": card.text.encode(errors="backslashreplace"),
        WEIGHTS: model / WEIGHTS,
        DESCRIPTION: content,
        DIGESTS: digests_document(digests),
        "config.yaml": dump_config(config.without_folders()).encode(),
    }
    return HubModel(repository=repository, files=files, notes=card.notes)


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


def check_token() -> None:
    """Raise OutputError if there is no token for the hub."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise OutputError("there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN")


def push_model(model: HubModel, *, private: bool = False, message: str | None = None) -> Pushed:
    """Push it in one commit; a repository that does not exist is made, `private` if that is asked for.

    Raises OutputError in one line for a missing or refused token, and whatever else the hub or the network
    refuses. The repository then has no half of it.
    """
    check_token()
    from huggingface_hub import HfApi

    try:
        return _push(HfApi(library_name="mpfgvc"), model, private=private, message=message)
    except MpfgvcError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise OutputError(f"cannot push to {model.repository}: {_refusal(error)}") from None


def _push(api: Any, model: HubModel, *, private: bool, message: str | None) -> Pushed:
    from huggingface_hub import CommitOperationAdd

    repository = model.repository
    api.create_repo(repository, private=True if private else None, exist_ok=True)
    before = api.model_info(repository)
    if private and not before.private:
        hint = "make it private in its settings on the hub, or leave --private out"
        raise OutputError(f"{repository} is there already and public, so nothing was pushed; {hint}")
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in model.files.items()
    ]
    commit = api.create_commit(repository, operations, commit_message=message or "Push a model of mpfgvc")
    url = f"{api.endpoint}/{repository}"
    return Pushed(repository=repository, url=url, commit=str(commit.oid), changed=commit.oid != before.sha)


def _refusal(error: Exception) -> str:
    """What the hub said, with the way out."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the hub refuses the token; log in again with `hf auth login`"
    if status == 403:
        return "the token may not write to it; give it the right to write there, or push to a name of your own"
    return f"{one_line(error)}; check the network and try again"
