"""`mpfgvc explain` draws photographs and names the kept patches."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mpfgvc import Predictor
from mpfgvc.inference.explain import explain, named_test_images

Cli = Callable[..., tuple[int, str, str]]


def test_explain_draws_photographs_and_names_the_kept_patches(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why.png"
    files = sorted((photos / "test" / "disc").iterdir())
    code, stdout, _ = cli("explain", finished, *files, "--out", out, "--most", 2, "--top", 1, "--json")
    document = json.loads(stdout)
    assert code == 0
    assert document["picture"] == str(out)
    assert [row["path"] for row in document["photographs"]] == [str(file) for file in files[:2]]
    predicted = Predictor.from_pretrained(finished)(files[0], top=1)[0]
    assert document["photographs"][0]["guesses"][0]["label"] == predicted.label
    kept = document["photographs"][0]["kept"]
    assert len(kept) == len({tuple(place) for place in kept}) == 4
    assert Image.open(out).width > 700


def test_explain_without_photographs_takes_some_of_the_test(cli: Cli, finished: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("explain", finished, "-o", tmp_path / "why.png", "--json")
    names = [row["path"] for row in json.loads(stdout)["photographs"]]
    assert code == 0
    assert len(names) == 4
    assert names[0].startswith("cross: ")
    assert names[-1].startswith("stripe: ")


def test_a_test_photograph_is_read_as_a_prediction_reads_it(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8))
    for file in (tmp_path / "photos" / "test").glob("*/*"):
        large.save(file, format="JPEG")  # is decoded at an eighth of its size
    ((name, image),) = named_test_images(finished, 1, root=tmp_path / "photos")
    predictor = Predictor.from_pretrained(finished)
    folder, _, file_name = name.partition(": ")
    predicted = predictor(tmp_path / "photos" / "test" / folder / file_name, top=2)
    assert explain(predictor, image, top=2).guesses == predicted


def test_explain_refuses_what_it_cannot_draw(cli: Cli, finished: Path, tmp_path: Path) -> None:
    for words, line in (
        (["explain", finished, "-o", tmp_path / "why.jpg"], "--out must end in .png"),
        (["explain", finished, "-o", tmp_path / "why.png", "--top", 0], "must be at least 1"),
        (["explain", tmp_path, "-o", tmp_path / "why.png"], "is not a run folder"),
        (["explain", finished, tmp_path / "none.jpg", "-o", tmp_path / "why.png"], "no photographs in"),
        (["explain", finished, "-o", tmp_path / "missing" / "why.png"], "cannot write"),
    ):
        code, _, stderr = cli(*words)
        assert (code, line in stderr) == (2, True), stderr
