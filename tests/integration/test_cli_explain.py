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
    evidence = document["photographs"][0]["evidence"]
    assert evidence["answer"] == predicted.label != evidence["against"]
    assert len(evidence["change"]) == 4
    assert evidence["difference"] >= 0
    assert Image.open(out).width > 700


def test_explain_without_photographs_takes_some_of_the_test(cli: Cli, finished: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("explain", finished, "-o", tmp_path / "why.png", "--json")
    names = [row["path"] for row in json.loads(stdout)["photographs"]]
    assert code == 0
    assert len(names) == 4
    assert names[0].startswith("cross: ")
    assert names[-1].startswith("stripe: ")


def test_a_test_photograph_is_read_as_a_prediction_reads_it(finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8))
    for file in (tmp_path / "photos" / "test").glob("*/*"):
        large.save(file, format="JPEG")  # is decoded at an eighth of its size
    ((name, image, truth),) = named_test_images(finished, 1, root=tmp_path / "photos")
    predictor = Predictor.from_pretrained(finished)
    folder, _, file_name = name.partition(": ")
    assert truth == folder
    predicted = predictor(tmp_path / "photos" / "test" / folder / file_name, top=2)
    assert explain(predictor, image, top=2).guesses == predicted


def test_explain_refuses_what_it_cannot_draw(cli: Cli, finished: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    for words, line in (
        (["explain", finished, "-o", tmp_path / "why.jpg"], "--out must end in .png"),
        (["explain", finished, "-o", tmp_path / "why.png", "--top", 0], "must be at least 1"),
        (["explain", tmp_path, "-o", tmp_path / "why.png"], "is not a run folder"),
        (["explain", finished, tmp_path / "none.jpg", "-o", tmp_path / "why.png"], "no photographs in"),
        (["explain", finished, "-o", tmp_path / "missing" / "why.png"], "cannot write"),
        (["explain", finished, "-o", tmp_path / "why.png", "--nearest", -1], "--nearest must be at least 0"),
        (["explain", finished, "-o", tmp_path / "why.png", "--against", "disk"], "got 'disk'; did you mean disc?"),
    ):
        code, _, stderr = cli(*words)
        assert (code, line in stderr) == (2, True), stderr


def test_more_photographs_than_rows_make_a_contact_sheet(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    heights = []
    for most in (3, 4, 5):
        code, stdout, _ = cli("explain", finished, photos / "test", "-o", tmp_path / "why.png", "--most", most)
        assert (code, f"{most} photographs" in stdout) == (0, True)
        heights.append(Image.open(tmp_path / "why.png").height)
    assert heights[0] < heights[1]
    assert heights[2] < heights[1], "two in a line"


def test_the_answer_is_compared_with_the_true_class_or_the_one_that_is_asked_for(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "why.png", photos / "test" / "disc" / "0.png"
    best, runner_up, last = (guess.label for guess in Predictor.from_pretrained(finished)(file))
    for folder in (best, runner_up, last, "unsorted"):
        (tmp_path / folder).mkdir()
        shutil.copy(file, tmp_path / folder)

    def against(folder: str, *words: str) -> str:
        code, stdout, _ = cli("explain", finished, tmp_path / folder, "-o", out, "--json", *words)
        (document,) = json.loads(stdout)["photographs"]
        evidence = document["evidence"]
        assert (code, evidence["answer"]) == (0, best)
        return str(evidence["against"])

    assert against("unsorted") == against(best) == against(runner_up) == runner_up
    assert against(last) == last, "the photograph lies in the folder of its class"
    assert against("unsorted", "--against", last) == last
    assert against(last, "--against", best) == runner_up


def test_what_is_left_out_of_a_picture_is_said(cli: Cli, finished: Path, photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos / "test" / "disc", copy)
    (copy / "broken.jpg").write_bytes(b"no photograph")
    code, stdout, stderr = cli("explain", finished, copy, "-o", tmp_path / "why.png", "--json")
    assert code == 2
    assert "broken.jpg" in stderr
    assert len(json.loads(stdout)["photographs"]) == len(list(copy.iterdir())) - 1
    code, _, stderr = cli("explain", finished, copy / "broken.jpg", "-o", tmp_path / "none.png")
    assert (code, (tmp_path / "none.png").exists()) == (2, False)
    code, _, stderr = cli("explain", finished, photos / "test", "--most", 3, "-o", tmp_path / "why.png")
    assert (code, "drawing the first 3 of 15 photographs" in stderr) == (0, True)


def test_an_embedded_run_shows_the_nearest_training_photographs_of_both_classes(
    cli: Cli, finished: Path, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert cli("embed", run)[0] == 0
    file = sorted((photos / "train" / "disc").iterdir())[0]
    code, stdout, _ = cli("explain", run, file, "-o", tmp_path / "why.png", "--nearest", 2, "--json")
    (document,) = json.loads(stdout)["photographs"]
    nearest, evidence = document["nearest"], document["evidence"]
    assert code == 0
    assert list(nearest) == [evidence["answer"], evidence["against"]]
    for label, found in nearest.items():
        assert len(found) == 2
        assert found[0]["similarity"] >= found[1]["similarity"]
        for each in found:
            assert Path(each["path"]).parent == photos / "train" / label
            assert Path(each["path"]) != file, "not the photograph itself"
    code, stdout, _ = cli("explain", run, file, "-o", tmp_path / "why.png", "--nearest", 0, "--json")
    assert "nearest" not in json.loads(stdout)["photographs"][0]


def test_the_library_explains_one_photograph(finished: Path, photos: Path) -> None:
    predictor = Predictor.from_pretrained(finished)
    file = sorted((photos / "test" / "disc").iterdir())[0]
    explanation = predictor.explain(file, top=2)
    assert explanation.guesses == predictor(file, top=2)
    assert explanation.guesses[0].label == explanation.answer
