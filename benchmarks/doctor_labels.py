"""Wrong labels of CUB-27's training photographs, planted and looked for.

    python benchmarks/doctor_labels.py --cub DIR --weights FILE --work FOLDER [--seeds 0 1 2]

5 % of the training labels are flipped to a random other class, and a run with a frozen tower is trained on
them. Measured: the share of the flipped labels among the first of three rankings, as many as were flipped and
twice as many. The rankings are by out-of-fold self-confidence (what `mpfgvc data check --run` does), by the
loss of the trained model, and by chance. Writes results/doctor_labels.json.
"""

import csv
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common import spread, write_result
from mpfgvc import Predictor
from mpfgvc.config import DataConfig
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import labels_of
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import PhotoSet
from mpfgvc.run_folder import RunFolder
from mpfgvc.training.labels import label_suspects, out_of_fold_probabilities

SHARE = 0.05
FROZEN = ["--config", "vit_tiny", "--stage1.epochs", "0", "--data.validation", "0", "--final_test", "false"]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    for name in ("cub", "weights", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    photos = read_photos(DataConfig(dataset="cub", root=str(options.cub), validation=0), seed=0)
    rows = []
    for seed in options.seeds:
        flipped, wrong = flip(photos, seed)
        run = train(flipped, options, seed)
        rows.append({"seed": seed, **compare(run, wrong)})
        print(rows[-1], flush=True)
        names = [name for name in rows[0] if name != "seed"]
        summary = {name: spread([row[name] for row in rows]) for name in names}
        write_result("doctor_labels", {"share": SHARE, "rows": rows, "summary": summary})


def flip(photos: PhotoSet, seed: int) -> tuple[PhotoSet, set[str]]:
    """The photographs with wrong training labels, and the paths of those."""
    generator = np.random.default_rng(seed)
    training = [place for place, sample in enumerate(photos.samples) if sample.split == "train"]
    chosen = generator.choice(training, round(SHARE * len(training)), replace=False)
    samples = list(photos.samples)
    for place in chosen:
        other = (samples[place].label + generator.integers(1, len(photos.classes))) % len(photos.classes)
        samples[place] = replace(samples[place], label=int(other))
    return replace(photos, samples=tuple(samples)), {str(samples[place].path) for place in chosen}


def train(photos: PhotoSet, options: object, seed: int) -> Path:
    """A run on these photographs, by a manifest; one that is there is taken."""
    run, table = options.work / f"run{seed}", options.work / f"flipped{seed}.csv"
    if RunFolder(run).model.exists():
        return run
    options.work.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        rows.writerows((each.path.resolve(), photos.classes[each.label], each.split) for each in photos.samples)
    words = ["train", *FROZEN, "--data.dataset", "manifest", "--data.manifest", str(table), "--seed", str(seed)]
    words += ["--model.supercategory", "bird", "--model.image_tower.weights", str(options.weights)]
    subprocess.run([sys.executable, "-m", "mpfgvc", *words, "--out", str(run)], check=True)
    return run


@torch.no_grad()
def compare(run: Path, wrong: set[str]) -> dict[str, float]:
    """The share of the wrong labels that each ranking of the training photographs has early, 0..1."""
    photos = photos_of_run(RunFolder.open(run)).photos
    predictor = Predictor.from_pretrained(run)
    samples = photos.samples
    embeddings = torch.from_numpy(np.stack([each.embedding for each in predictor.embed_files(samples)]))
    labels = labels_of(samples)
    probabilities = out_of_fold_probabilities(embeddings, labels, len(photos.classes))
    training = np.array([place for place, sample in enumerate(samples) if sample.split == "train"])
    names = [str(samples[place].path.resolve()) for place in training]
    places = [place for place, name in enumerate(names) if name in {str(Path(each).resolve()) for each in wrong}]
    own = probabilities[torch.arange(len(labels)), labels].numpy()[training]
    order = np.argsort(own, kind="stable")
    paths = [samples[place].path for place in training]
    guesses = predictor.predict_files(paths, top=len(photos.classes))
    trained = [
        next(guess.probability for guess in each.guesses if guess.label == photos.classes[samples[place].label])
        for each, place in zip(guesses, training, strict=True)
    ]
    by_loss = np.argsort(trained, kind="stable")
    suspects = {index for index, _ in label_suspects(probabilities.numpy(), labels.numpy())}
    named = [place for place in places if int(training[place]) in suspects]
    top = len(places)
    return {
        "flipped": top,
        "self_confidence": found_early(order, places, top),
        "self_confidence_twice": found_early(order, places, 2 * top),
        "loss": found_early(by_loss, places, top),
        "loss_twice": found_early(by_loss, places, 2 * top),
        "chance": top / len(training),
        "suspects": len(suspects & set(map(int, training))),
        "flipped_among_suspects": len(named) / top,
    }


def found_early(ranking: np.ndarray, wrong: list[int], top: int) -> float:
    """The share of the wrong labels that is among the first `top` of a ranking."""
    return len(set(map(int, ranking[:top])) & set(wrong)) / len(wrong)


if __name__ == "__main__":
    main()
