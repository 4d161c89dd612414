"""`mpfgvc serve serve.yaml`: a file of Ray Serve, checked here, then given to `serve run` as it is.

Ray Serve says what is wrong with a model in a traceback of sixty lines. So the settings of our applications
are read first, as the cluster will read them, and what is wrong is refused in one line.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mpfgvc.config_values import shown
from mpfgvc.errors import ConfigError, MpfgvcError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION = "mpfgvc.deploy.serve_many:application"
"""What the file calls the application: its import_path."""


def is_file_of_serve(model: str) -> bool:
    """Whether a server is asked for by a file of Ray Serve."""
    return model.endswith((".yaml", ".yml"))


def serve_file(options: Namespace, parser: ArgumentParser) -> None:
    """Check the file `options.model`, and serve it until Ctrl-C. Raises ConfigError, CheckpointError."""
    path = Path(options.model)
    refuse_other_options(options, parser)
    check(path)
    if find_spec("ray") is None:
        raise ConfigError("serving on many machines needs ray: pip install 'mpfgvc[ray,serve]'")
    from ray.serve.scripts import cli

    cli(["run", str(path)], prog_name="serve")


def refuse_other_options(options: Namespace, parser: ArgumentParser) -> None:
    """Refuse what the file says itself. Raises ConfigError."""
    defaults = vars(parser.parse_args([options.model]))
    given = [name for name, value in vars(options).items() if name in defaults and value != defaults[name]]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise ConfigError(f"{option} is not for {options.model}; write it into the file, and leave it out")


def check(path: Path) -> None:
    """Refuse a file whose applications of this package would not start here. Raises MpfgvcError."""
    from mpfgvc.deploy.many_settings import ManySettings

    found = list(_arguments(path))
    if not found:
        rule = f"must have an application with import_path: {APPLICATION}"
        raise ConfigError(f"{path} {rule}, got none; docs/serve-many.md has a whole file")
    for arguments in found:
        try:
            settings = ManySettings.read(arguments)
            settings.token()
            settings.fingerprint()
        except MpfgvcError as error:
            raise type(error)(f"{path}: {error}") from None


def _arguments(path: Path) -> Iterator[dict[str, Any]]:
    """The args of each application of this package."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot read {path}: {one_line(error)}; check the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {one_line(error)}; correct it") from None
    applications = document.get("applications") if isinstance(document, dict) else None
    for each in applications if isinstance(applications, list) else ():
        if isinstance(each, dict) and each.get("import_path") == APPLICATION:
            arguments = each.get("args") or {}
            if not isinstance(arguments, dict):
                raise ConfigError(f"{path}: args must hold settings, got {shown(arguments)}; correct it")
            yield arguments
