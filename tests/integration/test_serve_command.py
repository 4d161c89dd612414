"""`mpfgvc serve` as a process: a trained run behind HTTP, refusals before it starts, and how it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.loopback_server import form, photograph

from mpfgvc import Predictor, export

Cli = Callable[..., tuple[int, str, str]]


@contextmanager
def serving(
    *words: object, program: Sequence[str] = ("-m", "mpfgvc"), **variables: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`mpfgvc serve` with these words on a free port, until the end of the block: its address and process."""
    process = subprocess.Popen(
        [sys.executable, *program, "serve", "--port", "0", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        preexec_fn=_hear_interrupts,
    )
    try:
        assert process.stdout is not None
        head = "".join(iter(process.stdout.readline, "}\n")) + "}"
        url = json.loads(head)["url"]
        transport = httpx.HTTPTransport(retries=100)  # the socket is bound, and listens a moment later
        httpx.Client(transport=transport, trust_env=False, timeout=60).get(f"{url}/health")
        yield url, process
    finally:
        process.kill()
        process.communicate()


def test_an_exported_model_is_served_without_torch(finished: Path, photos: Path, tmp_path: Path) -> None:
    file = next((photos / "test" / "disc").iterdir())
    model = export(finished, tmp_path / "run.onnx").path
    (expected,) = Predictor.from_pretrained(finished, device="cpu")([file])
    no_torch = "import sys; sys.modules['torch'] = None; from mpfgvc.cli.main import main; sys.exit(main())"
    with serving(model, program=("-c", no_torch)) as (url, _):
        parts = {"photograph": file.read_bytes()}
        (found,) = httpx.post(f"{url}/classify", files=parts, timeout=60).json()["photographs"]
        assert found["answer"] == expected[0].label
        assert found["guesses"][0]["probability"] == pytest.approx(expected[0].probability, abs=1e-4)
        assert httpx.post(f"{url}/explain", files=parts, timeout=60).status_code == 501
        assert httpx.get(f"{url}/classes").json()["digest"] == Predictor.from_pretrained(finished).digest


def test_a_run_is_served_as_predict_and_explain_answer_and_stops_when_told(finished: Path, photos: Path) -> None:
    files = sorted((photos / "test" / "disc").iterdir())[:3]
    predictor = Predictor.from_pretrained(finished)
    parts = [("photograph", (file.name, file.read_bytes())) for file in files]
    with (
        serving(finished, "--device", "cpu", MPFGVC_TOKEN="a-secret-of-tests") as (url, process),  # noqa: S106
        httpx.Client(base_url=url, timeout=60, headers={"Authorization": "Bearer a-secret-of-tests"}) as client,
    ):
        assert httpx.get(f"{url}/classes").status_code == 401
        elsewhere = client.get("/classes", headers={"Host": "rebound.example.org"})
        assert (elsewhere.status_code, "answers only as 127.0.0.1" in elsewhere.json()["error"]) == (421, True)
        found = client.post("/classify", files=parts).json()["photographs"]
        for answer, guesses in zip(found, predictor(files), strict=True):
            expected = {guess.label: pytest.approx(guess.probability, abs=1e-5) for guess in guesses}
            assert {guess["label"]: guess["probability"] for guess in answer["guesses"]} == expected
        embedded = client.post("/embed", files=parts).json()
        assert embedded["digest"] == predictor.digest
        vectors = np.array([row["embedding"] for row in embedded["photographs"]])
        np.testing.assert_allclose(vectors, predictor.embed(files), atol=1e-4)
        explained = client.post("/explain?view=48", files=parts[:1]).json()
        why = predictor.explain(files[0])
        assert explained["kept"] == [list(patch) for patch in why.kept]
        np.testing.assert_allclose(explained["attention"], why.attention, atol=1e-5)
        assert explained["evidence"]["answer"] == why.answer
        assert explained["evidence"]["against"] == why.against
        np.testing.assert_allclose(explained["evidence"]["change"], why.change, atol=1e-4)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors == "mpfgvc: stopped; every request that was accepted has been answered\n"


def test_what_was_sent_before_the_stop_is_answered_and_the_next_is_refused(finished: Path, photos: Path) -> None:
    """The process is halted while clients send, as on a busy machine, and told to stop before it goes on."""
    content = (photos / "test" / "disc" / "0.png").read_bytes()
    request = httpx.Request("POST", "http://localhost/classify", files={"photograph": content})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    sent = f"POST /classify HTTP/1.1\r\n{head}\r\n".encode() + request.read()
    with serving(finished, "--device", "cpu", "--wait", "300") as (url, process), ExitStack() as stack:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        connect = lambda: stack.enter_context(socket.create_connection(address, timeout=60))  # noqa: E731
        kept = [connect() for _ in range(8)]
        for connection in kept:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while b'{"status": "ok"}' not in connection.recv(1000):
                pass
        process.send_signal(signal.SIGSTOP)
        clients = kept + [connect() for _ in range(100)]
        for connection in clients:
            connection.sendall(sent)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        answers = [connection.recv(12) for connection in clients]
        assert answers == [b"HTTP/1.1 200"] * 108
        assert process.wait(60) == 130
        with pytest.raises(ConnectionRefusedError):
            connect()


STUCK = """
import sys, time
from tests.loopback_server import Colors, ColorModel
from mpfgvc.deploy.server.app import create_app
from mpfgvc.deploy.server.run import address, listen, run
from mpfgvc.deploy.server.settings import Limits
setattr(Colors, sys.argv[1], lambda *_: time.sleep(300))
bound = listen("127.0.0.1", 0)
print(address(bound), flush=True)
run(create_app(ColorModel(), limits=Limits(timeout=1)), bound, stop_seconds=1)
"""


@pytest.mark.parametrize("where", ["prepare", "run"])
def test_a_photograph_or_a_model_that_takes_for_ever_cannot_hold_up_the_stop(where: str) -> None:
    """`prepare` runs where photographs are decoded, `run` in the model's thread."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, where],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        transport = httpx.HTTPTransport(retries=100)
        with httpx.Client(transport=transport, trust_env=False, timeout=60) as client:
            assert client.post(f"{url}/classify", files=form(photograph())).status_code == 504
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port", "70000"], "--port must be 0 to 65535, got 70000"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7 port 8000: "),
        (["--queue", "0"], "--queue must be at least 1, got 0"),
        (["--max-megapixels", "nan"], "--max-megapixels must be above 0, got nan"),
        (["--token", "short"], "--token must be at least 8 printable ASCII characters without a space, got"),
        (["--wait", "-1"], "--wait must be 0 to 10000 ms, got -1"),
        (["--origin", "lab.example/"], "--origin must be an address such as https://lab.example, got lab.example/"),
        (["--origin", "*"], "--origin must be an address such as https://lab.example, got *"),
        (["--port", "0"], "there is no folder no/such/run"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line_before_a_model_is_read(
    cli: Cli, words: list[str], line: str
) -> None:
    code, stdout, stderr = cli("serve", "no/such/run", *words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert line in stderr


def test_a_port_that_is_taken_is_refused_in_one_line(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, stderr = cli("serve", "no/such/run", "--port", port)
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another" in stderr


def test_a_missing_package_names_the_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, stderr = cli("serve", "no/such/run")
    assert (code, stderr) == (2, "mpfgvc: a server needs uvicorn: pip install uvicorn, or the extra serve\n")


def test_the_part_that_the_model_sees_lies_where_it_says(finished: Path) -> None:
    model = Predictor.from_pretrained(finished)
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("lime", (100, 0, 200, 100))
    colors = model.view(wide).getcolors()
    assert colors is not None
    assert max(colors)[1] == (0, 255, 0)


def _hear_interrupts() -> None:
    """As in a terminal: what a shell runs in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
