"""`mpfgvc demo`: what a run brings to its page, and the routes behind it."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from PIL import Image
from tests.loopback_server import ColorModel, Running, form, photograph, running

from mpfgvc import Config, Predictor, train
from mpfgvc.deploy.demo import add_demo, content_of
from mpfgvc.deploy.server.app import create_app
from mpfgvc.deploy.server.settings import Limits

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def demo(cli: Cli, run: Path) -> Iterator[Running]:
    cli("embed", run)
    predictor = Predictor.from_pretrained(run)
    app = create_app(predictor, limits=Limits())
    add_demo(app, content_of(str(run), predictor))
    with running(app=app) as started:
        yield started


def test_examples_are_test_photographs_and_neighbours_training_photographs(demo: Running, photos: Path) -> None:
    document = demo.client.get("/examples").json()
    assert (document["similar"], document["rules"]) == (True, "")
    assert len(document["examples"]) == 8
    assert {each["label"] for each in document["examples"]} == {"cross", "disc", "stripe"}
    trained = photos / "train" / "disc" / "4.png"
    nearest = demo.client.post("/similar?top=3", files=form(trained.read_bytes())).json()["nearest"]
    assert [each["similarity"] for each in nearest] == sorted((e["similarity"] for e in nearest), reverse=True)
    assert (nearest[0]["label"], nearest[0]["similarity"]) == ("disc", pytest.approx(1, abs=1e-4))
    shown = demo.client.get(f"/shown/{nearest[0]['number']}")
    assert shown.headers["content-type"] == "image/png"
    same, expected = Image.open(io.BytesIO(shown.content)), Image.open(trained)
    assert same.tobytes() == expected.convert("RGB").tobytes()


def test_photographs_have_only_numbers_and_others_do_not_exist(demo: Running) -> None:
    assert demo.client.get("/shown/35?small=true").status_code == 404
    assert demo.client.get("/shown/-1").status_code == 404
    assert demo.client.get("/shown/..%2F..%2Fetc%2Fpasswd").status_code == 404
    assert demo.client.get("/shown/x").status_code == 422


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_may_load_nothing_from_elsewhere(demo: Running, path: str) -> None:
    answer = demo.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert set(re.findall(r"https?://[^\s\"']+", answer.text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\sstyle=|\son\w+=", answer.text)  # the policy forbids both


def test_a_run_without_embeddings_says_how_to_get_them(run: Path) -> None:
    predictor = Predictor.from_pretrained(run)
    content = content_of(str(run), predictor)
    assert (content.index, len(content.examples)) == (None, 8)
    assert content.notes == (
        f"the nearest training photographs are not shown; make their embeddings with mpfgvc embed {run}",
    )
    app = create_app(ColorModel(), limits=Limits())
    add_demo(app, content)
    with running(app=app) as started:
        assert started.client.get("/examples").json() == {"examples": ANY, "similar": False, "rules": "abstain=0.1"}
        assert started.client.post("/similar", files=form(photograph())).status_code == 501


def test_a_dataset_that_is_gone_and_a_lone_model_have_a_page_without_examples(run: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(run)
    gone = content_of(str(run), predictor, root=tmp_path / "nowhere")
    assert (len(gone.photographs), len(gone.examples), len(gone.notes)) == (0, 0, 1)
    assert gone.notes[0].startswith("there are no examples: ")
    alone = content_of(str(run / "model"), predictor)
    assert alone.notes == (f"{run / 'model'} is not a run folder: there are no examples",)


def test_embeddings_of_another_model_are_left_out_with_the_reason(cli: Cli, run: Path) -> None:
    cli("embed", run)
    (run / "model" / "digests.json").unlink()
    content = content_of(str(run), Predictor.from_pretrained(run))
    assert content.index is None
    assert "holds embeddings of another model" in content.notes[0]


def test_drawn_birds_are_examples_too(tiny: Callable[..., Config], tmp_path: Path) -> None:
    birds = {"species": 3, "train": 4, "test": 2, "image_size": 48}
    settings = {f"data.birds.{name}": value for name, value in birds.items()}
    nothing = {"stage1.epochs": 0, "stage2.epochs": 0, "final_test": False}
    config = tiny({"data.root": None, "data.dataset": "synthetic", **settings, **nothing})
    folder = train(config, out=tmp_path / "birds").path
    content = content_of(str(folder), Predictor.from_pretrained(folder))
    assert len(content.examples) == 6
    app = create_app(ColorModel(), limits=Limits())
    add_demo(app, content)
    with running(app=app) as started:
        shown = started.client.get(f"/shown/{len(content.trained)}")
        assert Image.open(io.BytesIO(shown.content)).size == (48, 48)


def test_with_a_token_the_page_is_open_and_its_photographs_are_not(run: Path) -> None:
    app = create_app(ColorModel(), limits=Limits(), token="a-token-for-tests")  # noqa: S106
    add_demo(app, content_of(str(run), Predictor.from_pretrained(run)))
    with running(app=app) as started:
        assert started.client.get("/").status_code == 200
        assert [started.client.get(path).status_code for path in ("/examples", "/shown/0")] == [401, 401]
