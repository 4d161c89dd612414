"""Milliseconds to draw a synthetic bird at 96 px on one core; the limit is 3.

python benchmarks/drawing.py
"""

import statistics
from functools import partial

from common import write_result
from mpfgvc.birds.plumage import all_species
from mpfgvc.birds.scene import draw_image, draw_picture
from side_by_side import seconds_of

PICTURES = 500
WAYS = {"image": draw_image, "image and regions": draw_picture}


def main() -> None:
    plumages = [kind.plumage for kind in all_species()]
    medians = {}
    for name, draw in WAYS.items():
        seconds = [
            seconds_of(partial(draw, plumages[index % len(plumages)], seed=0, index=index)) for index in range(PICTURES)
        ]
        medians[name] = 1000 * statistics.median(seconds)
        print(f"{name:20s} {medians[name]:.2f} ms")
    write_result("drawing", {"claim": "drawing", "milliseconds": medians})


if __name__ == "__main__":
    main()
