"""A model, pushed to the Hugging Face hub in one commit: all of it is there afterwards, or none.

The token is the one that huggingface_hub finds: `hf auth login`, or the variable HF_TOKEN. What a repository
holds is put together in hub_model.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfgvc.errors import MpfgvcError, OutputError, one_line


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """What a repository `user/name` will hold: by file name, its content or the file with it."""

    repository: str
    files: Mapping[str, bytes | Path]
    notes: tuple[str, ...] = ()
    """Lines for people: what the card could not tell."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A commit on the hub."""

    repository: str
    url: str
    commit: str
    changed: bool
    """False if the repository held exactly this already."""


def refuse_missing_token() -> None:
    """Raise OutputError if there is no token for the hub."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise OutputError("there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN")


def push_model(model: HubModel, *, private: bool = False, message: str | None = None) -> Pushed:
    """Push it in one commit; a repository that does not exist is made, `private` if that is asked for.

    Raises OutputError in one line for a missing or refused token, and whatever else the hub or the network
    refuses. The repository then has no half of it.
    """
    refuse_missing_token()
    from huggingface_hub import HfApi

    try:
        return _push(HfApi(library_name="mpfgvc"), model, private=private, message=message)
    except MpfgvcError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise OutputError(_refusal(model.repository, error)) from None


def _push(api: Any, model: HubModel, *, private: bool, message: str | None) -> Pushed:
    from huggingface_hub import CommitOperationAdd

    repository = model.repository
    api.create_repo(repository, private=True if private else None, exist_ok=True)
    before = api.model_info(repository)
    if private and not before.private:
        hint = "make it private in its settings on the hub, or leave --private out"
        raise OutputError(f"{repository} is there already and public, so nothing was pushed; {hint}")
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in model.files.items()
    ]
    commit = api.create_commit(repository, operations, commit_message=message or "Push a model of mpfgvc")
    changed = commit.oid != before.sha
    return Pushed(
        repository=repository, url=f"{api.endpoint}/{repository}", commit=str(commit.oid), changed=changed
    )


def _refusal(repository: str, error: Exception) -> str:
    """What the hub said, in one line with the way out."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"cannot push to {repository}: the hub refuses the token; log in again with `hf auth login`"
    if status == 403:
        hint = "give it the right to write there, or push to a name of your own"
        return f"cannot push to {repository}: the token may not write to it; {hint}"
    return f"cannot push to {repository}: {one_line(error)}; check the network and try again"
