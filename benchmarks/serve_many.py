"""`mpfgvc serve` beside the same server as one and as two replicas of Ray Serve: throughput and waiting.

    python benchmarks/serve_many.py RUN PHOTOS [--seconds 30] [--clients 16] [--turns 2]

The servers take turns, each alone on this machine and on all of its cores: two replicas have half of them
each. Clients and servers share the cores. Needs the extra ray. Writes results/serve_many.json.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common import write_result
from loopback_clients import form, load, request
from mpfgvc.launcher import core_count
from serving import photograph_bytes, server
from side_by_side import comparison

PATIENCE = 600.0
"""Seconds for a server to start."""
WANTED = 0.5
"""Ray's proxy and its serialisation cost; half the throughput of the plain server is the least to accept."""


def main() -> None:
    options = _parse()
    servers: dict[str, Any] = {
        "plain": partial(server, options, "--queue", str(4 * options.clients)),
        "one replica": partial(_replicas, options, 1),
        "two replicas": partial(_replicas, options, 2),
    }
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for _ in range(options.turns):
        for name, start in servers.items():
            measured[name].append(asyncio.run(_measure(options, start())))
            print(f"{name:14s}{json.dumps(measured[name][-1])}", flush=True)
    claims = []
    for name in ("one replica", "two replicas"):
        pairs = list(zip(_seconds(measured[name]), _seconds(measured["plain"]), strict=True))
        row = comparison(f"a photograph: {name} of Ray Serve, against mpfgvc serve", "s", pairs, WANTED)
        print(f"{row.claim:75s} {row.ratio:.2f} x ({row.least:.2f} .. {row.most:.2f})")
        claims.append(row)
    setting = {"clients": options.clients, "seconds": options.seconds, "cores": core_count()}
    document = {"claims": [asdict(row) for row in claims], **setting, "measured": measured}
    write_result("serve_many", {"name": "serve_many", **document})


async def _measure(options: Namespace, started: AbstractContextManager[str]) -> dict[str, Any]:
    """Every client asks about one photograph after the other, for the given time."""
    requests = [request(form(content)) for content in photograph_bytes(options)]
    with started as url:
        await load(url, requests, options.clients, min(5, options.seconds / 3))  # to warm up
        statuses, seconds = await load(url, requests, options.clients, options.seconds)
    answered = [each for status, each in seconds if status == 200]
    if not answered:
        raise SystemExit(f"no photograph was answered: {dict(statuses)}")
    return {
        "photographs_per_second": round(statuses[200] / options.seconds, 2),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "milliseconds": {
            f"p{share}": round(1000 * float(np.percentile(answered, share))) for share in (50, 95)
        },
    }


def _seconds(rows: list[dict[str, Any]]) -> list[float]:
    return [1 / row["photographs_per_second"] for row in rows]


@contextmanager
def _replicas(options: Namespace, count: int) -> Iterator[str]:
    """The server as `count` replicas on a cluster of its own: its address, when all of them answer."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short: it holds Unix sockets
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(_document(options, count, port)))
    environment = {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mpfgvc", "serve", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment, **key},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, count)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def _document(options: Namespace, count: int, port: int) -> dict[str, Any]:
    """The file: everything that is not about the number of replicas as in the plain server."""
    deployment = {
        "name": "mpfgvc",
        "num_replicas": count,
        "ray_actor_options": {"num_cpus": core_count() / count},
    }
    arguments = {
        "model": str(Path(options.run).resolve()),
        "device": "cpu",
        "token_from": None,
        "limits": {"queue": 4 * options.clients, "decoders": min(8, core_count())},
    }
    application = {
        "name": "mpfgvc",
        "route_prefix": "/",
        "import_path": "mpfgvc.deploy.serve_many:application",
        "args": arguments,
        "deployments": [deployment],
    }
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


def _wait(process: "subprocess.Popen[bytes]", url: str, count: int) -> None:
    """Until `count` replicas have answered: each has its own start in its metrics."""
    until, starts = time.monotonic() + PATIENCE, set[str]()
    while len(starts) < count:
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{count} replicas did not start")
        asked = ["curl", "-s", "-m", "60", "--noproxy", "*", f"{url}/metrics"]
        lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
        starts |= {line for line in lines if line.startswith("process_start_time_seconds ")}
        time.sleep(0.2)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("photos", help="folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
