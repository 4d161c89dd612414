"""What parts of a job are computed with, on one machine and in each actor of a cluster. No torch."""

from dataclasses import dataclass

from mpfgvc.terms import Device


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a worker computes with; `cores` None leaves all of the machine's to it."""

    device: Device = "auto"
    batch_size: int = 32
    cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster, and how much of it a job takes.

    `address` is where it is (`host:6379`, `auto`, `ray://host:10001`); None starts one on this machine, which
    ends with the job. `actors` None: as many as there is room for now. `cores` are those of one actor; None:
    one, or with GPUs its share of the cores of the cluster.
    """

    address: str | None = None
    actors: int | None = None
    cores: int | None = None
