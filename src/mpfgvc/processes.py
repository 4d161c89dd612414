"""Which process this is of those that torchrun started; its cores and its seeds. No torch.

Other variables of a cluster do not mean a launch: `sbatch --ntasks=4 script` runs its script once, and a
training in it is one process, whatever SLURM_NTASKS says.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from mpfgvc.errors import ConfigError

GUARD = 'if __name__ == "__main__":'
"""What a script needs around its calls where new processes import it (spawn, forkserver)."""
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process is `rank` of `world`, and `local_rank` of `local` on its machine (its node)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local: int = 1

    @classmethod
    def here(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """As torchrun started them; one process if it did not."""
        if all(name in variables for name in _TORCHRUN):
            rank, world, local_rank, local = (int(variables[name]) for name in _TORCHRUN)
            return cls(rank=rank, world=world, local_rank=local_rank, local=local)
        return cls()

    @property
    def nodes(self) -> int:
        """Machines that take part."""
        return self.world // self.local

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that every machine derives alike from some numbers and names.

    Every random choice follows from the config's seed and its own name.
    """
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def core_count() -> int:
    """The cores that this process may use; a container or a batch system may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_unguarded_script() -> None:
    """Refuse to work in a loader process that is still importing the script that started it.

    Where processes are spawned (macOS, Windows), each imports the script first. A call without the guard
    would run again in every one of them. Raises ConfigError.
    """
    import multiprocessing  # a help or a refusal does not pay for it

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        rule = "this script starts loader processes, and each of them imports the script again"
        raise ConfigError(f"{rule}; put the script's calls under {GUARD} or set data.workers 0")
