"""What a run must hold: frozen is frozen, the same seed gives the same bits, options do what they say."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.made_answers import evaluation_of

import mpfgvc
from mpfgvc import CheckpointError, Config, ConfigError, DataError, Predictor, load_config, train
from mpfgvc.data.catalog import read_photos
from mpfgvc.data.loading import EvaluationLoader
from mpfgvc.devices import start_fabric
from mpfgvc.evaluation.answers import load_answers
from mpfgvc.evaluation.evaluate import evaluate_photos
from mpfgvc.evaluation.metrics import Evaluation
from mpfgvc.inference.explain import explain
from mpfgvc.inference.forward import Inference
from mpfgvc.inference.saved_model import load_model
from mpfgvc.model.losses import Objective
from mpfgvc.model.network import MPFGVC, SOURCES
from mpfgvc.model.towers.packed_linear import PackedLinear, can_pack
from mpfgvc.recipes_io import dump_config
from mpfgvc.run_folder import RunFolder
from mpfgvc.storage.digests import digest_path
from mpfgvc.terms import Source
from mpfgvc.training.loaders import EmbeddingLoader
from mpfgvc.training.open_run import list_photographs, open_run
from mpfgvc.training.run import resume
from mpfgvc.training.stages import Stage1, Stage2
from mpfgvc.training.train_stages import train_stage1, train_stage2

RECIPES = Path(mpfgvc.__file__).parent / "recipes"

Make = Callable[..., Config]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_each_stage_changes_what_it_trains_and_no_bit_of_the_rest(tiny: Make, tmp_path: Path) -> None:
    before: dict[str, dict[str, torch.Tensor]] = {}
    config = tiny({"stage1.weight_decay": 0.1})
    fabric = start_fabric("cpu", "fp32")
    photos = read_photos(config.data, seed=0)
    photo_list = list_photographs(config, photos, fabric)
    run = open_run(config, photos, photo_list, fabric, RunFolder(tmp_path / "run"))

    def snapshot(name: str) -> None:
        before[name] = {key: value.clone() for key, value in run.network.state_dict().items()}

    snapshot("start")
    train_stage1(run)
    snapshot("between")
    train_stage2(run, run.network.deployed())
    snapshot("end")

    def changed(first: str, second: str) -> set[str]:
        return {key for key, value in before[first].items() if not torch.equal(value, before[second][key])}

    fusion = {name for name in before["start"] if name.startswith("fusion.")}
    tower = {name for name in before["start"] if name.startswith("text.tower.")}
    assert fusion
    assert tower
    assert changed("start", "between") == set(before["start"]) - fusion - tower
    assert changed("between", "end") == fusion


def test_without_epochs_the_starts_are_the_method_on_a_frozen_tower(tiny: Make, tmp_path: Path) -> None:
    """Classifier, prompts and fusion are fitted, the image tower keeps every bit, and the test is made."""
    settings = tiny(
        {"stage1.start": "features", "stage1.epochs": 0, "stage2.start": "stage1", "stage2.epochs": 0}
    )
    run = train(settings, out=tmp_path / "run")
    untrained = MPFGVC.from_config(settings.model, run.metrics.classes, seed=settings.seed)
    tower = {
        name: value for name, value in untrained.state_dict().items() if name.startswith("image_encoder.")
    }
    trained = load_file(run.model_dir / "model.safetensors")
    assert tower
    assert all(torch.equal(trained[name], value) for name, value in tower.items())
    assert set(run.metrics.sources) == set(SOURCES)
    stages = [line.split(",")[0] for line in (run.path / "metrics.csv").read_text().splitlines()[1:]]
    assert stages == ["features", "features", "stage2"]  # each pass has a row
    for source in SOURCES:
        assert run.metrics.sources[source].top1 > 0.6, source  # three classes of coloured squares


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny: Make, tmp_path: Path) -> None:
    runs = [train(tiny({"seed": seed}), out=tmp_path / f"{index}") for index, seed in enumerate((3, 3, 4))]
    first, again, other = (_weights(run.path) for run in runs)
    assert first == again
    assert first != other


def test_workers_change_no_bit(tiny: Make, tmp_path: Path) -> None:
    settings = {"stage2.views": 2}
    runs = [train(tiny({"data.workers": count} | settings), out=tmp_path / f"{count}") for count in (0, 2)]
    assert _weights(runs[0].path) == _weights(runs[1].path)


def test_micro_batches_give_the_weights_of_the_whole_batch(tiny: Make, tmp_path: Path) -> None:
    settings = {"stage1.epochs": 1, "stage1.optimizer": "sgd", "stage2.epochs": 1}
    runs = [
        train(tiny(settings | {"stage1.accumulate": parts}), out=tmp_path / f"{parts}").path
        for parts in (1, 4)
    ]
    whole, split = (load_file(RunFolder(run).stage1) for run in runs)
    assert whole is not None
    assert split is not None
    for name, weight in whole.items():
        torch.testing.assert_close(split[name], weight, atol=2e-5, rtol=1e-4, msg=name)


def test_a_compiled_step_gives_the_weights_of_a_plain_one(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is captured and differentiated as on a GPU, and then run as it is: no code is generated."""
    settings = {"stage1.epochs": 1, "stage1.optimizer": "sgd", "stage2.epochs": 0}
    plain = load_file(RunFolder(train(tiny(settings), out=tmp_path / "plain").path).stage1)
    compiled_modules: list[torch.nn.Module] = []
    compile_with = torch.compile

    def capture(call: Any, **options: Any) -> Any:
        compiled_modules.append(call.__self__)
        return compile_with(call, **options | {"backend": "aot_eager", "fullgraph": True})

    monkeypatch.setattr(torch, "compile", capture)
    monkeypatch.setenv("CXX", sys.executable)  # any program will do
    run = train(tiny(settings | {"compile": True}), out=tmp_path / "compiled")
    compiled = load_file(RunFolder(run.path).stage1)
    assert [type(module) for module in compiled_modules] == [Stage1]
    assert plain is not None
    assert compiled is not None
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, atol=2e-5, rtol=1e-4, msg=name)


def test_where_nothing_can_be_compiled_the_run_says_so_and_goes_on(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("there is no compiler"))
    train(tiny({"compile": True, "stage1.epochs": 1, "stage2.epochs": 0}), out=tmp_path / "run")
    line = "compile: the step runs uncompiled, no compiler no-such-compiler was found; install one"
    assert line in capsys.readouterr().err


def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = iter([2, 9, 4, 3, 3, 3])
    seen: list[dict[str, torch.Tensor]] = []

    def scripted(
        inference: Inference,
        loader: EvaluationLoader,
        labels: torch.Tensor,
        *,
        split: str,
        sources: Sequence[str] = SOURCES,
    ) -> Evaluation:
        if split != "validation":
            return evaluate_photos(inference, loader, labels, split=split, sources=sources)
        weights = inference.network.image_encoder.state_dict()
        seen.append({f"network.image_encoder.{name}": weight.clone() for name, weight in weights.items()})
        count = next(right)
        return evaluation_of({(0, 0): count, (0, 1): 10 - count}, ("a", "b"), sources)

    monkeypatch.setattr("mpfgvc.training.train_stages.evaluate_photos", scripted)
    run = train(tiny({"stage1.epochs": 6, "stage1.patience": 2}), out=tmp_path / "run")
    assert len(seen) == 4  # the best is the second; two more epochs without a better one
    kept = load_file(RunFolder(run.path).stage1)
    assert kept is not None
    assert all(torch.equal(kept[name], weight) for name, weight in seen[1].items())


def test_a_run_keeps_its_sentences_and_its_model_needs_no_file(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.yaml"
    words.write_text(f"stripe: [long lines, '{'a line, ' * 60}']\ndisc: round\nstar: pointed\n")
    monkeypatch.chdir(tmp_path)
    run = train(tiny({"model.descriptions": "words.yaml"}), out=tmp_path / "run")
    said = capsys.readouterr().err
    for line in (
        f"classes of {words} that the dataset does not have: 1 of 3 (star)",
        "classes without a description, which have their prompt alone: 1 of 3 (cross)",
        "descriptions longer than the 77 tokens of the text tower, read in parts: 1 of 3",
    ):
        assert said.count(line) == 1
    assert RunFolder(run.path).read_config().model.descriptions == str(words)
    words.unlink()
    saved = load_model(run.model_dir)
    assert saved.config.descriptions == "words.yaml"
    cross, disc, stripe = saved.network.text().norm(dim=1).tolist()
    assert cross == pytest.approx(1, abs=1e-5), "a prompt alone"
    assert disc == pytest.approx(1, abs=0.06), "one sentence, of length 1, and a twentieth of a prompt"
    assert 0.1 < stripe < 1.05, "several sentences, and as much of a prompt"


def test_bad_descriptions_are_refused_before_anything_is_built(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("a tower was built")

    monkeypatch.setattr(MPFGVC, "from_config", never)
    (tmp_path / "words.csv").write_text("class,sentence\ncross, \n")
    for name, error, message in (
        ("gone.csv", ConfigError, "does not exist"),
        ("words.csv", DataError, "line 2 has no sentence about cross"),
    ):
        with pytest.raises(error, match=message):
            train(tiny({"model.descriptions": str(tmp_path / name)}), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="bundled describes the synthetic birds only"):
        train(tiny({"model.descriptions": "bundled"}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_sentences_were_changed_is_not_resumed(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("class,sentence\ncross,two bars\n")
    settings = {"model.descriptions": str(tmp_path / "words.csv"), "stage2.epochs": 0, "final_test": False}
    folder = RunFolder(train(tiny(settings), out=tmp_path / "run").path)
    folder.descriptions.write_text("class,sentence\ncross,three bars\n")
    with pytest.raises(CheckpointError, match=r"descriptions\.csv"):
        resume(folder.path)
    digest_path(folder.descriptions).unlink()
    with pytest.raises(
        CheckpointError, match="belongs to a run with other descriptions than those found now"
    ):
        resume(folder.path)


def test_parameter_groups_hold_every_trained_parameter_once(tiny: Make) -> None:
    config = tiny({"stage1.layer_decay": 0.5})
    network = MPFGVC.from_config(config.model, ["a", "b"])
    for stage in (
        Stage1(network, config.stage1, Objective()),
        Stage2(network.fusion, torch.zeros(2, network.embed), config.stage2, Objective()),
    ):
        grouped = [id(weight) for group in stage.parameter_groups() for weight in group.parameters]
        assert sorted(grouped) == sorted(map(id, stage.trained().values()))
    rates = {group.lr for group in Stage1(network, config.stage1, Objective()).parameter_groups()}
    depth = network.image_encoder.tower.depth
    assert rates == {1e-3} | {1e-4 * 0.5**below for below in range(depth + 1)}


def test_stage_2_never_runs_a_tower(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"stage2 towers": 0, "stage2 steps": 0}
    from mpfgvc.model.image_encoder import ImageEncoder

    forward, step = ImageEncoder.forward, Stage2.forward
    inside = [False]

    def counted(self: ImageEncoder, images: torch.Tensor) -> object:
        calls["stage2 towers"] += inside[0]
        return forward(self, images)

    def stepped(self: Stage2, embeddings: torch.Tensor, labels: torch.Tensor) -> object:
        inside[0] = True
        calls["stage2 steps"] += 1
        result = step(self, embeddings, labels)
        inside[0] = False
        return result

    monkeypatch.setattr(ImageEncoder, "forward", counted)
    monkeypatch.setattr(Stage2, "forward", stepped)
    train(tiny(), out=tmp_path / "run")
    assert calls == {"stage2 towers": 0, "stage2 steps": 4}


def test_stage_2_sees_the_plain_view_and_random_ones_of_every_photograph(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[EmbeddingLoader] = []

    def keep(*tensors: torch.Tensor, **options: Any) -> EmbeddingLoader:
        kept.append(EmbeddingLoader(*tensors, **options))
        return kept[-1]

    monkeypatch.setattr("mpfgvc.training.train_stages.EmbeddingLoader", keep)
    for views in (1, 3):
        train(tiny({"stage2.views": views, "data.augment.flip": 1.0}), out=tmp_path / f"{views}")
    alone, together = kept
    assert torch.equal(together.labels, alone.labels.repeat(3))
    plain, *others = together.embeddings.chunk(3)
    assert torch.equal(plain, alone.embeddings)
    for first, second in [(plain, others[0]), (plain, others[1]), (others[0], others[1])]:
        assert ((first - second).norm(dim=1) > 1e-3).all()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_training_that_diverges_ends_in_one_line_and_saves_nothing_of_it(
    tiny: Make, tmp_path: Path, stage: str
) -> None:
    settings = {f"{stage}.lr": 1e38, f"{stage}.optimizer": "sgd", f"{stage}.clip": None}
    with pytest.raises(ConfigError, match=rf"^stage[^\n]*lr must be lower: {stage} diverged before step \d+"):
        train(tiny(settings), out=tmp_path / "run")
    checkpoint = RunFolder(tmp_path / "run").checkpoint
    assert not checkpoint.exists() or torch.load(checkpoint, weights_only=True)["stage"] != stage
    assert not (tmp_path / "run" / "model").exists()


def test_a_broken_training_photograph_ends_the_run_by_name_or_is_skipped(
    tiny: Make, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    broken = root / "train" / "disc" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"3\.png"):
        train(tiny({"data.root": str(root)}), out=tmp_path / "raise")
    run = train(tiny({"data.root": str(root), "data.on_error": "skip"}), out=tmp_path / "skip")
    assert run.metrics is not None
    assert "3.png" in capsys.readouterr().err


def test_a_saved_model_needs_neither_dataset_nor_text_tower(
    tiny: Make, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tiny(), out=tmp_path / "run")
    moved = tmp_path / "elsewhere"
    run.model_dir.rename(moved)
    monkeypatch.setattr("mpfgvc.model.network.build_text_tower", None)
    predictor = Predictor.from_pretrained(moved, device="cpu")
    guesses = predictor(photos / "test" / "disc" / "0.png", top=3)
    assert {guess.label for guess in guesses} == {"cross", "disc", "stripe"}
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)
    assert not [
        name for name in predictor.inference.network.state_dict() if "tower.transformer.token" in name
    ]


def test_a_predictor_on_the_cpu_packs_its_network_and_guesses_the_same(
    tiny: Make, photos: Path, tmp_path: Path
) -> None:
    run = train(tiny(), out=tmp_path / "run")
    packed = Predictor.from_pretrained(run.model_dir, device="cpu")
    plain = Predictor.of(load_model(run.model_dir), packed=False)
    assert any(isinstance(part, PackedLinear) for part in packed.inference.network.modules()) == can_pack()
    assert not any(isinstance(part, PackedLinear) for part in plain.inference.network.modules())
    image = photos / "test" / "disc" / "0.png"
    guessed, expected = (
        {guess.label: guess.probability for guess in predictor(image)} for predictor in (packed, plain)
    )
    assert guessed == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_loads(recipe: Path) -> None:
    assert load_config(recipe).stage1.epochs > 0


def test_a_damaged_environment_is_said_once_by_a_resume(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "environment.json").write_text("{")
    resume(run)
    assert capsys.readouterr().err.count("environment.json cannot be used") == 1


@pytest.mark.parametrize("settings", [None, "folder", {"seed": 1}])
def test_training_takes_only_settings(settings: object) -> None:
    with pytest.raises(ConfigError, match="train takes the settings that load_config gives"):
        train(settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("coop", "text"),
        ("zero-shot", "text"),
        ("probe", "vision"),
        ("rollout-patches", "fusion"),
        ("random-patches", "fusion"),
    ],
)
def test_an_ablation_trains_and_everything_answers_with_its_source(
    tiny: Make, tmp_path: Path, photos: Path, name: str, source: Source
) -> None:
    base = tmp_path / "tiny.yaml"
    base.write_text(dump_config(tiny({"stage1.epochs": 1, "stage2.epochs": 1})))
    config = load_config(f"ablations/{name}", base=base)
    run = train(config, out=tmp_path / "run")
    assert run.metrics is not None
    assert run.metrics.main == run.metrics.sources[source]
    answers = load_answers(RunFolder(run.path).predictions("test"))
    assert len(answers.paths) == 15
    assert {each: answers.right(each).mean() for each in answers.predicted} == pytest.approx(
        {each: metrics.top1 for each, metrics in run.metrics.sources.items()}
    )
    picture = photos / answers.paths[7]
    predictor = Predictor.from_pretrained(run.model_dir, device="cpu")
    assert predictor.source == source
    assert predictor(picture)[0].label == answers.predicted[source][7]
    assert explain(predictor, picture).guesses[0].label == answers.predicted[source][7]
    other = Predictor.from_pretrained(run.model_dir, device="cpu", source="vision")
    assert other(picture)[0].label == answers.predicted["vision"][7]


def test_a_tower_rate_of_zero_leaves_every_bit_of_the_tower(tiny: Make, tmp_path: Path) -> None:
    config = tiny({"stage1.tower_lr": 0, "stage1.epochs": 1, "stage2.epochs": 0})
    before = MPFGVC.from_config(
        config.model, ["cross", "disc", "stripe"], seed=config.seed
    ).image_encoder.state_dict()
    run = train(config, out=tmp_path / "run")
    after = load_model(run.path).network.image_encoder.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    stored = load_file(RunFolder(run.path).stage1)
    assert not [name for name in stored if "image_encoder" in name]
    assert "network.classifier.weight" in stored
