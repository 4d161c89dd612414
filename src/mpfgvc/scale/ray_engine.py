"""The parts of a job on a Ray cluster, by Ray Data: a pool of actors that load the model once each.

The numbers of the missing parts go to the actors, a few ahead; an actor has the names of all photographs,
computes, writes the file of the part, and sends back how many photographs it had. So nothing large travels.
Ray starts an actor that died again and gives it its part again, for ever; a photograph that kills its process
ends the job here after MOST_TRIES.

User errors come back as values, so that they end the job in one line. Tried with Ray 2.60.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from mpfgvc import errors
from mpfgvc.errors import ConfigError, DataError, MpfgvcError, one_line
from mpfgvc.files import remove
from mpfgvc.processes import core_count
from mpfgvc.scale.jobs import Job, PartWorker, WorkerOptions

MOST_TRIES = 4
"""How often a part may be begun before it is taken to kill its process."""
PARTS_AHEAD = 2
"""Parts that wait at an actor, the one it computes among them."""
MOST_TASKS = 10_000
"""Pieces that the numbers of the parts are cut into."""
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


class PartActor:
    """Computes the parts whose numbers it is sent."""

    def __init__(self, job: Job, options: WorkerOptions) -> None:
        self.worker = PartWorker(job, options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """For a batch of one number: how many photographs it stands for, or the error that ends the job."""
        number = int(batch["part"][0])
        tries = _tries_of(self.worker.job, number)
        try:
            _count_try(tries, number)
            done, kind, line = self.worker.write(number), "", ""
        except MpfgvcError as error:
            done, kind, line = 0, type(error).__name__, str(error)
        remove(tries)
        return {"photographs": [done], "kind": [kind], "line": [line]}


def compute_with_ray(job: Job, parts: Sequence[int], options: WorkerOptions, cluster: Cluster) -> Iterator[int]:
    """Compute some parts; after each the number of its photographs.

    Raises ConfigError without Ray or without room in the cluster, and whatever stops a part.
    """
    ray = _ray()
    for file in job.folder.glob(".tries-*"):
        remove(file)
    if not parts:
        return
    with _connected(ray, cluster):
        room = Room.of(ray.cluster_resources(), options, cluster)
        for row in _rows(ray.data, job, parts, room):
            if row["kind"]:
                raise getattr(errors, row["kind"])(row["line"])
            yield row["photographs"]


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many actors, and the cores and GPUs of each."""

    actors: int
    gpus: int
    options: WorkerOptions

    @classmethod
    def of(cls, resources: dict[str, float], options: WorkerOptions, cluster: Cluster) -> Self:
        """What a cluster with these resources has room for. Raises ConfigError where there is none."""
        all_cores, all_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        gpus = int(all_gpus > 0 and options.device in ("auto", "cuda"))
        usual = min(MOST_USUAL_CORES, max(1, all_cores // all_gpus)) if gpus else 1
        cores = usual if cluster.cores is None else cluster.cores
        room = min(all_cores // cores, all_gpus) if gpus else all_cores // cores
        if room < 1:
            rule = f"--actor-cores must fit into the {all_cores} cores of the cluster"
            raise ConfigError(f"{rule}, got {cores}")
        return cls(actors=cluster.actors or room, gpus=gpus, options=replace(options, cores=cores))


def _rows(data: Any, job: Job, parts: Sequence[int], room: Room) -> Iterator[dict[str, Any]]:
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    items = [{"part": number} for number in parts]
    numbers = data.from_items(items, override_num_blocks=min(len(parts), MOST_TASKS))
    computed = numbers.map_batches(
        PartActor,
        fn_constructor_args=(job, room.options),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=min(room.actors, len(parts)), max_tasks_in_flight_per_actor=PARTS_AHEAD),
        num_cpus=room.options.cores,
        num_gpus=room.gpus,
    )
    yield from computed.iter_rows()


def _tries_of(job: Job, number: int) -> Path:
    return job.folder / f".tries-{number:08d}"


def _count_try(tries: Path, number: int) -> None:
    """A byte for each time a part is begun. Raises DataError after MOST_TRIES."""
    try:
        with tries.open("ab") as file:
            file.write(b".")
            count = file.tell()
    except OSError as error:
        raise errors.OutputError(f"cannot write {tries}: {error.strerror}; make room") from None
    if count > MOST_TRIES:
        rule = f"part {number} ended its process {MOST_TRIES} times"
        hint = "look for a photograph that takes too much memory, or give fewer --actors"
        raise DataError(f"{rule}; {hint}")


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """A connection to a cluster within the block; one started here ends with it. Raises ConfigError."""
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _refuse_silence(address)
    own = {"num_cpus": core_count(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        with _without_notes_of_ray():
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


def _refuse_silence(address: str) -> None:
    """Raise ConfigError if nobody listens at `host:port`. Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"nobody answers at {address}: {one_line(error)}; check --address") from None


@contextmanager
def _without_notes_of_ray() -> Iterator[None]:
    """Ray's core writes a note to standard error itself when its level is set; what fails is an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _ray() -> Any:
    """The module ray, told to be quiet. Raises ConfigError where it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster started here reports to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else actors give way to all else on the machine
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'mpfgvc[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
