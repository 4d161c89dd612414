"""What parts of a job are computed with, on one machine and in each actor of a cluster. No torch."""

from dataclasses import dataclass

from mpfgvc.terms import Device

MOST_LOADERS, CORES_PER_LOADER = 8, 4


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a worker computes with; `cores` None leaves all of the machine's to it."""

    device: Device = "auto"
    batch_size: int = 32
    cores: int | None = None

    def loaders(self, *, on_cpu: bool) -> int | None:
        """Loader processes within the cores of a worker; None: as many as suit the machine."""
        if self.cores is None:
            return None
        return min(MOST_LOADERS, self.cores // CORES_PER_LOADER if on_cpu else self.cores)


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
