"""The last part of `make demo`: what the run learned, beside what else could be done with its towers.

    python benchmarks/demo.py RUN        a run of the default recipe

Trains the baselines now, on the same pictures, for the same epochs. One seed: a picture or two means
nothing.
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

from accuracy import finetune, probe
from birds import zero_shot
from mpfgvc import load_config

METHODS = {
    "zero-shot, by sentences": zero_shot,
    "linear probe on frozen features": probe,
    "full fine-tuning, same epochs": finetune,
}


def main() -> None:
    run = Path(sys.argv[1])
    config = load_config(run / "config.yaml")
    sources = json.loads((run / "evaluation.json").read_text())["sources"]
    options = Namespace(validate=0.0)
    rows = {name: measure(config, run, options)["top1"] for name, measure in METHODS.items()}
    rows |= {f"MP-FGVC, {source}": metrics["top1"] for source, metrics in sources.items()}
    print("\ntop-1 on the test pictures")
    for name, top1 in rows.items():
        print(f"  {name:34s} {100 * top1:5.1f} %")
    print(f"\nthe run              {run}")
    print(f"what it looks at     {run / 'why.png'}")
    print("your own photographs mpfgvc train --data.root my_photos/ --out runs/mine")
    print("                     mpfgvc predict runs/mine new_photos/")


if __name__ == "__main__":
    main()
