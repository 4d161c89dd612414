"""What the engine on a cluster decides without one: room and refusals."""

import socket
import sys
from pathlib import Path

import pytest

from mpfgvc.errors import ConfigError
from mpfgvc.scale.jobs import Job, Task, open_job
from mpfgvc.scale.ray_engine import Cluster, PartActor, compute_with_ray
from mpfgvc.terms import Device

TASK = Task(what="guesses", model="/nowhere/birds", digest="d1", source="fusion")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    with open_job(tmp_path / "out", TASK, ["a.jpg", "b.jpg", "c.jpg"], part_size=2) as job:
        return job


@pytest.mark.parametrize(
    ("resources", "device", "cluster", "room"),
    [
        ({"CPU": 12}, "auto", Cluster(), (12, 1, 0)),
        ({"CPU": 12}, "auto", Cluster(cores=5), (2, 5, 0)),
        ({"CPU": 12}, "auto", Cluster(actors=3), (3, 1, 0)),
        ({"CPU": 64, "GPU": 4}, "auto", Cluster(), (4, 8, 1)),
        ({"CPU": 12, "GPU": 4}, "auto", Cluster(), (4, 3, 1)),
        ({"CPU": 12, "GPU": 4}, "auto", Cluster(cores=6), (2, 6, 1)),
        ({"CPU": 12, "GPU": 4}, "cpu", Cluster(), (12, 1, 0)),
    ],
)
def test_actors_take_the_room_that_there_is(
    resources: dict[str, float], device: Device, cluster: Cluster, room: tuple[int, int, int]
) -> None:
    """Actors, and the cores and GPUs of each."""
    assert cluster.room(resources, device) == room


def test_more_cores_than_the_cluster_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="--actor-cores must fit into the 12 cores of the cluster, got 13"):
        Cluster(cores=13).room({"CPU": 12}, "auto")


def test_without_ray_one_line_says_how_to_get_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^--engine ray needs Ray: pip install 'mpfgvc\[ray\]'$"):
        list(compute_with_ray(job, [0], Cluster()))


def test_an_address_where_nobody_listens_is_refused_at_once(job: Job) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mpfgvc[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"nobody answers at {address}: .*; check --address"):
            list(compute_with_ray(job, [0], Cluster(address=address)))


def test_an_error_of_a_user_comes_back_as_a_value(job: Job) -> None:
    (row,) = [PartActor(job, 1)({"part": [1]})]
    assert (row["photographs"], row["kind"]) == ([0], ["CheckpointError"])
    assert row["line"][0].startswith("there is no folder /nowhere/birds")
