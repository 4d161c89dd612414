"""The parts of a job on a Ray cluster, by Ray Data: a pool of actors that load the model once each.

The indices of the missing parts go to the actors, a few ahead; an actor has the names of all photographs,
computes, writes the file of the part, and sends back how many photographs it had. So nothing large travels.
Ray starts an actor that died again and gives it its parts again, at most MOST_TRIES times: a photograph
that kills its process ends the job.

User errors come back as values, so that they end the job in one line. Tried with Ray 2.60.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mpfgvc import errors
from mpfgvc.errors import ConfigError, DataError, MpfgvcError, one_line
from mpfgvc.processes import core_count
from mpfgvc.scale.jobs import Job, PartWorker
from mpfgvc.terms import Device

MOST_TRIES = 4
"""How often a part is begun before it is taken to kill its process."""
PARTS_AHEAD = 2
"""Parts that wait at an actor, the one it computes among them."""
MOST_TASKS = 10_000
"""Pieces that the indices of the parts are cut into."""
MOST_USUAL_CORES = 8
"""Cores of an actor with a GPU, if nobody says how many."""
_SECONDS = 10
"""How long the address of a cluster may be silent."""
_STORE_BYTES = 128 * 2**20
"""Shared memory of a cluster on this machine: only numbers travel."""


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

    def room(self, resources: dict[str, float], device: Device) -> tuple[int, int, int]:
        """The actors that these resources have room for, and the cores and GPUs of each. Raises ConfigError."""
        all_cores, all_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        gpus = int(all_gpus > 0 and device in ("auto", "cuda"))
        cores = self.cores or (min(MOST_USUAL_CORES, max(1, all_cores // all_gpus)) if gpus else 1)
        room = min(all_cores // cores, all_gpus) if gpus else all_cores // cores
        if room < 1:
            raise ConfigError(f"--actor-cores must fit into the {all_cores} cores of the cluster, got {cores}")
        return self.actors or room, cores, gpus


class PartActor:
    """Computes the parts whose indices it is sent."""

    def __init__(self, job: Job, cores: int) -> None:
        self.worker = PartWorker(job, cores)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """For a batch of one index: how many photographs it stands for, or the error that ends the job."""
        done, kind, line = 0, "", ""
        try:
            done = self.worker.write(int(batch["part"][0]))
        except MpfgvcError as error:
            kind, line = type(error).__name__, str(error)
        return {"photographs": [done], "kind": [kind], "line": [line]}


def compute_with_ray(job: Job, parts: Sequence[int], cluster: Cluster) -> Iterator[int]:
    """Compute some parts; after each the number of its photographs.

    Raises ConfigError without Ray or without room in the cluster, and whatever stops a part.
    """
    ray = _ray()
    if not parts:
        return
    with _connected(ray, cluster):
        actors, cores, gpus = cluster.room(ray.cluster_resources(), job.task.device)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        indices = ray.data.from_items(
            [{"part": part} for part in parts], override_num_blocks=min(len(parts), MOST_TASKS)
        )
        computed = indices.map_batches(
            PartActor,
            fn_constructor_args=(job, cores),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(parts)), max_tasks_in_flight_per_actor=PARTS_AHEAD),
            num_cpus=cores,
            num_gpus=gpus,
            max_task_retries=MOST_TRIES - 1,
        )
        try:
            for row in computed.iter_rows():
                if row["kind"]:
                    raise getattr(errors, row["kind"])(row["line"])
                yield row["photographs"]
        except ray.exceptions.RayError as error:
            hint = "look for a photograph that takes too much memory, or give fewer --actors"
            raise DataError(f"a part ended its process {MOST_TRIES} times: {one_line(error, 80)}; {hint}") from None


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """A connection to a cluster within the block; one started here ends with it. Raises ConfigError."""
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _check_listens(address)
    own = {"num_cpus": core_count(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own)
        )
    except Exception as error:  # a dozen unrelated kinds
        where = f"the cluster at {address}" if address else "a cluster on this machine"
        hint = "check --address, and set RAY_AUTH_MODE=token if the cluster wants a token"
        raise ConfigError(f"cannot connect to {where}: {one_line(error)}; {hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raise ConfigError if nobody listens at `host:port`. Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"nobody answers at {address}: {one_line(error)}; check --address") from None


def _ray() -> Any:
    """The module ray, told to be quiet. Raises ConfigError where it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster started here reports to its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # else actors give way to all else on the machine
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'mpfgvc[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
