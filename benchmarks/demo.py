"""The last part of `make demo`: what the run learned, beside what else its towers could be used for.

    python benchmarks/demo.py RUN        a run of the default recipe

Trains the baselines now, on the same pictures and for the same epochs. Then it trains the recipe twice on
5 pictures of each class, without and with descriptions of the classes. There is one seed: a
difference of a picture or two means nothing.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from accuracy import finetune, mpfgvc, probe
from common import Method, Overrides, Scores, settings_of, zero_shot
from mpfgvc import Config
from mpfgvc.run_folder import RunFolder

METHODS: dict[str, Method] = {
    "zero-shot, by sentences": zero_shot,
    "linear probe on frozen features": probe,
    "full fine-tuning, same epochs": finetune,
}
FEW = 5
"""Training pictures of each class where descriptions are shown: with few pictures words help most."""
WORDS: dict[str, Overrides] = {"without": {}, "with": {"model.descriptions": "bundled"}}


def main() -> None:
    run = RunFolder(sys.argv[1])
    config, sources = run.read_config(), json.loads(run.evaluation.read_text())["sources"]
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: measure(config, Path(folder, "run"))["top1"] for name, measure in METHODS.items()}
        started = time.perf_counter()
        words = {name: _with_few_pictures(config, Path(folder, name), more) for name, more in WORDS.items()}
        seconds = time.perf_counter() - started
    rows |= {f"MP-FGVC, {source}": metrics["top1"] for source, metrics in sources.items()}
    print("\ntop-1 on the test pictures")
    for name, top1 in rows.items():
        print(f"  {name:34s} {100 * top1:5.1f} %")
    _print_words(words, seconds)
    print(f"\nthe run              {run.path}")
    print(f"what it looks at     {run.path / 'why.png'}")
    print("your own photographs mpfgvc train --data.root my_photos/ --out runs/mine")
    print("                     mpfgvc predict runs/mine new_photos/")
    print(f"try it in a browser  {Path(sys.executable).with_name('mpfgvc')} demo {run.path}")


def _with_few_pictures(config: Config, folder: Path, more: Overrides) -> Scores:
    """The accuracy of the three sources after training the recipe on few pictures."""
    fewer = {"data.birds.train": FEW, "data.birds.species": config.data.birds.species, "seed": config.seed}
    return mpfgvc(settings_of("synthetic", fewer | more), folder)


def _print_words(words: dict[str, Scores], seconds: float) -> None:
    """Both accuracies of each source."""
    print(f"\nthe same with {FEW} training pictures of each class, without and with descriptions")
    for source in ("vision", "text", "fusion"):
        accuracies = "".join(f"{100 * scores[source]:7.1f} %" for scores in words.values())
        print(f"  MP-FGVC, {source:25s}{accuracies}")
    print(f"  {seconds:.0f} seconds for both; descriptions: --model.descriptions bundled")


if __name__ == "__main__":
    main()
