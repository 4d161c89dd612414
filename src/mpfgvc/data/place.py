"""Where a dataset is, by its settings. Imports nothing heavy, so that a missing place is refused at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mpfgvc.config import DataConfig
from mpfgvc.data.listing import readable
from mpfgvc.errors import ConfigError, DataError


def dataset_root(config: DataConfig) -> Path | None:
    """The folder that the paths of a dataset start from; None for synthetic birds, which have no files.

    Raises ConfigError if the settings name none.
    """
    if config.dataset == "synthetic":
        return None
    if is_remote(config):
        return cache_folder(str(config.root))
    if config.root is not None:
        return Path(config.root).expanduser()
    if config.dataset == "manifest":
        return manifest_file(config).parent
    hint = "give the folder of the photographs: --data.root my_photos/"
    raise ConfigError(f"data.root is not set; {hint}")


def is_remote(config: DataConfig) -> bool:
    """Whether a dataset is at a URL, from where its shards are fetched."""
    return config.dataset == "shards" and config.root is not None and "://" in config.root


def cache_folder(url: str) -> Path:
    """Where the shards of a URL are kept on this machine."""
    url = url.rstrip("/")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return home / "mpfgvc" / "shards" / f"{url.rpartition('/')[2][:40]}-{digest}"


def manifest_file(config: DataConfig) -> Path:
    """The table of a dataset that is one. Raises ConfigError if the settings name none."""
    if config.manifest is None:
        raise ConfigError("data.manifest is not set; give a CSV or Parquet file: --data.manifest photos.csv")
    return Path(config.manifest)


def existing_folder(root: Path) -> Path:
    """The folder itself. Raises DataError if there is none at `root`, or if it may not be looked for."""
    with readable(root.parent):
        if root.is_dir():
            return root
        what = "is a file" if root.exists() else "does not exist"
    raise DataError(f"data.root must be a folder, got {root}, which {what}; check the path")


def moved(config: DataConfig, *, root: str | Path | None, manifest: str | Path | None) -> DataConfig:
    """The settings of a dataset that is in another place now; None leaves a setting as it is."""
    return config.replaced(
        root=str(root) if root else config.root,
        manifest=str(manifest) if manifest else config.manifest,
    )
