"""What stage 2 adds to the time of stage 1, including the pass over the photographs that fills its cache.

    python benchmarks/stage2_share.py RUN        a run folder whose stage 1 is done

Stage 1's seconds are those of its epochs in metrics.csv; stage 2 is run again here, in a copy of the folder.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from accuracy import seconds_of_stages
from common import write_result
from mpfgvc.data.catalog import read_photos
from mpfgvc.distributed import start_fabric
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.open_run import OpenRun, list_photographs, open_run
from mpfgvc.training.train_stages import train_stage1, train_stage2
from side_by_side import seconds_of

WRITTEN_LATER = shutil.ignore_patterns("checkpoint.pt*", "model", "evaluation.json*", "tensorboard")


def main() -> None:
    source = Path(sys.argv[1])
    stage1 = seconds_of_stages(source)["stage1 seconds"]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(source, folder, ignore=WRITTEN_LATER, dirs_exist_ok=True)
        run = _open(RunFolder(folder))
        train_stage1(run)  # loads what the run trained
        network = run.network.to(run.fabric.device).deployed()
        stage2 = seconds_of(lambda: train_stage2(run, network))
    print(f"stage 1 {stage1:.0f} s, stage 2 {stage2:.1f} s: {100 * stage2 / stage1:.1f} %")
    times = {"stage1_seconds": stage1, "stage2_seconds": stage2, "ratio": stage2 / stage1}
    write_result("stage2_share", {"claim": "stage2_share"} | times)


def _open(folder: RunFolder) -> OpenRun:
    config = folder.read_config()
    photos = read_photos(config.data, seed=config.seed)
    fabric = start_fabric(config.device, config.precision)
    return open_run(config, list_photographs(config, photos, fabric), fabric, folder)


if __name__ == "__main__":
    main()
