"""A finished run as a model repository of the Hugging Face hub: written to a folder, and pushed in one commit.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpfgvc.errors import MpfgvcError, OutputError, one_line
from mpfgvc.files import DIGESTS, check_digest, digests_document, file_digest, new_folder, write_bytes
from mpfgvc.inference.description import DESCRIPTION, WEIGHTS, ModelDescription, find_model_folder
from mpfgvc.recipes_io import dump_config
from mpfgvc.run_folder import RunFolder

PUSHED = ("README.md", "config.yaml", DIGESTS, DESCRIPTION, WEIGHTS)
"""The files of a repository."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A commit on the hub; `changed` is False if the repository held exactly this already."""

    repository: str
    url: str
    commit: str
    changed: bool


def write_model(
    run: str | Path, repository: str, out: Path, *, license_name: str | None = None, dataset: str | None = None
) -> None:
    """Write the repository of a finished run into a new folder; its card calls the photographs `dataset`.

    Raises CheckpointError for a run that is not finished or is damaged, OutputError if `out` holds something.
    """
    from mpfgvc.deploy.hub.card import model_card

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty; name a new folder with --out")
    folder = RunFolder.open(run)
    model = find_model_folder(folder.path)
    for name in (WEIGHTS, DESCRIPTION):
        check_digest(model / name)
    description = ModelDescription.read(model / DESCRIPTION)
    description = replace(description, model=description.model.without_folders())
    card = model_card(folder, description, repository=repository, license_name=license_name, dataset=dataset)
    content = description.to_bytes()
    digests = {DESCRIPTION: [hashlib.sha256(content).hexdigest()], WEIGHTS: [file_digest(model / WEIGHTS)]}
    with new_folder(out) as part:
        write_bytes(part / "README.md", card.encode(errors="backslashreplace"))
        write_bytes(part / "config.yaml", dump_config(folder.read_config().without_folders()).encode())
        write_bytes(part / DESCRIPTION, content)
        write_bytes(part / DIGESTS, digests_document(digests))
        shutil.copyfile(model / WEIGHTS, part / WEIGHTS)


def check_token() -> None:
    """Raise OutputError if there is no token for the hub."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise OutputError("there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN")


def push_model(folder: Path, repository: str, *, private: bool = False, message: str | None = None) -> Pushed:
    """Push what `write_model` wrote, in one commit; a repository that does not exist is made.

    Raises OutputError in one line for whatever the hub or the network refuses. The repository then has no half of it.
    """
    from huggingface_hub import HfApi

    try:
        return _push(HfApi(library_name="mpfgvc"), folder, repository, private=private, message=message)
    except MpfgvcError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise OutputError(f"cannot push to {repository}: {_refusal(error)}") from None


def _push(api: Any, folder: Path, repository: str, *, private: bool, message: str | None) -> Pushed:
    api.create_repo(repository, private=True if private else None, exist_ok=True)
    before = api.model_info(repository)
    if private and not before.private:
        hint = "make it private in its settings on the hub, or leave --private out"
        raise OutputError(f"{repository} is there already and public, so nothing was pushed; {hint}")
    message = message or "Push a model of mpfgvc"
    commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
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
