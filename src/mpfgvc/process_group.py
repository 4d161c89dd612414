"""Start the process group where torchrun may start its processes again.

torchrun keeps one key-value store over all its restarts, and torch puts the addresses of the processes under
the same keys each time. A process that was started again may then read where one that is gone has listened,
and is refused or waits for it (pytorch/pytorch#135712). The restarts cannot be counted instead: torchrun
counts those of each machine apart. So the processes agree on a name first, and all keys are under it.
"""

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

from .launcher import Processes

_PAUSE = 0.05
"""Seconds between two looks at the store."""


def store_outlives_processes(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun holds the store, so that it may know processes that are gone."""
    return variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def start_group(device: torch.device, processes: Processes, timeout: timedelta) -> None:
    """Start the process group over torchrun's store, once for each process.

    All processes must call it. Raises TimeoutError, or DistStoreError, if one does not come in time.
    """
    if distributed.is_initialized():
        return
    store, _, _ = next(rendezvous("env://", timeout=timeout))
    name = agree_on_name(PrefixStore("mpfgvc", store), processes, timeout)
    distributed.init_process_group(
        distributed.get_default_backend_for_device(device),
        store=PrefixStore(name, store),
        rank=processes.rank,
        world_size=processes.world,
        timeout=timeout,
        device_id=None if device.type == "cpu" else device,
    )


def agree_on_name(store: Store, processes: Processes, timeout: timedelta) -> str:
    """A name that all processes of this start get, and those of no other start.

    Each process says that it is here by a mark that only it has; the first one answers with a name and all
    marks that it sees; who finds its mark in the answer confirms the name. Marks and answers of earlier
    starts may be found at first. They are waited out: processes that are gone do not confirm a new name.

    Raises TimeoutError, or DistStoreError, if a process does not come in time.
    """
    mark = uuid4().hex
    others = [str(rank) for rank in range(1, processes.world)]
    end = time.monotonic() + timeout.total_seconds()
    store.set(f"mark/{processes.rank}", mark)
    while time.monotonic() < end:
        if processes.is_first:
            store.set("answer", json.dumps([mark, *(store.get(f"mark/{rank}").decode() for rank in others)]))
            if store.check([f"{mark}/{rank}" for rank in others]):
                return mark
        else:
            marks: list[str] = json.loads(store.get("answer"))
            if marks[processes.rank] == mark:
                store.set(f"{marks[0]}/{processes.rank}", "confirmed")
                return marks[0]
        time.sleep(_PAUSE)
    seconds = timeout.total_seconds()
    raise TimeoutError(f"not all of {processes.world} processes came within {seconds:g} seconds")
