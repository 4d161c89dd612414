"""Jobs on a Ray cluster: the rows of this machine, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from mpfgvc.errors import CheckpointError, DataError
from mpfgvc.scale.jobs import Job, Task, open_job
from mpfgvc.scale.ray_engine import Cluster, compute_with_ray

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'mpfgvc[ray]'"),
    pytest.mark.ray,
    pytest.mark.timeout(600),
]
Cli = Callable[..., tuple[int, str, str]]
STARTS = (
    "import ray, sys, time\n"
    "ray.init(address='local', num_cpus=2, include_dashboard=False, object_store_memory=128 * 2**20,\n"
    "         _temp_dir=sys.argv[1], log_to_driver=False)\n"
    "print(ray.get_runtime_context().gcs_address, flush=True)\n"
    "time.sleep(3600)\n"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of this machine that is only for these tests."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        words = [sys.executable, "-c", STARTS, folder]  # pytest's own folders are too deep for its sockets
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("RAY_worker_niceness", "0")
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                yield process.stdout.readline().strip()
                process.kill()


@pytest.fixture
def many(photos: Path, tmp_path: Path) -> Path:
    """48 photographs in three folders, and one that is broken."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "photos").symlink_to(photos)
    return tmp_path


@pytest.fixture
def words(finished: Path, many: Path) -> list[str]:
    """A command without the folder to write."""
    return ["predict", str(finished), f"{many}/photos", f"{many}/broken.png", "--part-size", "4"]


@pytest.fixture
def expected(cli: Cli, words: list[str], tmp_path: Path) -> object:
    """The rows that this machine writes."""
    assert cli(*words, "-o", tmp_path / "plain")[0] == 2
    return parquet.read_table(tmp_path / "plain")


def test_the_rows_are_those_of_one_machine(
    cli: Cli, cluster: str, words: list[str], expected: object, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = cli(*words, "-o", out, *_on(cluster))
    assert (code, stdout) == (2, f"guesses  {out}, 49 photographs in 13 files\n")
    assert "1 of 49 photographs cannot be read" in stderr
    assert parquet.read_table(out).equals(expected)
    assert sorted(file.name for file in out.iterdir() if file.name.startswith(".")) == []
    code, stdout, _ = cli(*words, "-o", out)  # nothing is left to do, with or without Ray
    assert (code, stdout) == (2, f"guesses  {out}, 49 photographs in 13 files\n")


def test_an_actor_that_is_killed_is_replaced_and_no_row_is_lost_or_doubled(
    cluster: str, finished: Path, many: Path, expected: object, tmp_path: Path
) -> None:
    killed = []
    with _job(tmp_path / "out", finished, many) as job:
        for _ in compute_with_ray(job, job.missing(), Cluster(address=cluster, actors=2)):
            if len(killed) < 2:
                killed += _actors()[:1]
                os.kill(killed[-1], signal.SIGKILL)
        assert job.missing() == []
    assert len(set(killed)) == 2
    assert parquet.read_table(tmp_path / "out").equals(expected)


def test_what_stops_an_actor_is_one_line(cli: Cli, cluster: str, finished: Path, many: Path, tmp_path: Path) -> None:
    with _job(tmp_path / "out", finished, many) as job:
        begun = tmp_path / "out" / "_job.json"
        begun.write_text(json.dumps(json.loads(begun.read_text()) | {"part_size": 5}))
        with pytest.raises(CheckpointError, match="is not the folder of this job any more"):
            list(compute_with_ray(job, job.missing(), Cluster(address=cluster, actors=1)))


def test_a_part_that_kills_its_process_every_time_ends_the_job(
    cluster: str, finished: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly:
        def __init__(self, *_: object) -> None: ...

        def __call__(self, batch: object) -> object:
            os._exit(1)

    monkeypatch.setattr("mpfgvc.scale.ray_engine.PartActor", Deadly)
    with _job(tmp_path / "out", finished, many) as job, pytest.raises(DataError, match="ended its process 4 times"):
        list(compute_with_ray(job, [0], Cluster(address=cluster, actors=1)))


def _on(cluster: str) -> list[str]:
    """The words for one actor; two take twice as long to start on one core."""
    return ["--engine", "ray", "--address", cluster, "--actors", "1"]


@contextmanager
def _job(out: Path, finished: Path, many: Path) -> Iterator[Job]:
    """What `words` ask for."""
    from mpfgvc.data.listing import photo_names

    names = photo_names([f"{many}/photos", f"{many}/broken.png"], lambda _: None)
    with open_job(out, Task(what="guesses", model=str(finished)).begun()[0], names, part_size=4) as job:
        yield job


def _actors() -> list[int]:
    """The processes of PartActor on this machine that descend from this one."""
    processes = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return [process for process in processes if _is_ours(process)]


def _is_ours(process: int) -> bool:
    try:
        if not Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::MapWorker"):
            return False
        while process > 1 and process != os.getpid():
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return False
    return process == os.getpid()
