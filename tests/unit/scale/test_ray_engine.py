"""What the engine on a cluster decides without one: room, refusals, and parts that kill their process."""

import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mpfgvc.errors import ConfigError, DataError
from mpfgvc.scale.jobs import Job, Task, WorkerOptions, open_job
from mpfgvc.scale.ray_engine import MOST_TRIES, Cluster, PartActor, Room, compute_with_ray

TASK = Task(what="guesses", model="/nowhere/birds", digest="d1", source="fusion")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    with open_job(tmp_path / "out", TASK, ["a.jpg", "b.jpg", "c.jpg"], part_size=2) as job:
        return job


@pytest.mark.parametrize(
    ("resources", "options", "cluster", "actors", "cores", "gpus"),
    [
        ({"CPU": 12}, WorkerOptions(), Cluster(), 12, 1, 0),
        ({"CPU": 12}, WorkerOptions(), Cluster(cores=5), 2, 5, 0),
        ({"CPU": 12}, WorkerOptions(), Cluster(actors=3), 3, 1, 0),
        ({"CPU": 64, "GPU": 4}, WorkerOptions(), Cluster(), 4, 8, 1),
        ({"CPU": 12, "GPU": 4}, WorkerOptions(), Cluster(), 4, 3, 1),
        ({"CPU": 12, "GPU": 4}, WorkerOptions(), Cluster(cores=6), 2, 6, 1),
        ({"CPU": 12, "GPU": 4}, WorkerOptions(device="cpu"), Cluster(), 12, 1, 0),
    ],
)
def test_actors_take_the_room_that_there_is(
    resources: dict[str, float], options: WorkerOptions, cluster: Cluster, actors: int, cores: int, gpus: int
) -> None:
    room = Room.of(resources, options, cluster)
    assert (room.actors, room.gpus) == (actors, gpus)
    assert room.options == replace(options, cores=cores)


def test_more_cores_than_the_cluster_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="--actor-cores must fit into the 12 cores of the cluster, got 13"):
        Room.of({"CPU": 12}, WorkerOptions(), Cluster(cores=13))


def test_without_ray_one_line_says_how_to_get_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^--engine ray needs Ray: pip install 'mpfgvc\[ray\]'$"):
        list(compute_with_ray(job, [0], WorkerOptions(), Cluster()))


def test_an_address_where_nobody_listens_is_refused_at_once(job: Job) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mpfgvc[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"nobody answers at {address}: .*; check --address"):
            list(compute_with_ray(job, [0], WorkerOptions(), Cluster(address=address)))


def test_an_error_of_a_user_comes_back_as_a_value(job: Job) -> None:
    (row,) = [PartActor(job, WorkerOptions())({"part": [1]})]
    assert (row["photographs"], row["kind"]) == ([0], ["CheckpointError"])
    assert row["line"][0].startswith("there is no folder /nowhere/birds")
    assert list(job.folder.glob(".tries-*")) == []


def test_a_part_that_ended_its_process_too_often_ends_the_job(job: Job) -> None:
    tries = job.folder / ".tries-00000001"
    tries.write_bytes(b"." * (MOST_TRIES - 1))  # as by actors that were killed
    assert PartActor(job, WorkerOptions())({"part": [1]})["kind"] == ["CheckpointError"]  # it is tried once more
    tries.write_bytes(b"." * MOST_TRIES)
    row = PartActor(job, WorkerOptions())({"part": [1]})
    assert row["kind"] == [DataError.__name__]
    assert row["line"][0].startswith(f"part 1 ended its process {MOST_TRIES} times; look for a photograph")
