"""Requests made from the server's own OpenAPI document, and from junk: every answer is as described, and no 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
from tests.loopback_server import Running, form, photograph, running

LATIN = st.characters(max_codepoint=255, exclude_categories=["C"])
BOUNDED: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(max_megabytes=1, timeout=10) as started:
        yield started


@pytest.fixture(scope="module")
def described(server: Running) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("route", ["POST /classify", "POST /explain", "POST /embed", "GET /classes", "GET /health"])
def test_no_request_of_the_description_is_a_server_error(described: Any, route: str) -> None:
    method, path = route.split()

    @given(case=described[path][method].as_strategy())
    @settings(max_examples=40, **BOUNDED)
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

    ask()


@given(body=st.binary(max_size=300), kind=st.text(LATIN, max_size=60))
@settings(max_examples=60, **BOUNDED)
def test_no_junk_is_a_server_error(server: Running, body: bytes, kind: str) -> None:
    for content_type in (kind, "multipart/form-data; boundary=x"):
        whole = b"--x\r\n" + body if "boundary" in content_type else body
        headers = {"content-type": content_type.strip().encode("latin-1")}
        answer = server.client.post("/classify", content=whole, headers=headers)
        assert 400 <= answer.status_code < 500
        assert set(answer.json()) == {"error"}


@given(start=st.integers(0, 400), byte=st.binary(min_size=1, max_size=4))
@settings(max_examples=60, **BOUNDED)
def test_no_damaged_photograph_is_a_server_error(server: Running, start: int, byte: bytes) -> None:
    content = bytearray(photograph(size=(40, 40), kind="JPEG"))
    content[start : start + len(byte)] = byte
    answer = server.client.post("/classify", files=form(bytes(content)))
    assert answer.status_code in (200, 413, 422)
