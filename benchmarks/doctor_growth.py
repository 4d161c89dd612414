"""Time and memory of `mpfgvc data check` over the number of files.

    python benchmarks/doctor_growth.py --work FOLDER [--counts 1000 10000 50000]

Files are drawn: JPEGs of 256 x 192 pixels, each with a content of its own. Processor time (of all threads) is
what counts on a shared machine; the wall time is beside it. Writes results/doctor_growth.json.
"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from PIL import Image

from common import MEASURED_COMMAND, result_file, write_result

CLASSES = 50
WIDTH, HEIGHT = 256, 192
SHAPES = 6


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 50_000])
    options = parser.parse_args()
    file = result_file("doctor_growth")
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = [row for row in kept if row["files"] not in options.counts]
    for count in options.counts:
        folder = draw(options.work / str(count), count)
        rows.append({"files": count, **measure(folder)})
        print(rows[-1], flush=True)
        write_result("doctor_growth", {"rows": sorted(rows, key=lambda row: row["files"])})


def draw(folder: Path, count: int) -> Path:
    """Class folders below train/ and test/; what is there from an earlier call is kept."""
    generator = np.random.default_rng(0)
    texture = generator.integers(0, 60, (1024, 1024, 3), dtype=np.uint8)
    for number in range(count):
        split = "test" if number // CLASSES % 5 == 0 else "train"
        path = folder / split / f"class {number % CLASSES}" / f"{number}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _picture(np.random.default_rng(number), texture).save(path, quality=80)
    return folder


def _picture(generator: np.random.Generator, texture: np.ndarray) -> Image.Image:
    """A piece of a texture with rectangles of random places, sizes and colours on it."""
    top, left = generator.integers(0, 1024 - WIDTH, 2)
    pixels = texture[top : top + HEIGHT, left : left + WIDTH].copy()
    for _ in range(SHAPES):
        row, column = generator.integers(0, HEIGHT - 20), generator.integers(0, WIDTH - 20)
        height, width = generator.integers(20, 110, 2)
        area = pixels[row : row + height, column : column + width]
        area //= 3
        area += generator.integers(0, 230, 3, dtype=np.uint8)
    return Image.fromarray(pixels)


def measure(folder: Path) -> dict[str, float]:
    """Seconds of wall and processor, peak memory in MB, and what was found, of one command.

    The peak is the process's own (VmHWM): what `wait4` gives would hold that of this script, too.
    """
    words = [sys.executable, "-c", MEASURED_COMMAND, "data", "check", "--json", "--data.root", str(folder)]
    started = time.perf_counter()
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode > 1:  # 1: there were findings
        raise SystemExit(f"doctor_growth: {done.stderr[-500:]}")
    wall = time.perf_counter() - started
    seconds, kilobytes = done.stderr.split()[-2:]
    return {
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(float(seconds), 1),
        "peak_mb": round(int(kilobytes) / 1024),
        "pairs": len(json.loads(done.stdout)["pairs"]),
    }


if __name__ == "__main__":
    main()
