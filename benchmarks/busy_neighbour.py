"""Threads that wait for each other, alone and with another program on the machine.

python benchmarks/busy_neighbour.py [--neighbours 2] [--rounds 5]

OpenMP's threads spin while they wait, so a thread that the system pushed aside holds up the others for as long as it
pleases. Seconds of six blocks of ViT-tiny's size for four images, with one thread, with two, and with two that
spin only shortly or not at all. The command line sets the last (`__main__.py`).
"""

import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser

WORK = """
import time, torch
layer = torch.nn.TransformerEncoderLayer(192, 3, 768, batch_first=True)
encoder, images = torch.nn.TransformerEncoder(layer, 6).eval(), torch.randn(4, 197, 192)
with torch.inference_mode():
    encoder(images)
    begin = time.perf_counter()
    for _ in range(8):
        encoder(images)
print(time.perf_counter() - begin)
"""
SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "two, GOMP_SPINCOUNT 10000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "10000"},
    "two, OMP_WAIT_POLICY passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--neighbours", type=int, default=2, help="programs that only count")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "GOMP", "KMP"))}
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.neighbours)]
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    try:
        for _ in range(options.rounds):
            for name, setting in SETTINGS.items():
                words = [sys.executable, "-c", WORK]
                done = subprocess.run(words, env=clean | setting, capture_output=True, text=True, check=True)
                seconds[name].append(float(done.stdout))
    finally:
        for neighbour in neighbours:
            neighbour.kill()
    for name, values in seconds.items():
        print(f"{name:30s} {statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
