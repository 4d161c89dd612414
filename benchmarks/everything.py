"""All speed benchmarks, one after the other, and their one table: `make bench`.

    python benchmarks/everything.py [--only text_branch startup] [--cub DIR] [--weights FILE]

Each runs in its own process and writes results/NAME.json (claims with ours, reference, ratio and its least
and most; machine, versions, commit). The table is made from these files and put into README.md of this
folder. Where there are no photographs, the scripts that need them are left out, with a line.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from common import HERE, result_file
from mpfgvc.files import write_text
from mpfgvc.recipes_io import recipe

SHARED = HERE.parent.parent / "shared"
WEIGHTS = SHARED / "weights" / "vit_tiny_patch16_224.safetensors"
HEAD = "| claim | ours | reference | ratio (least to most) | wanted |\n| --- | --- | --- | --- | --- |"
MARKS = ("<!-- speed -->\n", "<!-- end -->")
SCRIPTS = (
    "startup",
    "text_branch",
    "many_classes",
    "image_inference",
    "stage1_step",
    "stage2_cache",
    "image_loading",
    "shards",
    "predict_throughput",
    "explain",
    "search",
    "evaluation_memory",
    "export",
)
WITH_PHOTOS = {"stage2_cache", "image_loading", "shards", "predict_throughput"}


def main() -> None:
    options = _parse()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            if name in WITH_PHOTOS and not (options.cub.exists() and options.weights.exists()):
                print(f"{name}: left out, as {options.cub} or {options.weights} does not exist")
                continue
            print(f"-- {name}", flush=True)
            words = _arguments(name, options, Path(folder))
            if subprocess.run([sys.executable, HERE / f"{name}.py", *words], check=False).returncode:
                failed.append(name)
    table = speed_table()
    print("\n" + table)
    readme = HERE / "README.md"
    head, _, rest = readme.read_text().partition(MARKS[0])
    write_text(readme, head + MARKS[0] + table + MARKS[1] + rest.partition(MARKS[1])[2])
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def speed_table() -> str:
    """A row for each claim of the latest results."""
    rows = [HEAD]
    for name in SCRIPTS:
        file = result_file(name)
        for row in json.loads(file.read_text()).get("claims", []) if file.exists() else []:
            medians = f"{row['ours']:.3g} {row['unit']} | {row['reference']:.3g} {row['unit']}"
            ratios = f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
            reached = ratios if row["ratio"] >= row["wanted"] else f"**not reached:** {ratios}"
            rows.append(f"| {row['claim']} | {medians} | {reached} | {row['wanted']:.3g} |")
    return "\n".join(rows) + "\n"


def _arguments(name: str, options: Namespace, folder: Path) -> list[str]:
    weights = ["--model.image_tower.weights", str(options.weights)]
    photos = ["--data.root", str(options.cub)]
    if name == "stage2_cache":
        return photos + weights
    if name in ("image_loading", "shards"):
        return [str(options.cub / "images")]
    if name == "predict_throughput":
        return [str(_untrained_run(folder, [*photos, *weights])), str(options.cub / "images")]
    return []


def _untrained_run(folder: Path, settings: list[str]) -> Path:
    """A run of ViT-tiny without a single step: speed does not depend on the weights."""
    run = folder / "run"
    cub = ["--config", str(recipe("vit_tiny")), "--data.dataset", "cub"]
    nothing = ["--stage1.epochs", "0", "--stage2.epochs", "0", "--final_test", "false"]
    words = ["train", *cub, *nothing, *settings, "--out", str(run)]
    subprocess.run([sys.executable, "-m", "mpfgvc", *words], check=True, stdout=subprocess.DEVNULL)
    return run


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    parser.add_argument("--cub", type=Path, default=SHARED / "data" / "CUB_200_2011")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
