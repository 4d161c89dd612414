"""Exported models against `Predictor` and eager timm: images a second, accuracy, cold start, size.

    python benchmarks/export.py [--run RUN --most 700] [--venv DIR --photo FILE]

ViT-tiny and ViT-B/16 at 224 px with random weights (speed does not depend on them), K = 49, on prepared
pixels, with as many threads as torch has.

    fp32        the .onnx file in onnxruntime, against `Predictor` (packed weights) and against timm's own
                eager forward
    fast        the int8 file in OpenVINO, which computes the rest in bf16 where the CPU has it, against
                `Predictor` in fp32

With `--run`, top-1 on photographs of the run's test split, of each form. With `--venv`, an environment with
mpfgvc-runtime alone: its size, and the seconds that a new process of it takes to answer about `--photo`.
"""

import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from common import untrained_network, vit_base, write_result
from mpfgvc import Predictor, export
from mpfgvc.config import DataConfig, ModelConfig, TextTowerConfig
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.samples import Sample
from mpfgvc.deploy.export.export import Limits, write_export
from mpfgvc.inference.exported import INPUT, open_session
from mpfgvc.inference.forward import preprocessing_of
from mpfgvc.inference.saved_model import SavedModel
from mpfgvc.run_folder import RunFolder
from mpfgvc.terms import Engine, ExportPrecision
from side_by_side import Comparison, compare_time, comparison, report, seconds_of

TOWERS = {"ViT-tiny": "vit_tiny_patch16_224", "ViT-B/16": "vit_base_patch16_224"}
BATCHES = (1, 16)
FORMS: tuple[tuple[ExportPrecision, Engine], ...] = (
    ("fp32", "onnxruntime"),
    ("fp16", "onnxruntime"),
    ("int8", "onnxruntime"),
    ("fp32", "openvino"),
    ("int8", "openvino"),
)
ANY = Limits(difference=1, agreement=0)
COLD_STARTS, MOST_SECONDS, MOST_MEGABYTES = 5, 1.0, 100
NOISE = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Picture(Sample):
    """Noise to calibrate on: where the ranges end does not matter to speed."""

    def read(self, *, at_least: tuple[int, int] | None = None) -> Any:
        from PIL import Image

        return Image.fromarray(NOISE[self.label])


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in options.towers for row in _speed(name, Path(folder))]
        if options.run is not None:
            document = {"name": "export_accuracy", "forms": _accuracy(options.run, options.most, Path(folder))}
            write_result("export_accuracy", document)
        if options.venv is not None:
            rows += _runtime(options, Path(folder) / f"{options.towers[0]}-fp32.onnx")
    report("export", rows)


def _speed(name: str, folder: Path) -> list[Comparison]:
    saved = _untrained(TOWERS[name])
    files = {kind: folder / f"{name.replace('/', '')}-{kind}.onnx" for kind in ("fp32", "int8")}
    pictures = [Picture(path=Path("noise"), label=label, split="train") for label in range(4)]
    write_export(saved, files["fp32"], "fp32")
    write_export(saved, files["int8"], "int8", pictures)
    threads = torch.get_num_threads()
    plain = open_session(files["fp32"], engine="onnxruntime", threads=threads)
    fast = open_session(files["int8"], engine="openvino", threads=threads)
    predictor = Predictor.of(saved)
    eager = timm.create_model(TOWERS[name], pretrained=False, num_classes=50).eval()
    rows = []
    for batch in BATCHES:
        pixels = NOISE[:batch]
        tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        names = [INPUT] * batch
        by_predictor = partial(predictor.inference, tensors, names)
        by_timm = torch.inference_mode()(partial(eager, tensors))
        what = f"{name}, batch {batch}"
        rows += [
            compare_time(
                f"{what}: onnxruntime against Predictor",
                ours=partial(plain.run, pixels),
                reference=by_predictor,
                wanted=1.0,
                turns=7,
            ),
            compare_time(
                f"{what}: onnxruntime against timm",
                ours=partial(plain.run, pixels),
                reference=by_timm,
                wanted=1.4,
                turns=7,
            ),
            compare_time(
                f"{what}: int8 in OpenVINO against Predictor",
                ours=partial(fast.run, pixels),
                reference=by_predictor,
                wanted=2.5,
                turns=7,
            ),
        ]
    return rows


def _untrained(tower: str) -> SavedModel:
    config = ModelConfig(
        image_tower=vit_base(name=tower),
        text_tower=TextTowerConfig(name="mpfgvc-small", pretrained=None),
        kept_tokens=49,
    )
    network = untrained_network(config, 50).deployed().eval()
    preprocessing = preprocessing_of(network.image_encoder.tower.input, DataConfig())
    return SavedModel(network=network, preprocessing=preprocessing, config=config)


def _accuracy(run: Path, most: int, folder: Path) -> list[dict[str, Any]]:
    """Top-1 of each form on at most so many test photographs, and how often it agrees with fp32."""
    found = photos_of_run(RunFolder(run)).found("test")
    samples = [found[place] for place in np.random.default_rng(1).permutation(len(found))[:most]]
    labels = np.array([sample.label for sample in samples])
    rows: list[dict[str, Any]] = []
    first = None
    for precision, engine in FORMS:
        file = folder / f"run-{precision}.onnx"
        if not file.exists():
            export(run, file, precision=precision, most=1, limits=ANY)
        predictor = Predictor.from_pretrained(file, engine=engine)
        guesses = np.array([_guess(predictor, sample) for sample in samples])
        first = guesses if first is None else first
        top1, same = float((guesses == labels).mean()), float((guesses == first).mean())
        rows.append(
            {
                "precision": precision,
                "engine": engine,
                "top1": top1,
                "agreement": same,
                "bytes": file.stat().st_size,
                "photographs": len(samples),
            }
        )
        print(f"{precision} by {engine:12s} top-1 {100 * top1:.2f}, as fp32 {100 * same:.2f}", flush=True)
    return rows


def _guess(predictor: Predictor, sample: Sample) -> int:
    image = sample.read(at_least=predictor.preprocessing.at_least)
    (output,) = predictor.run([predictor.prepare(image)])
    return int(output.logits.argmax())


def _runtime(options: Namespace, file: Path) -> list[Comparison]:
    """Cold start and size of the environment with mpfgvc-runtime alone, against their limits."""
    command = [options.venv / "bin" / "mpfgvc-runtime", "predict", file, options.photo, "--json"]
    start = partial(subprocess.run, command, check=True, capture_output=True)
    start()  # the files of its libraries come into the page cache
    starts = [(seconds_of(start), MOST_SECONDS) for _ in range(COLD_STARTS)]
    size = sum(file.lstat().st_size for file in options.venv.rglob("*")) / 1e6
    return [
        comparison("mpfgvc-runtime: a new process to its first answer, against the limit", "s", starts, 1),
        comparison("mpfgvc-runtime: a fresh environment, against the limit", "MB", [(size, MOST_MEGABYTES)], 1),
    ]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=list(TOWERS))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--photo", type=Path)
    options = parser.parse_args()
    if (options.venv is None) != (options.photo is None):
        parser.error("--venv and --photo belong together")
    return options


if __name__ == "__main__":
    main()
