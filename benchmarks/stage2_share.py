"""What stage 2 adds to the time of stage 1, the pass over the photographs that fills its cache included.

    python benchmarks/stage2_share.py RUN        a run folder whose stage 1 is done

Stage 1's seconds are those of its epochs in metrics.csv; stage 2 is run again here, in a copy of the
folder.
"""

import csv
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from mpfgvc import load_config
from mpfgvc.data.catalog import read_photos
from mpfgvc.devices import start_fabric
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.run import _Training


def main() -> None:
    source = Path(sys.argv[1])
    with (source / "metrics.csv").open(newline="") as file:
        stage1 = sum(float(row["seconds"]) for row in csv.DictReader(file) if row["stage"] == "stage1")
    with tempfile.TemporaryDirectory() as copy:
        for name in ("config.yaml", "stage1.safetensors", "metrics.csv"):
            shutil.copy(source / name, copy)
        config = load_config(Path(copy) / "config.yaml")
        photos = read_photos(config.data, seed=config.seed)
        training = _Training(config, photos, start_fabric(config), RunFolder(copy))
        training._train_stage1()  # loads what the run trained
        network = training.network.deployed()
        started = time.perf_counter()
        training._train_stage2(network)
        stage2 = time.perf_counter() - started
    print(f"stage 1 {stage1:.0f} s, stage 2 {stage2:.1f} s: {100 * stage2 / stage1:.1f} %")
    document = {"claim": "stage2_share", "stage1_seconds": stage1, "stage2_seconds": stage2}
    document |= {"ratio": stage2 / stage1}
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "stage2_share.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
