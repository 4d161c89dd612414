"""The last part of `make demo`: what the run learned, beside what else its towers could be used for.

    python benchmarks/demo.py RUN        a run of the default recipe

Trains the baselines now, on the same pictures and for the same epochs. There is one seed: a difference of a
picture or two means nothing.
"""

import json
import sys
import tempfile
from pathlib import Path

from accuracy import finetune, probe
from common import Method, zero_shot
from mpfgvc.run_folder import RunFolder

METHODS: dict[str, Method] = {
    "zero-shot, by sentences": zero_shot,
    "linear probe on frozen features": probe,
    "full fine-tuning, same epochs": finetune,
}


def main() -> None:
    run = RunFolder(sys.argv[1])
    config, sources = run.read_config(), json.loads(run.evaluation.read_text())["sources"]
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: measure(config, Path(folder, "run"))["top1"] for name, measure in METHODS.items()}
    rows |= {f"MP-FGVC, {source}": metrics["top1"] for source, metrics in sources.items()}
    print("\ntop-1 on the test pictures")
    for name, top1 in rows.items():
        print(f"  {name:34s} {100 * top1:5.1f} %")
    print(f"\nthe run              {run.path}")
    print(f"what it looks at     {run.path / 'why.png'}")
    print("your own photographs mpfgvc train --data.root my_photos/ --out runs/mine")
    print("                     mpfgvc predict runs/mine new_photos/")


if __name__ == "__main__":
    main()
