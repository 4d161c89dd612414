"""Where a saved model comes from: a folder, or a repository of the hub. No torch.

runs/cub, runs/cub/model           folders
hf://user/name[@revision]          the Hugging Face hub, asked for this form only
"""

import difflib
import os
import re
from pathlib import Path

from mpfgvc.errors import CheckpointError, one_line
from mpfgvc.files import whole_folder
from mpfgvc.run_folder import RunFolder

HUB = "hf://"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?P<id>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/\-]*))?")


def find_model_folder(source: str | Path, *, description: str, files: list[str]) -> Path:
    """The folder that holds the file `description`; from the hub, `files` are fetched.

    Raises CheckpointError for a path without a model, or a repository that is not available.
    """
    if not isinstance(source, str | os.PathLike):
        raise CheckpointError(f"a model is named by a folder or {HUB}user/name, got {source!r:.80}")
    if str(source).startswith(HUB):
        return _download(str(source), files)
    try:
        return _local(source, description)
    except OSError as error:
        raise CheckpointError(f"cannot read {source}: {error.strerror}; check the path") from None


def _local(source: str | Path, description: str) -> Path:
    path = Path(source)
    for folder in (whole_folder(path / "model"), whole_folder(path)):
        if (folder / description).is_file():
            return folder
    if RunFolder(path).is_run:
        hint = f"finish it with: mpfgvc train --resume {path}"
        raise CheckpointError(f"the run {path} has no trained model yet ({path / 'model'}); {hint}")
    if path.exists():
        raise CheckpointError(f"no {description} in {path}; give a run folder or its model folder")
    raise CheckpointError(f"there is no folder {path}; {_instead(path)}")


def _instead(path: Path) -> str:
    """What else the caller may have meant by a missing path."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either; the hub is {HUB}user/name"
    near = difflib.get_close_matches(path.name, [each.name for each in path.parent.iterdir()])
    if near:
        return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?"
    return f"give a run folder, its model folder, or {HUB}user/name for the hub"


def check_repository(name: str) -> str:
    """The name itself if it is `user/name` as the hub takes it. Raises CheckpointError."""
    match = _match(name)
    if match is None or match["revision"] is not None:
        raise CheckpointError(f"a repository of the hub must be user/name, got {name!r:.200}")
    return name


def _match(name: str) -> re.Match[str] | None:
    match = _REPOSITORY.fullmatch(name)
    return None if match is None or "--" in match["id"] or ".." in name else match


def _download(source: str, files: list[str]) -> Path:
    match = _match(source.removeprefix(HUB))
    if match is None:
        rule = f"must be {HUB}user/name or {HUB}user/name@revision"
        raise CheckpointError(f"a repository of the hub {rule}, got {source!r:.200}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(match["id"], revision=match["revision"], allow_patterns=files))
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        reason = f"{one_line(error)}; check its name and the network"
        raise CheckpointError(f"cannot fetch {source} from the hub: {reason}") from None
