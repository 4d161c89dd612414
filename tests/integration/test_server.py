"""The server over real connections: every route, every limit, and what it does with bad requests."""

import gc
import io
import json
import re
import socket
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.loopback_server import BROKEN_PIXEL, CLASSES, ColorModel, Running, form, photograph, running

from mpfgvc.deploy.server import run as server_module
from mpfgvc.deploy.server.documents import ExplainDocument, PhotographsDocument

TOKEN = "a-token-for-tests"  # noqa: S105  # a token of nothing
FORM = {"content-type": "multipart/form-data; boundary=x"}
HEAD_OF_A_FILE = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
CUT = photograph("red", size=(200, 200), kind="JPEG")[:900]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(timeout=20, max_megabytes=2, max_megapixels=1, max_photographs=3) as started:
        yield started


def asked(server: Running, *contents: bytes, path: str = "/classify") -> list[Any]:
    """What is answered about photographs."""
    answer = server.client.post(path, files=form(*contents))
    assert answer.status_code == 200, answer.text
    PhotographsDocument.model_validate(answer.json())
    found: list[Any] = answer.json()["photographs"]
    return found


def send_later(pool: ThreadPoolExecutor, started: Running, *contents: bytes) -> Any:
    return pool.submit(httpx.post, f"{started.url}/classify", files=form(*contents), timeout=20)


def connect(started: Running) -> socket.socket:
    host, port = started.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def in_flight(started: Running) -> int:
    count: int = started.app.state.service.capacity.photographs
    return count


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_classify_ranks_the_classes_of_each_photograph_in_their_order(server: Running) -> None:
    first, second = asked(server, photograph("red"), photograph("lime", kind="JPEG"), path="/classify?top=2")
    assert (first["name"], first["answer"], len(first["guesses"])) == ("0.png", "red", 2)
    assert first["guesses"][0]["probability"] == pytest.approx(255 / 256, abs=1e-4)
    assert (second["name"], second["answer"]) == ("1.png", "green")
    assert set(first) == {"name", "answer", "level", "guesses"}


@pytest.mark.parametrize(
    ("options", "red", "expected"),
    [  # probabilities are about red, 60, 20 of 200
        ("set=0.95", 120, {"set": ["red", "green"], "answer": "red"}),
        ("set=0.8", 120, {"set": ["red"]}),
        ("abstain=0.1", 124, {"answer": "red", "level": "class"}),
        ("abstain=0.1", 116, {"answer": None, "level": None}),
        ("within=blue&within=green", 120, {"answer": "green"}),
    ],
)
def test_an_answer_keeps_the_rules_that_are_asked_for(
    server: Running, options: str, red: int, expected: dict[str, object]
) -> None:
    (found,) = asked(server, photograph((red, 60, 20)), path=f"/classify?{options}")
    assert found == found | expected
    within = "within" in options
    assert [guess["label"] for guess in found["guesses"][:2]] == (["green", "blue"] if within else ["red", "green"])
    assert found["guesses"][0]["probability"] == pytest.approx(0.75 if within else 0.6, abs=0.02)


@pytest.mark.parametrize("options", ["within=mauve", "abstain=0.1&back_off=true", "back_off=true", "set=1"])
def test_rules_that_cannot_be_kept_are_refused_in_one_line(server: Running, options: str) -> None:
    answer = server.client.post(f"/classify?{options}", files=form(photograph("red")))
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_embed_gives_the_embedding_and_the_digest_of_the_model(server: Running) -> None:
    document = server.client.post("/embed", files=form(photograph((9, 8, 7)))).json()
    assert document == {"digest": "0" * 64, "photographs": [{"name": "0.png", "embedding": [9, 8, 7]}]}


def test_explain_gives_patches_attention_and_evidence_and_a_picture(server: Running) -> None:
    files = form(photograph("red"))
    document = server.client.post("/explain?top=1&view=16", files=files).json()
    ExplainDocument.model_validate(document)
    assert document.pop("view").startswith("data:image/jpeg;base64,")
    assert document == {
        "name": "0.png",
        "guesses": [{"label": "red", "probability": pytest.approx(255 / 256)}],
        "grid": [2, 3],
        "kept": [[0, 0], [1, 2]],
        "attention": [[0.166667] * 3] * 2,
        "chosen_by": "attention",
        "evidence": {"answer": "red", "against": "green", "difference": 2.0, "change": [0.5, -0.25]},
    }
    assert server.client.post("/explain", files=files).json()["view"] is None
    drawn = server.client.post("/explain?format=png", files=files)
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).format == "PNG"


def test_class_names_that_utf_8_lacks_arrive_as_escapes(server: Running) -> None:
    answer = server.client.get("/classes")
    assert answer.json() == {"digest": "0" * 64, "classes": list(CLASSES)}
    assert answer.content.isascii()
    assert asked(server, photograph("black"))[0]["answer"] == CLASSES[3]


def test_health_ready_and_metrics_tell_how_it_goes(server: Running) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {"status": "ready"}
    asked(server, photograph("red"), b"no photograph")
    server.client.get("/nowhere/at/all")
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    for name in (
        'mpfgvc_requests_total{route="/classify",status="200"}',
        'mpfgvc_requests_total{route="other",status="404"}',
        'mpfgvc_photographs_total{outcome="unreadable"}',
        "mpfgvc_batch_photographs_count",
        "process_resident_memory_bytes",
    ):
        assert float(values[name]) >= 1
    assert float(values["mpfgvc_photographs_inside"]) == 0
    assert "nowhere" not in answer.text


def test_a_photograph_that_cannot_be_read_does_not_hurt_its_neighbours(server: Running) -> None:
    first, broken, last = asked(server, photograph("red"), CUT, photograph("blue"))
    assert (first["answer"], last["answer"]) == ("red", "blue")
    assert set(broken) == {"name", "error"}
    assert broken["error"].startswith("cannot read the given image: ")


def test_an_error_of_the_model_about_one_photograph_is_a_500_of_that_request_only() -> None:
    colors = (BROKEN_PIXEL, (200, 0, 0), (0, 200, 0))
    with running(wait=300) as started, ThreadPoolExecutor(3) as pool:
        broken, *others = [send_later(pool, started, photograph(color)) for color in colors]
        assert broken.result().status_code == 500
        assert "not finite" in broken.result().json()["error"]
        assert [other.result().json()["photographs"][0]["answer"] for other in others] == ["red", "green"]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 422, "the file is empty"),
        (b"https://example.org/bird.jpg", 422, "not an image of a known format"),
        (CUT, 422, "truncated"),
        (photograph()[:-30], 422, "cannot read the given image"),
        (png_that_claims(60_000, 60_000), 422, "megapixels are more than 250"),
        (png_that_claims(8_000, 5_000), 413, "8000 x 5000 pixels are more than 1 megapixels"),
        (png_that_claims(50, 50_000), 422, "more elongated than"),
        (photograph(size=(1200, 900)), 413, "1200 x 900 pixels are more than 1 megapixels"),
    ],
)
def test_what_is_no_photograph_within_the_limits_is_refused_in_one_line(
    server: Running, content: bytes, status: int, reason: str
) -> None:
    answer = server.client.post("/classify", files=form(content))
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"content": b""}, 415, "got none; send the photograph as multipart/form-data"),
        ({"json": {"url": "https://example.org/bird.jpg"}}, 415, "got application/json"),
        ({"content": photograph(), "headers": {"content-type": "image/png"}}, 415, "got image/png"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "names no boundary"),
        ({"content": b"", "headers": FORM}, 400, "no file"),
        ({"content": b"junk", "headers": FORM}, 400, "form cannot"),
        ({"data": {"photograph": "https://a/b.jpg"}, "files": form(photograph())}, 400, "fetches nothing"),
        ({"files": form(*[photograph()] * 4)}, 413, "at most 3 photographs a request"),
        ({"url": "/explain", "files": form(*[photograph()] * 2)}, 413, "at most one photograph a request"),
        ({"files": form(b"x" * 2_100_000)}, 413, "more than 2 MB"),
        ({"params": {"top": "0"}, "files": form(photograph())}, 422, "top: "),
        ({"params": {"tops": "3"}, "files": form(photograph())}, 422, "tops: is not an option"),
        ({"params": {"url": "https://a/b"}, "files": form(photograph())}, 422, "fetches nothing"),
        ({"params": {"set": "nan"}, "files": form(photograph())}, 422, "set: "),
        ({"url": "/nowhere"}, 404, "Not Found"),
        ({"url": "/classes"}, 405, "Method Not Allowed"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(
    server: Running, request_: dict[str, Any], status: int, reason: str
) -> None:
    answer = server.client.post(**{"url": "/classify"} | request_)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert reason in answer.json()["error"]


def test_a_body_without_a_length_is_refused_when_it_has_grown_too_large(server: Running) -> None:
    answer = server.client.post("/classify", content=iter([HEAD_OF_A_FILE, *[b"\0" * 100_000] * 40]), headers=FORM)
    line = "the request has more than 2 MB; scale the photographs down"
    assert (answer.status_code, answer.json()) == (413, {"error": line})


def test_a_huge_head_is_refused_and_the_server_goes_on(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
        assert b" 400 " in connection.recv(100)
    assert server.client.get("/health").status_code == 200


def test_only_who_has_the_token_gets_an_answer() -> None:
    def statuses(headers: dict[str, Any]) -> list[int]:
        answers = [started.client.get(path, headers=headers) for path in ("/classes", "/metrics")]
        answers.append(started.client.post("/classify", files=form(photograph()), headers=headers))
        assert {answer.headers.get("www-authenticate") for answer in answers if answer.is_error} <= {"Bearer"}
        return [answer.status_code for answer in answers]

    with running(token=TOKEN) as started:
        for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é".encode("latin-1")):
            assert statuses({"Authorization": wrong}) == [401, 401, 401]
        assert statuses({}) == [401, 401, 401]
        assert statuses({"Authorization": f"Bearer {TOKEN}"}) == [200, 200, 200]
        assert [started.client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]


def test_only_pages_of_named_sites_may_read_the_answers() -> None:
    friend, other = {"Origin": "https://lab.example"}, {"Origin": "https://lab.example.evil.org"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = "access-control-allow-origin"
    with running(token=TOKEN, origins=["https://lab.example"]) as started:
        before = started.client.options("/classify", headers=friend | asks)
        assert (before.status_code, before.headers[allowed]) == (200, "https://lab.example")
        assert started.client.get("/classes", headers=friend).headers[allowed] == "https://lab.example"
        assert started.client.options("/classify", headers=other | asks).status_code == 400
        assert allowed not in started.client.get("/health", headers=other).headers
    with running() as started:
        assert allowed not in started.client.get("/health", headers=friend).headers
        assert started.client.options("/classify", headers=friend | asks).status_code == 405


def test_a_full_server_answers_503_with_the_time_to_wait_and_then_goes_on() -> None:
    with running(queue=2, wait=0) as started, ThreadPoolExecutor(2) as pool:
        started.model.free.clear()
        inside = [send_later(pool, started, photograph()) for _ in range(2)]
        wait_until(lambda: in_flight(started) == 2)
        refused = started.client.post("/classify", files=form(photograph()))
        assert refused.status_code == 503
        assert re.fullmatch(r"\d+", refused.headers["retry-after"])
        assert refused.json()["error"].startswith("busy: 2 of 2 photographs are in flight")
        assert [started.client.get(path).status_code for path in ("/ready", "/health")] == [503, 200]
        started.model.free.set()
        assert [answer.result().status_code for answer in inside] == [200, 200]
        asked(started, photograph())


def test_an_answer_that_takes_too_long_is_a_504_and_a_stuck_model_is_not_healthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(timeout=0.4, queue=1) as started:
        started.model.free.clear()
        assert started.client.post("/classify", files=form(photograph())).status_code == 504
        assert started.client.get("/health").status_code == 200
        wait_until(lambda: in_flight(started) == 0)
        wait_until(lambda: started.client.get("/health").status_code == 503)
        assert "the model has been at one batch for 1 seconds" in started.client.get("/health").json()["error"]
        started.model.free.set()
        wait_until(lambda: started.client.get("/health").status_code == 200)
        gc.collect()
        assert [record for record in caplog.records if record.name != "httpx"] == []


def test_an_upload_that_takes_too_long_is_a_408() -> None:
    def slow() -> Iterator[bytes]:
        yield HEAD_OF_A_FILE
        time.sleep(1.0)
        yield b"\0"

    with running(timeout=0.4) as started:
        answer = started.client.post("/classify", content=slow(), headers=FORM)
        assert (answer.status_code, answer.json()["error"]) == (408, "the upload took more than 0.4 seconds")


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    with running(wait=0, batch_size=1) as started:
        started.model.free.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{started.url}/classify", files=form(photograph(), photograph()), timeout=0.5)
        wait_until(lambda: in_flight(started) == 0)
        started.model.free.set()
        asked(started, photograph())
        assert sum(started.model.batches) <= 2  # one was in the model already, the other was given up


def test_a_client_that_never_finishes_its_head_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    with running() as started:
        with connect(started) as silent:
            assert silent.recv(1000) == b""
        with connect(started) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            connection.settimeout(0.1)
            for _ in range(50):  # a byte now and then, so that the connection is never idle
                with suppress(TimeoutError):
                    connection.sendall(b"G")
                    if not connection.recv(1000):
                        return
        raise AssertionError("it was never disconnected")


def test_no_upload_is_written_to_disk(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled: list[object] = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rolled.append)
    content = photograph("red", size=(700, 700), kind="BMP")  # above the megabyte that starlette would keep
    assert len(content) > 1_400_000
    assert (asked(server, content)[0]["answer"], rolled) == ("red", [])


def test_photographs_of_many_clients_share_batches() -> None:
    model = ColorModel()
    with running(model, wait=200, batch_size=16) as started, ThreadPoolExecutor(24) as pool:
        answers = [send_later(pool, started, photograph()) for _ in range(24)]
        assert {answer.result().status_code for answer in answers} == {200}
    assert sum(model.batches) == 24
    assert max(model.batches) >= 8


def test_the_openapi_document_describes_every_route(server: Running) -> None:
    document = json.loads(server.client.get("/openapi.json").content)
    assert set(document["paths"]) == {*("/classify", "/explain", "/embed", "/classes", "/health", "/ready", "/metrics")}
    classify = document["paths"]["/classify"]["post"]
    assert list(classify["requestBody"]["content"]) == ["multipart/form-data"]
    assert {"200", "4XX", "5XX"} <= set(classify["responses"])
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
