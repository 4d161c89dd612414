"""The server over real connections: every route, every limit, and what it does with bad requests."""

import asyncio
import io
import json
import re
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest
from PIL import Image
from tests.loopback_server import BROKEN_PIXEL, CLASSES, ColorModel, Running, form, photograph, running

from mpfgvc.deploy.server import run as server_module

TOKEN = "a-token-for-tests"  # noqa: S105  # a token of nothing

FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(timeout=20, max_megabytes=2, max_megapixels=1, max_photographs=3) as started:
        yield started


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises so many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_classify_ranks_the_classes_of_each_photograph_in_their_order(server: Running) -> None:
    answer = server.client.post("/classify?top=2", files=form(photograph("red"), photograph("lime", kind="JPEG")))
    assert answer.status_code == 200
    first, second = answer.json()["photographs"]
    assert (first["name"], first["answer"], len(first["guesses"])) == ("0.png", "red", 2)
    assert first["guesses"][0]["probability"] == pytest.approx(255 / 256, abs=1e-4)
    assert (second["name"], second["answer"]) == ("1.png", "green")
    assert set(first) == {"name", "answer", "level", "guesses"}


def test_a_set_holds_the_classes_that_the_calibration_asks_for(server: Running) -> None:
    files = form(photograph((120, 60, 20)))  # 0.597, 0.299, 0.0995, 0.005
    (found,) = server.client.post("/classify?set=0.95", files=files).json()["photographs"]
    assert found["set"] == ["red", "green"]
    (found,) = server.client.post("/classify?set=0.8", files=files).json()["photographs"]
    assert found["set"] == ["red"]


def test_an_answer_that_is_not_sure_enough_is_null_beside_its_guesses(server: Running) -> None:
    sure, unsure = form(photograph((124, 60, 20))), form(photograph((116, 60, 20)))
    (answered,) = server.client.post("/classify?abstain=0.1", files=sure).json()["photographs"]
    assert (answered["answer"], answered["level"]) == ("red", "class")
    (open_one,) = server.client.post("/classify?abstain=0.1", files=unsure).json()["photographs"]
    assert (open_one["answer"], open_one["level"]) == (None, None)
    assert open_one["guesses"][0]["label"] == "red"


def test_within_leaves_only_the_named_classes(server: Running) -> None:
    files = form(photograph((120, 60, 20)))
    (found,) = server.client.post("/classify?within=green&within=blue", files=files).json()["photographs"]
    assert [each["label"] for each in found["guesses"]] == ["green", "blue"]
    assert found["guesses"][0]["probability"] == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("options", ["within=mauve", "abstain=0.1&back_off=true", "back_off=true", "set=1"])
def test_rules_that_cannot_be_kept_are_refused_in_one_line(server: Running, options: str) -> None:
    answer = server.client.post(f"/classify?{options}", files=form(photograph("red")))
    assert answer.status_code == 422
    assert set(answer.json()) == {"error"}


def test_embed_gives_the_embedding_and_the_digest_of_the_model(server: Running) -> None:
    document = server.client.post("/embed", files=form(photograph((9, 8, 7)))).json()
    assert document == {"digest": "0" * 64, "photographs": [{"name": "0.png", "embedding": [9, 8, 7]}]}


def test_explain_gives_patches_attention_and_evidence_and_a_picture(server: Running) -> None:
    files = form(photograph("red"))
    document = server.client.post("/explain?top=1&view=16", files=files).json()
    view = document.pop("view")
    assert document == {
        "name": "0.png",
        "guesses": [{"label": "red", "probability": pytest.approx(255 / 256)}],
        "grid": [2, 3],
        "kept": [[0, 0], [1, 2]],
        "attention": [[0.166667] * 3] * 2,
        "chosen_by": "attention",
        "evidence": {"answer": "red", "against": "green", "difference": 2.0, "change": [0.5, -0.25]},
    }
    assert view.startswith("data:image/jpeg;base64,")
    assert server.client.post("/explain", files=files).json()["view"] is None
    drawn = server.client.post("/explain?format=png", files=files)
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).format == "PNG"


def test_class_names_that_utf_8_lacks_arrive_as_escapes(server: Running) -> None:
    answer = server.client.get("/classes")
    assert answer.json() == {"digest": "0" * 64, "classes": list(CLASSES)}
    assert answer.content.isascii()
    (found,) = server.client.post("/classify", files=form(photograph("black"))).json()["photographs"]
    assert found["answer"] == CLASSES[3]


def test_health_ready_and_metrics_tell_how_it_goes(server: Running) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {"status": "ready"}
    server.client.post("/classify", files=form(photograph("red"), b"no photograph"))
    server.client.get("/nowhere/at/all")
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(values['mpfgvc_requests_total{route="/classify",status="200"}']) >= 1
    assert float(values['mpfgvc_requests_total{route="other",status="404"}']) >= 1
    assert float(values['mpfgvc_photographs_total{outcome="unreadable"}']) >= 1
    assert float(values["mpfgvc_batch_photographs_count"]) >= 1
    assert float(values["mpfgvc_photographs_inside"]) == 0
    assert float(values["process_resident_memory_bytes"]) > 1e6
    assert "nowhere" not in answer.text


def test_a_photograph_that_cannot_be_read_does_not_hurt_its_neighbours(server: Running) -> None:
    cut = photograph("red", size=(200, 200), kind="JPEG")[:900]
    first, broken, last = server.client.post(
        "/classify", files=form(photograph("red"), cut, photograph("blue"))
    ).json()["photographs"]
    assert (first["answer"], last["answer"]) == ("red", "blue")
    assert set(broken) == {"name", "error"}
    assert broken["error"].startswith("cannot read the given image: ")


def test_an_error_of_the_model_about_one_photograph_is_a_500_of_that_request_only() -> None:
    with running(wait=300) as started:
        codes = {}

        def ask(name: str, color: tuple[int, int, int]) -> None:
            codes[name] = httpx.post(f"{started.url}/classify", files=form(photograph(color)), timeout=20)

        threads = [
            threading.Thread(target=ask, args=each)
            for each in (("broken", BROKEN_PIXEL), ("good", (200, 0, 0)), ("better", (0, 200, 0)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes["broken"].status_code == 500
    assert "not finite" in codes["broken"].json()["error"]
    assert [codes[name].json()["photographs"][0]["answer"] for name in ("good", "better")] == ["red", "green"]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 422, "the file is empty"),
        (b"MZ no photograph", 422, "not an image of a known format"),
        (photograph(size=(200, 200), kind="JPEG")[:900], 422, "truncated"),
        (photograph()[:-30], 422, "cannot read the given image"),
        (png_that_claims(60_000, 60_000), 422, "megapixels are more than 250"),
        (png_that_claims(8_000, 5_000), 413, "8000 x 5000 pixels are more than 1 megapixels"),
        (png_that_claims(50, 50_000), 422, "more elongated than"),
        (photograph(size=(1200, 900)), 413, "1200 x 900 pixels are more than 1 megapixels"),
        (b"https://example.org/bird.jpg", 400, "this server fetches nothing"),
        (b"  file:///etc/passwd", 400, "this server fetches nothing"),
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
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "no file"),
        ({"content": b"junk", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "form cannot"),
        ({"data": {"photograph": "https://a/b.jpg"}, "files": form(photograph())}, 400, "fetches nothing"),
        ({"data": {"comment": "a bird"}, "files": form(photograph())}, 400, "is text, not a file"),
        ({"files": form(*[photograph()] * 4)}, 413, "at most 3 photographs a request"),
        ({"files": form(b"x" * 2_100_000)}, 413, "more than 2 MB"),
        ({"params": {"top": "0"}, "files": form(photograph())}, 422, "top: "),
        ({"params": {"tops": "3"}, "files": form(photograph())}, 422, "tops: is not an option"),
        ({"params": {"url": "https://a/b"}, "files": form(photograph())}, 422, "fetches nothing"),
        ({"params": {"set": "nan"}, "files": form(photograph())}, 422, "set: "),
    ],
)
def test_a_bad_request_is_refused_in_one_line(
    server: Running, request_: dict[str, object], status: int, reason: str
) -> None:
    answer = server.client.post("/classify", **request_)  # type: ignore[arg-type]
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert reason in answer.json()["error"]


def test_a_body_without_a_length_is_refused_when_it_has_grown_too_large(server: Running) -> None:
    boundary = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'

    def endless() -> Iterator[bytes]:
        yield boundary
        for _ in range(40):
            yield b"\0" * 100_000

    answer = server.client.post("/classify", content=endless(), headers=FORM)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "the request has more than 2 MB; scale the photographs down"},
    )


def test_a_huge_head_is_refused_and_the_server_goes_on(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
        assert b" 400 " in connection.recv(100)
    assert server.client.get("/health").status_code == 200


def test_explain_takes_one_photograph_at_a_time(server: Running) -> None:
    answer = server.client.post("/explain", files=form(photograph(), photograph()))
    assert (answer.status_code, answer.json()["error"]) == (413, "one photograph at a time is explained, got 2")


def test_an_unknown_path_and_a_wrong_method_are_refused_like_all_else(server: Running) -> None:
    assert server.client.get("/docs").json() == {"error": "Not Found"}
    answer = server.client.get("/classify")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_only_who_has_the_token_gets_an_answer() -> None:
    with running(token=TOKEN) as started:
        paths = ["/classes", "/metrics"]
        sent = [{}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}]
        sent += [{"Authorization": "Bearer é".encode("latin-1")}]  # type: ignore[dict-item]
        for headers in sent:
            answers = [started.client.get(path, headers=headers) for path in paths]
            answers.append(started.client.post("/classify", files=form(photograph()), headers=headers))
            assert [each.status_code for each in answers] == [401, 401, 401]
            assert answers[0].headers["www-authenticate"] == "Bearer"
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert started.client.get("/classes", headers=good).status_code == 200
        assert started.client.post("/classify", files=form(photograph()), headers=good).status_code == 200
        assert [started.client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]


def test_a_full_server_answers_503_with_the_time_to_wait_and_then_goes_on() -> None:
    with running(queue=2, wait=0) as started:
        started.model.free.clear()
        codes: list[int] = []
        inside = [
            threading.Thread(
                target=lambda: codes.append(
                    httpx.post(f"{started.url}/classify", files=form(photograph()), timeout=20).status_code
                )
            )
            for _ in range(2)
        ]
        for thread in inside:
            thread.start()
        _wait_until(lambda: started.app.state.desk.places.photographs == 2)
        refused = started.client.post("/classify", files=form(photograph()))
        assert refused.status_code == 503
        assert re.fullmatch(r"\d+", refused.headers["retry-after"])
        assert refused.json()["error"].startswith("busy: 2 of 2 places are taken")
        assert started.client.get("/ready").status_code == 503
        assert started.client.get("/health").status_code == 200
        started.model.free.set()
        for thread in inside:
            thread.join()
        assert codes == [200, 200]
        assert started.client.post("/classify", files=form(photograph())).status_code == 200


def test_an_answer_that_takes_too_long_is_a_504_and_gives_its_place_back() -> None:
    with running(timeout=0.4, queue=1) as started:
        started.model.free.clear()
        assert started.client.post("/classify", files=form(photograph())).status_code == 504
        _wait_until(lambda: started.app.state.desk.places.photographs == 0)


def test_an_upload_that_takes_too_long_is_a_408() -> None:
    with running(timeout=0.4) as started:

        def slow() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
            time.sleep(1.0)
            yield b"\0"

        answer = started.client.post("/classify", content=slow(), headers=FORM)
        assert (answer.status_code, answer.json()["error"]) == (408, "the upload took more than 0.4 seconds")


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    with running(wait=0, batch_size=1) as started:
        started.model.free.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{started.url}/classify", files=form(photograph(), photograph()), timeout=0.5)
        _wait_until(lambda: started.app.state.desk.places.photographs == 0)
        started.model.free.set()
        assert started.client.post("/classify", files=form(photograph())).status_code == 200
        assert sum(started.model.batches) <= 2  # one was in the model already, the other was given up


def test_a_client_that_never_finishes_its_head_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    with running() as started:
        host, port = started.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as silent:
            assert silent.recv(1000) == b""
        with socket.create_connection((host, int(port)), timeout=10) as connection:
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
    (found,) = server.client.post("/classify", files=form(content)).json()["photographs"]
    assert (found["answer"], rolled) == ("red", [])


def test_photographs_of_many_clients_share_batches() -> None:
    model = ColorModel()
    with running(model, wait=200, batch_size=16) as started:

        async def ask_all() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=started.url, timeout=20, trust_env=False) as client:
                asked = [client.post("/classify", files=form(photograph())) for _ in range(24)]
                return await asyncio.gather(*asked)

        answers = asyncio.run(ask_all())
    assert {each.status_code for each in answers} == {200}
    assert sum(model.batches) == 24
    assert max(model.batches) >= 8


def test_the_openapi_document_describes_every_route(server: Running) -> None:
    document = json.loads(server.client.get("/openapi.json").content)
    assert set(document["paths"]) == {*("/classify", "/explain", "/embed", "/classes", "/health", "/ready", "/metrics")}
    upload = document["paths"]["/classify"]["post"]["requestBody"]["content"]
    assert list(upload) == ["multipart/form-data"]
    assert "503" in document["paths"]["/classify"]["post"]["responses"]
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def _wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)
