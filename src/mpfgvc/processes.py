"""Which process this is of those that torchrun or srun started; its cores and its seeds. No torch.

Only these two launch processes. Other variables of a cluster do not mean a launch: `sbatch --ntasks=4
script` runs its script once, and a training in it without srun is one process, whatever SLURM_NTASKS says.
"""

import os
import re
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
        """As torchrun or srun started them; one process if neither did.

        Raises ConfigError if srun put different numbers of tasks on its nodes.
        """
        if all(name in variables for name in _TORCHRUN):
            rank, world, local_rank, local = (int(variables[name]) for name in _TORCHRUN)
            return cls(rank=rank, world=world, local_rank=local_rank, local=local)
        if int(variables.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            return cls._of_srun(variables)
        return cls()

    @classmethod
    def _of_srun(cls, variables: Mapping[str, str]) -> Self:
        world, nodes = int(variables["SLURM_STEP_NUM_TASKS"]), int(variables.get("SLURM_STEP_NUM_NODES", "1"))
        if world % nodes:
            rule = f"srun must start the same number of tasks on each of {nodes} nodes, got {world} tasks"
            raise ConfigError(f"{rule}; use --ntasks-per-node")
        ranks = int(variables["SLURM_PROCID"]), int(variables["SLURM_LOCALID"])
        return cls(rank=ranks[0], world=world, local_rank=ranks[1], local=world // nodes)

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


def main_address(variables: Mapping[str, str] = os.environ) -> str:
    """Where the processes meet: MASTER_ADDR, else the first node of srun, else this machine."""
    nodes = variables.get("SLURM_STEP_NODELIST", "127.0.0.1")
    return variables.get("MASTER_ADDR") or _first_node(nodes)


def main_port(variables: Mapping[str, str] = os.environ) -> int:
    """The port there: MASTER_PORT, else one that follows from srun's job and step."""
    if "MASTER_PORT" in variables:
        return int(variables["MASTER_PORT"])
    job, step = (int(variables.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 15_000 + (job * 31 + step) % 10_000


def _first_node(nodes: str) -> str:
    """`node[03-05,9],other` begins with `node03`."""
    match = re.match(r"([^\[,]+)(?:\[([0-9]+))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes
