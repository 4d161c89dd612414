"""The record of what a run was made with: `environment.json`, written, read and compared.

The same settings give the same bits only with the same precision, device, threads,
processes and versions. A resumed run says what differs. training/environment.py finds
out what the values are on this machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mpfgvc.errors import CheckpointError
from mpfgvc.terms import Precision

_NOT_COMPARED = ("command", "python", "platform")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Versions, commit, machine and command of a run."""

    command: tuple[str, ...]
    commit: str | None
    """Commit of the repository that the package was run from; None for an installed package."""
    device: str
    """Name of the GPU, or cpu, or mps."""
    precision: str
    """Fabric's name of the precision that was used, such as 32-true; never auto."""
    processes: int
    threads: int
    """Threads of torch in each process."""
    python: str
    platform: str
    processor: str
    packages: Mapping[str, str | None]
    """Versions; None for a package that is not installed."""

    @property
    def precision_setting(self) -> Precision:
        """The value of the setting `precision` that gives this precision again."""
        return "bf16" if self.precision.startswith("bf16") else "fp32"

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self) | {"command": list(self.command), "packages": dict(self.packages)}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """What `to_dict` gave, of this version or another. Raises CheckpointError naming the bad entry."""
        if not isinstance(values, Mapping):
            raise CheckpointError(f"an environment must hold entries by name, got {values!r:.40}")
        for name, check in _CHECKS.items():
            if name not in values or not check(values[name]):
                raise CheckpointError(f"the entry {name} is missing or damaged, got {values.get(name)!r:.40}")
        known = {entry.name: values[entry.name] for entry in fields(cls)}
        return cls(**known | {"command": tuple(values["command"])})


def differences(stored: Environment, now: Environment) -> list[str]:
    """What may give other bits now than then, in words: `threads: 2 then, 1 now`. Empty if nothing does."""
    before, after = dict(_compared(stored)), dict(_compared(now))
    names = dict.fromkeys([*before, *after])
    return [
        f"{name}: {before.get(name) or 'none'} then, {after.get(name) or 'none'} now"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _compared(environment: Environment) -> Iterator[tuple[str, object]]:
    for entry in fields(environment):
        if entry.name == "packages":
            yield from sorted(environment.packages.items())
        elif entry.name not in _NOT_COMPARED:
            yield entry.name, getattr(environment, entry.name)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_command(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_versions(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text_or_none, value.values()))


_CHECKS = {
    "command": _is_command,
    "commit": _is_text_or_none,
    "device": _is_text,
    "precision": _is_text,
    "processes": _is_count,
    "threads": _is_count,
    "python": _is_text,
    "platform": _is_text,
    "processor": _is_text,
    "packages": _is_versions,
}
