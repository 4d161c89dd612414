"""The proxy of docs/serve-many.md before two servers: one stops, one is killed, and no request is lost."""

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.integration.test_serve_command import serving
from tests.loopback_server import form, free_port, photograph
from tests.readme.blocks import blocks_of

from mpfgvc import export

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve-many.md"
pytestmark = [pytest.mark.slow("three servers"), pytest.mark.skipif(NGINX is None, reason="needs nginx")]


@contextmanager
def proxy(folder: Path, ports: list[int]) -> Iterator[str]:
    """The address of the proxy of the page, before servers on these ports."""
    (block,) = [block for block in blocks_of(PAGE) if block.language == "nginx"]
    port, site = free_port(), block.text
    for named, used in zip(("listen 8000", "127.0.0.1:8001", "127.0.0.1:8002"), [port, *ports], strict=True):
        assert named in site
        site = site.replace(named, f"{'listen ' * named.startswith('listen')}127.0.0.1:{used}")
    paths = " ".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(f"daemon off; pid {folder}/pid; events {{}} http {{ access_log off; {paths}\n{site}}}\n")
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-c", str(file), "-e", "stderr", "-p", str(folder)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def ask_until(over: threading.Event, url: str, statuses: list[int]) -> None:
    content = photograph()
    with httpx.Client(transport=httpx.HTTPTransport(retries=20), timeout=60, trust_env=False) as client:
        while not over.is_set():
            statuses.append(client.post(f"{url}/classify", files=form(content)).status_code)


def answered(url: str) -> int:
    """Photographs that a server has answered."""
    lines = httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text.splitlines()
    name = 'mpfgvc_photographs_total{outcome="answered"}'
    return sum(int(float(line.split()[1])) for line in lines if line.startswith(name))


def grown(url: str, by: int) -> None:
    """Wait until a server has answered so many more photographs."""
    most, until = answered(url) + by, time.monotonic() + 60
    while answered(url) < most:
        assert time.monotonic() < until, f"{url} is asked no more"
        time.sleep(0.1)


@pytest.mark.timeout(240)
def test_requests_are_shared_out_and_none_is_lost_when_a_server_stops_or_dies(finished: Path, tmp_path: Path) -> None:
    ports, statuses, over = [free_port(), free_port()], list[int](), threading.Event()
    words = (export(finished, tmp_path / "run.onnx").path, "--threads", 1)
    with (
        serving(*words, "--port", ports[0]) as (first, stopped),
        serving(*words, "--port", ports[1]) as (second, killed),
        proxy(tmp_path, ports) as url,
    ):
        clients = [threading.Thread(target=ask_until, args=(over, url, statuses)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for server in (first, second):
                grown(server, 3)
            stopped.send_signal(signal.SIGTERM)
            assert stopped.wait(60) == 0
            grown(second, 20)
            with serving(*words, "--port", ports[0]) as (again, _):
                grown(again, 3)
                killed.kill()
                grown(again, 20)
                over.set()
                for client in clients:
                    client.join(60)
        finally:
            over.set()
    assert set(statuses) == {200}
