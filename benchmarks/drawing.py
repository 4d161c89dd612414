"""Milliseconds to draw a synthetic bird at 96 px on one core; at most 3 are wanted.

python benchmarks/drawing.py
"""

import json
import statistics
import time
from pathlib import Path

from mpfgvc.birds.scene import draw_image, draw_picture
from mpfgvc.birds.species import all_species

PICTURES = 500
WAYS = {"image": draw_image, "image and regions": draw_picture}


def main() -> None:
    species = all_species()
    medians = {}
    for name, draw in WAYS.items():
        seconds = []
        for index in range(PICTURES):
            plumage = species[index % len(species)].plumage
            started = time.perf_counter()
            draw(plumage, seed=0, index=index)
            seconds.append(time.perf_counter() - started)
        medians[name] = 1000 * statistics.median(seconds)
        print(f"{name:20s} {medians[name]:.2f} ms")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    document = {"claim": "drawing", "milliseconds": medians}
    (results / "drawing.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
