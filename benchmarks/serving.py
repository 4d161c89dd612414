"""`mpfgvc serve` under 64 clients beside the bare model, and under bad clients: errors, hangs, memory.

    python benchmarks/serving.py RUN PHOTOS [--seconds 60] [--clients 64] [--bad 10000]

The bare model takes batches in a loop in a process of its own, before and after the clients: once prepared
pixels (the network alone), once the bytes of photographs, decoded by as many threads as the server has.
Server and clients share the cores that the bare model has alone. All of it is on 127.0.0.1. Writes
results/serving.json.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from common import write_result
from loopback_clients import NOTHING, bad_requests, connect, exchange, form, load, misbehave, request
from mpfgvc import Predictor
from mpfgvc.data.images import read_image
from side_by_side import comparison

BATCH, PHOTOGRAPHS = 32, 256
WANTED = 0.8
PATIENCE = 45.0
"""Seconds after which a request without an answer hangs; the server gives up earlier."""
TOKEN = "a-token-of-the-benchmark"  # noqa: S105


def main() -> None:
    options = _parse()
    if options.bare:
        print(json.dumps(bare(options)))
        return
    if options.bad_only:
        bad = asyncio.run(_bad(options))
        print(json.dumps(bad, indent=2))
        write_result("bad_clients", {"name": "bad_clients", "bad_clients": bad})
        return
    before = _bare_process(options)
    loaded = asyncio.run(_load(options))
    after = _bare_process(options)
    rows = [
        comparison(
            claim, "s", [(1 / loaded["photographs_per_second"], 1 / each[name]) for each in (before, after)], wanted
        )
        for name, claim, wanted in (
            (
                "decoded",
                f"a photograph served to {options.clients} clients, against the bare model with decoding",
                WANTED,
            ),
            ("network", f"a photograph served to {options.clients} clients, against the network alone", WANTED),
        )
    ]
    for row in rows:
        print(f"{row.claim:95s} {row.ratio:.2f} x ({row.least:.2f} .. {row.most:.2f})")
    print(json.dumps(loaded, indent=2))
    bad = asyncio.run(_bad(options))
    print(json.dumps(bad, indent=2))
    claims = [asdict(row) for row in rows]
    write_result("serving", {"name": "serving", "claims": claims, "load": loaded, "bad_clients": bad})


def bare(options: Namespace) -> dict[str, float]:
    """Photographs a second of the model in batches, without and with their decoding."""
    model = Predictor.from_pretrained(options.run, device="cpu")
    contents = photograph_bytes(options)

    def prepare(content: bytes) -> np.ndarray:
        return model.prepare(read_image(BytesIO(content), at_least=model.preprocessing.at_least))

    prepared = [prepare(content) for content in contents[:BATCH]]
    model.run(prepared)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as decoders:
        endless = cycle(contents)
        ahead = [decoders.submit(prepare, each) for each in islice(endless, 2 * BATCH)]

        def next_batch() -> list[np.ndarray]:
            batch = [future.result() for future in ahead[:BATCH]]
            ahead[:BATCH] = []
            ahead.extend(decoders.submit(prepare, each) for each in islice(endless, BATCH))
            return batch

        decoded = _rate(lambda: model.run(next_batch()), options.seconds / 6)
    return {"network": _rate(lambda: model.run(prepared), options.seconds / 6), "decoded": decoded}


def _rate(batch: Any, seconds: float) -> float:
    started, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < seconds:
        batch()
        count += BATCH
    return count / taken


def _bare_process(options: Namespace) -> dict[str, float]:
    words = [sys.executable, __file__, options.run, options.photos, "--bare", "--seconds", str(options.seconds)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _load(options: Namespace) -> dict[str, Any]:
    """Every client asks about one photograph after the other, for the given time."""
    with server(options, "--queue", str(2 * options.clients)) as url:
        requests = [request(form(content)) for content in photograph_bytes(options)]
        await load(url, requests, options.clients, min(5, options.seconds / 3))  # to warm up
        start = await _resident_megabytes(url)
        statuses, seconds = await load(url, requests, options.clients, options.seconds)
        end = await _resident_megabytes(url)
    answered = [each for status, each in seconds if status == 200]
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "photographs_per_second": statuses[200] / options.seconds,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "errors_other_than_503": sum(count for status, count in statuses.items() if status not in (200, 503)),
        "milliseconds": {f"p{share}": round(1000 * float(np.percentile(answered, share))) for share in (50, 95, 99)},
        "resident_megabytes": {"start": start, "end": end},
    }


async def _bad(options: Namespace) -> dict[str, Any]:
    """Bad requests of all kinds in turn, 32 at a time; then a good one, which must be answered."""
    rng, statuses, hung = random.Random(0), defaultdict[str, Counter[int]](Counter), Counter[str]()  # noqa: S311
    with server(options, "--token", TOKEN, "--timeout", "10") as url:
        kinds = bad_requests(photograph_bytes(options)[0], TOKEN, rng)
        start = await _resident_megabytes(url)
        at_once = asyncio.Semaphore(32)

        async def one(kind: str) -> None:
            async with at_once:
                try:
                    statuses[kind][await misbehave(url, kinds[kind](), patience=PATIENCE)] += 1
                except TimeoutError:
                    hung[kind] += 1

        began = time.perf_counter()
        await asyncio.gather(*(one(kind) for kind in islice(cycle(kinds), options.bad)))
        seconds = time.perf_counter() - began
        end = await _resident_megabytes(url)
        last = await misbehave(url, kinds["good"](), patience=PATIENCE)
    failures = sum(count for each in statuses.values() for status, count in each.items() if status in (500, 502))
    return {
        "requests": options.bad,
        "seconds": round(seconds, 1),
        "status_500": failures,
        "hung": dict(hung),
        "good_one_afterwards": last,
        "statuses": {
            kind: {"closed" if status == NOTHING else str(status): n for status, n in sorted(each.items())}
            for kind, each in statuses.items()
        },
        "resident_megabytes": {"start": start, "end": end},
    }


async def _resident_megabytes(url: str) -> float:
    reader, writer = await connect(url)
    asked = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    _, body = await exchange(reader, writer, asked)
    writer.close()
    (line,) = [line for line in body.decode().splitlines() if line.startswith("process_resident_memory_bytes ")]
    return round(float(line.split()[1]) / 1e6, 1)


@contextmanager
def server(options: Namespace, *words: str) -> Iterator[str]:
    """`mpfgvc serve` in a process of its own: its address, when it is ready."""
    command = [sys.executable, "-m", "mpfgvc", "serve", options.run, "--port", "0", "--json", "--device", "cpu"]
    process = subprocess.Popen([*command, "--batch-size", str(BATCH), *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
        while subprocess.run(["curl", "-s", "-o", os.devnull, f"{url}/ready"], check=False).returncode:
            time.sleep(0.1)  # the socket is bound, and listens a moment later
        yield url
    finally:
        process.terminate()
        process.wait(60)


def photograph_bytes(options: Namespace) -> list[bytes]:
    """The photographs that clients send, in an order that is drawn once."""
    paths = sorted(Path(options.photos).rglob("*.jpg"))
    chosen = random.Random(0).sample(paths, min(PHOTOGRAPHS, len(paths)))  # noqa: S311
    return [path.read_bytes() for path in chosen]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("photos", help="folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--bad", type=int, default=10_000, help="requests of bad clients")
    parser.add_argument("--bad-only", action="store_true", help="only the bad clients")
    parser.add_argument("--bare", action="store_true", help="only measure the bare model (used by itself)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
