"""The file of docs/serve-many.md, deployed by `mpfgvc serve serve.yaml`: answers, updates, a crash, a crowd.

The tests share a cluster of their own, on this machine, and run in the order of this file.
"""

import io
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from tests.loopback_server import free_port
from tests.readme.blocks import blocks_of

from mpfgvc import Config, Guess, Predictor, export, train
from mpfgvc.deploy.runtime import Runtime

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve-many.md"
TOKEN = "a-secret-of-tests"  # noqa: S105
PATIENCE = 240.0
"""Seconds for anything that starts a process on a busy machine."""


@dataclass
class Served:
    """A server on a cluster of this machine, and the file that it was started with."""

    document: dict[str, Any]
    process: "subprocess.Popen[str]"
    cluster: httpx.Client
    client: httpx.Client
    photograph: bytes
    errors: list[str] = field(default_factory=list)

    def deploy(self, model: Path) -> None:
        """What `serve deploy` sends after the model was changed in the file."""
        document = deepcopy(self.document)
        document["applications"][0]["args"]["model"] = str(model)
        self.cluster.put("/api/serve/applications/", json=document).raise_for_status()

    def state(self) -> dict[str, Any]:
        """What the cluster says about the application."""
        document = self.cluster.get("/api/serve/applications/").raise_for_status().json()
        application: dict[str, Any] = document["applications"].get(
            "mpfgvc", {"status": "", "deployments": {}}
        )
        return application

    def replicas(self) -> list[int]:
        """The processes of the replicas that answer."""
        deployments = self.state()["deployments"]
        found = deployments["mpfgvc"]["replicas"] if deployments else []
        return [each["pid"] for each in found if each["state"] == "RUNNING"]

    def ask(self, client: httpx.Client | None = None) -> httpx.Response:
        """The answer about the photograph."""
        files = {"photograph": ("a.png", self.photograph)}
        return (client or self.client).post("/classify?top=3", files=files)

    def answer(self) -> list[float]:
        """The probabilities of the photograph."""
        return probabilities(self.ask())


def probabilities(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    guesses = response.json()["photographs"][0]["guesses"]
    return [each["probability"] for each in sorted(guesses, key=lambda each: each["label"])]


def wait_until(fine: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not fine():
        assert time.monotonic() < until, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.3)


@contextmanager
def crowd(served: Served, clients: int) -> Iterator[list[httpx.Response | Exception]]:
    """Clients that ask one question after the other until the end of the block; what they were told."""
    told: list[httpx.Response | Exception] = []
    over = threading.Event()

    def client() -> None:
        address, headers = served.client.base_url, served.client.headers
        with httpx.Client(base_url=address, headers=headers, timeout=PATIENCE, trust_env=False) as own:
            while not over.is_set():
                try:
                    told.append(served.ask(own))
                except httpx.HTTPError as error:
                    told.append(error)
                time.sleep(0.2)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


def refused(told: list[httpx.Response | Exception]) -> list[str]:
    """All that is not an answer."""
    return [
        str(each) if isinstance(each, Exception) else f"{each.status_code} {each.text}"
        for each in told
        if isinstance(each, Exception) or each.status_code != 200
    ]


@pytest.fixture(scope="module")
def other(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model whose answers differ from those of `finished`."""
    folder = tmp_path_factory.mktemp("runs")
    run = train(tiny({"seed": 1, "stage1.epochs": 1}), out=folder / "other")
    return export(run.path, folder / "other.onnx").path


@pytest.fixture(scope="module")
def served(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`mpfgvc serve serve.yaml` with the file of the page, and with small limits and short delays."""
    (block,) = [block for block in blocks_of(PAGE) if block.language == "yaml"]
    document = yaml.safe_load(block.text)
    port = free_port()
    document["http_options"] |= {"host": "127.0.0.1", "port": port, "request_timeout_s": PATIENCE}
    application = document["applications"][0]
    application["args"] |= {"model": str(finished), "device": "cpu"}
    application["args"]["limits"] |= {"queue": 4, "wait": 1000}  # a place is taken for a second
    deployment = application["deployments"][0]
    deployment["ray_actor_options"]["num_cpus"] = 0.5
    deployment["autoscaling_config"] |= {
        **{"max_replicas": 2, "target_ongoing_requests": 2.5},
        **{"upscale_delay_s": 1, "downscale_delay_s": 3, "metrics_interval_s": 1, "look_back_period_s": 2},
    }
    file = tmp_path_factory.mktemp("file") / "serve.yaml"
    file.write_text(yaml.safe_dump(document))
    key, folder = secrets.token_hex(32), tempfile.mkdtemp(prefix="ray")  # short: it holds Unix sockets
    process = subprocess.Popen(
        [sys.executable, "-m", "mpfgvc", "serve", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            **{"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MPFGVC_TOKEN": TOKEN},
            **{"RAY_ADDRESS": "local", "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": key},
            **{"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"},
        },
        preexec_fn=_hear_interrupts,
        start_new_session=True,
    )
    try:
        dashboard, lines = _dashboard(process)
        threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
        options: dict[str, Any] = {"timeout": PATIENCE, "trust_env": False}
        with (
            httpx.Client(base_url=dashboard, headers=_bearer(key), **options) as cluster,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=_bearer(TOKEN), **options) as client,
        ):
            made = Served(document, process, cluster, client, _photograph(), lines)
            over = ("RUNNING", "DEPLOY_FAILED")
            wait_until(lambda: made.state()["status"] in over, "the end of the deployment")
            assert client.get("/ready").status_code == 200, made.state()["message"]
            yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # Ray's own processes may outlive the one that started them
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_arguments_of_a_file_make_an_application(finished: Path) -> None:
    from mpfgvc.deploy.serve_many import application

    assert application({"model": str(finished), "token_from": None, "limits": {"queue": 3}})


def test_the_file_of_the_page_answers_as_the_predictor(served: Served, finished: Path) -> None:
    predictor = Predictor.from_pretrained(finished, device="cpu")
    assert served.answer() == pytest.approx(_expected(predictor, served.photograph), abs=1e-5)
    assert served.client.get("/classes").json()["digest"] == predictor.digest
    assert served.client.get("/health").json() == {"status": "ok"}
    assert served.client.get("/openapi.json").json()["info"]["title"] == "mpfgvc"
    assert 'route="/classify",status="200"' in served.client.get("/metrics").text
    assert served.client.get("/nothing").json() == {"error": "Not Found"}
    assert httpx.get(f"{served.client.base_url}/classes", trust_env=False).status_code == 401
    files = {"photograph": ("a.png", served.photograph)}
    explained = served.client.post("/explain?format=png", files=files)
    assert explained.content.startswith(b"\x89PNG")
    wrong = served.client.post("/classify?top=0", files=files)
    assert (wrong.status_code, list(wrong.json())) == (422, ["error"])


def test_a_model_is_exchanged_without_a_failed_request(served: Served, finished: Path, other: Path) -> None:
    before = _expected(Predictor.from_pretrained(finished, device="cpu"), served.photograph)
    after = _expected(Runtime(other).predict, served.photograph)
    assert np.abs(np.subtract(before, after)).max() > 1e-3
    with crowd(served, 2) as told:
        wait_until(lambda: len(told) > 2, "answers of the old model")
        served.deploy(other)
        wait_until(lambda: served.state()["status"] == "RUNNING", "the end of the update")
        done = len(told)
        wait_until(lambda: len(told) > done + 4, "answers after the update")
    assert refused(told) == []
    answers = [probabilities(each) for each in told if isinstance(each, httpx.Response)]
    old, new = ([each == pytest.approx(model, abs=1e-5) for each in answers] for model in (before, after))
    assert [is_old or is_new for is_old, is_new in zip(old, new, strict=True)] == [True] * len(answers)
    assert old[0]
    assert all(new[done + 2 :])  # two may have been under way
    files = {"photograph": ("a.png", served.photograph)}
    assert served.client.post("/explain", files=files).status_code == 501  # an exported model cannot


def test_an_update_that_cannot_work_leaves_the_model_before_at_work(served: Served, other: Path) -> None:
    answer = served.answer()
    served.deploy(other.parent / "nothing.onnx")
    wait_until(lambda: served.state()["status"] == "DEPLOY_FAILED", "the refusal")
    assert served.state()["message"].rstrip().splitlines()[-1].startswith("mpfgvc.errors.CheckpointError: ")
    assert served.answer() == answer
    served.deploy(other)
    wait_until(lambda: served.state()["status"] == "RUNNING", "the model before is deployed again")


def test_a_model_that_is_damaged_is_given_up_and_the_model_before_stays(
    served: Served, finished: Path, other: Path, tmp_path: Path
) -> None:
    weights = shutil.copytree(finished / "model", tmp_path / "broken") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = served.answer()
    served.deploy(weights.parent)
    wait_until(lambda: served.state()["status"] == "DEPLOY_FAILED", "the end of three attempts")
    assert f"{weights} is damaged" in str(served.state())
    assert served.answer() == answer
    served.deploy(other)
    wait_until(lambda: served.state()["status"] == "RUNNING", "the model before is deployed again")


def test_a_killed_replica_is_replaced_and_only_what_was_inside_fails(served: Served) -> None:
    wait_until(lambda: len(served.replicas()) == 1, "one replica")
    (killed,) = served.replicas()
    answer = served.answer()
    with crowd(served, 2) as told:
        wait_until(lambda: len(told) > 2, "answers")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: served.replicas() not in ([], [killed]), "another replica")
        done = len(told)
        wait_until(lambda: len(told) > done + 4, "answers of the new replica")
    failed = refused(told)
    assert len(failed) <= 2, failed
    assert all(each.startswith("500") for each in failed)
    assert served.answer() == answer


def test_a_crowd_brings_a_second_replica_and_is_told_when_to_come_again(served: Served) -> None:
    with crowd(served, 12) as told:
        wait_until(lambda: len(served.replicas()) == 2, f"a second replica; {served.state()}")
    wait_until(lambda: len(served.replicas()) == 1, "the second replica is stopped")
    others = [each for each in told if not isinstance(each, httpx.Response) or each.status_code != 200]
    assert others, "12 clients find no 4 + 4 places"
    for each in others:
        assert isinstance(each, httpx.Response)
        assert (each.status_code, int(each.headers["Retry-After"]) >= 1) == (503, True)


def test_interrupted_it_stops_everything(served: Served) -> None:
    pids = served.replicas()
    served.process.send_signal(signal.SIGINT)
    served.process.wait(PATIENCE)
    wait_until(lambda: not any(_is_alive(pid) for pid in pids), "the replicas end")
    with pytest.raises(httpx.TransportError):
        served.client.get("/health")


def _photograph() -> bytes:
    """Noise, about which no model is sure."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _expected(predict: Callable[..., list[Guess]], photograph: bytes) -> list[float]:
    """The probabilities of the classes, in the order of their names."""
    guesses = predict(Image.open(io.BytesIO(photograph)), top=3)
    return [guess.probability for guess in sorted(guesses, key=lambda guess: guess.label)]


def _dashboard(process: "subprocess.Popen[str]") -> tuple[str, list[str]]:
    """Where the cluster takes a new file, and the lines up to there."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if (found := re.search(r"dashboard at \S*?(http://[\d.]+:\d+)", line)) is not None:
            return found[1], lines
    raise AssertionError("".join(lines))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _hear_interrupts() -> None:
    """As in a terminal: what a shell runs in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
