"""Start the process group where torchrun may start its processes again.

torchrun keeps one key-value store over all its restarts, and torch puts the addresses of the processes under
the same keys each time. A process that was started again may then read where one that is gone has listened,
and is refused or waits for it (pytorch/pytorch#135712). The restarts cannot be counted instead: torchrun
counts those of each machine apart. So the processes agree on a name first, and all keys are under it.
"""

import atexit
import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from uuid import uuid4

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mpfgvc.launcher import Processes

_PAUSE = 0.05
"""Seconds between two looks at the store."""


def store_outlives_processes(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun holds the store, so that it may know processes that are gone."""
    return variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def start_group(device: torch.device, processes: Processes, timeout: timedelta) -> None:
    """Start the process group over torchrun's store, once for each process.

    All processes must call it. Raises TimeoutError, or what torch raises, if one does not come in time.
    """
    if distributed.is_initialized():
        return
    store, _, _ = next(rendezvous("env://", timeout=timeout))
    name = agree_on_name(PrefixStore("mpfgvc", store), processes, timeout)
    backend = distributed.get_default_backend_for_device(device)
    distributed.init_process_group(
        backend,
        store=PrefixStore(name, store),
        rank=processes.rank,
        world_size=processes.world,
        timeout=timeout,
        device_id=None if device.type == "cpu" else device,
    )
    if backend == "nccl":  # it warns of groups that are left behind, so Fabric ends its own as well
        atexit.register(_end_group)


def _end_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def agree_on_name(store: Store, processes: Processes, timeout: timedelta) -> str:
    """A name that all processes of this start get, and those of no other start.

    Each process says that it is here by a mark that only it has. The first one calls them together: by a new
    name, and the marks that it sees. Who finds its own among them says yes; when all have, the first one
    says so, and the name holds. What earlier starts have left is waited out, as processes that are gone
    never answer to a new name.

    Raises TimeoutError if a process does not come in time.
    """
    mark, end = uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.set(f"mark/{processes.rank}", mark)
    seek = _Caller(store, processes.world).look if processes.is_first else _Called(store, mark).look
    while (name := seek()) is None:
        if time.monotonic() > end:
            seconds = timeout.total_seconds()
            raise TimeoutError(f"not all of {processes.world} processes came within {seconds:g} seconds")
        time.sleep(_PAUSE)
    return name


class _Caller:
    """The first process. It calls by another name whenever it sees other marks."""

    def __init__(self, store: Store, world: int) -> None:
        self.store, self.keys = store, [f"mark/{rank}" for rank in range(world)]
        self.name, self.marks = "", list[str]()

    def look(self) -> str | None:
        """The name, once all have said yes to it."""
        if not self.store.check(self.keys):
            return None
        marks = [self.store.get(key).decode() for key in self.keys]
        if marks != self.marks:
            self.name, self.marks = uuid4().hex, marks
            self.store.set("call", json.dumps({"name": self.name, "marks": marks}))
        if not self.store.check([f"{self.name}/{mark}" for mark in marks[1:]]):
            return None
        self.store.set(f"{self.name}/holds", "")
        return self.name


class _Called:
    """Any other process."""

    def __init__(self, store: Store, mark: str) -> None:
        self.store, self.mark = store, mark

    def look(self) -> str | None:
        """The name, once it holds."""
        if not self.store.check(["call"]):
            return None
        call = json.loads(self.store.get("call"))
        if self.mark not in call["marks"]:
            return None
        self.store.set(f"{call['name']}/{self.mark}", "")
        return str(call["name"]) if self.store.check([f"{call['name']}/holds"]) else None
