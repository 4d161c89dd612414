"""`mpfgvc export`: what it writes answers as the run does, says what it is, and is refused when it is off."""

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpfgvc import CheckpointError, ConfigError, Predictor, export
from mpfgvc.deploy.export.export import Limits
from mpfgvc.evaluation.calibration import calibration_of, fit_temperature
from mpfgvc.inference.answering import Calibration, Guess
from mpfgvc.inference.backends import Outputs
from mpfgvc.inference.exported import KEY, ExportedBackend
from mpfgvc.inference.saved_model import load_model, rewrite_description
from mpfgvc.terms import Engine

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
Cli = Callable[..., tuple[int, str, str]]
ANY = Limits(difference=0.2, agreement=0)
LABELS = np.repeat([0, 1, 2], 2)
"""Of the validation photographs."""


def stored_calibration(run: Path, photos: Path, where: str) -> Calibration:
    """What a run says after it was calibrated on its validation photographs, here said to be of `where`."""
    files = sorted((photos / "val").rglob("*.png"))
    logits = outputs(Predictor.from_pretrained(run, device="cpu"), files).fusion
    made = calibration_of({"fusion": logits}, LABELS, taxonomy=None, photographs=f"6 photographs of {where}")
    rewrite_description(run / "model", calibration=made, taxonomy=None)
    return made


@pytest.fixture(scope="module")
def small(finished: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in int8. It was hardly trained, so its answers are close to one another: any share will do."""
    run, level = tmp_path_factory.mktemp("exports") / "run", logging.getLogger().level
    shutil.copytree(finished, run)
    stored_calibration(run, photos, "the validation split")
    path = export(run, run / "int8.onnx", precision="int8", limits=ANY).path
    assert logging.getLogger().level == level, "the root logger is the caller's own"
    return path


@pytest.fixture(scope="module")
def files(photos: Path) -> list[Path]:
    return sorted((photos / "test").rglob("*.png"))


def outputs(predictor: Predictor, images: list[Any]) -> Outputs:
    """All that a model says about some images, given together."""
    pixels = np.stack([predictor.prepare(predictor.open(image)) for image in images])
    return predictor.backend.run(pixels, [str(image) for image in images])


def test_the_export_answers_as_the_network_does_from_raw_files(
    finished: Path, exported: Path, files: list[Path]
) -> None:
    predictor, runtime = Predictor.from_pretrained(finished, device="cpu"), Predictor.from_pretrained(exported)
    expected, found = outputs(predictor, files), outputs(runtime, files)
    for name in ("vision", "text", "fusion", "embedding"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4)
    np.testing.assert_array_equal(found.kept, expected.kept)
    for count in (1, 3, 15):
        for row, other in zip(runtime(files[:count], top=3), predictor(files[:count], top=3), strict=True):
            assert [guess.label for guess in row] == [guess.label for guess in other]
            probabilities = [guess.probability for guess in other]
            assert [guess.probability for guess in row] == pytest.approx(probabilities, abs=1e-5)


def test_any_engine_may_give_the_graph_a_batch_of_any_size(exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (7, 48, 48, 3), dtype=np.uint8)
    together = session.run(["fusion"], {"images": pixels})[0]
    alone = [session.run(["fusion"], {"images": each[None]})[0] for each in pixels]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["exported", pytest.param("small", marks=pytest.mark.slow("an export of its own"))])
def test_an_answer_does_not_depend_on_its_neighbours_or_the_threads_by_a_single_bit(
    request: pytest.FixtureRequest, files: list[Path], kind: str, engine: Engine
) -> None:
    pytest.importorskip(engine)
    file = request.getfixturevalue(kind)
    bright = np.full((48, 48, 3), 255, dtype=np.uint8)
    images = [files[0], bright, files[1], *[bright] * 14, files[2]]
    one = Predictor.from_pretrained(file, engine=engine, threads=1)
    alone = [outputs(one, [each]) for each in images]
    for threads in (1, 2, 3):
        runtime = Predictor.from_pretrained(file, engine=engine, threads=threads)
        for count in (1, 2, 5, 18):
            together = outputs(runtime, images[:count])
            for found, *expected in zip(together, *alone[:count], strict=True):
                np.testing.assert_array_equal(found, np.concatenate(expected))


def test_the_file_says_what_it_is_and_nothing_of_this_machine(finished: Path, exported: Path) -> None:
    model = onnx.load(exported)
    (entry,) = (each.value for each in model.metadata_props if each.key == KEY)
    document = json.loads(entry)
    predictor = Predictor.from_pretrained(finished, device="cpu")
    assert document["format"] == 1
    assert document["classes"] == list(predictor.classes)
    assert document["prediction"] == "fusion"
    assert document["temperature"] == pytest.approx(0.07)
    assert document["model"] == predictor.digest
    assert document["preprocessing"]["image_size"] == [48, 48]
    assert str(Path(__file__).parents[2]).encode() not in exported.read_bytes()
    assert not any("text_key" in tensor.name for tensor in model.graph.initializer)


def test_predict_takes_an_exported_file_and_imports_no_torch(
    cli: Cli, finished: Path, exported: Path, files: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    code, stdout, stderr = cli("predict", exported, broken, files[0], "--json", "--top", 1)
    assert code == 2
    first, second = json.loads(stdout)
    assert "not an image" in first["error"]
    (expected,) = json.loads(cli("predict", finished, files[0], "--json", "--top", 1)[1])
    assert second["guesses"][0]["label"] == expected["guesses"][0]["label"]
    assert "1 of 2 photographs predicted in fp32 by onnxruntime" in stderr
    no_torch = "import sys; sys.modules['torch'] = None; from mpfgvc.cli.main import main"
    words = [sys.executable, "-c", f"{no_torch}; sys.exit(main())", "predict", str(exported), str(files[0]), "--csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "path,rank,label,probability,error"


def test_the_runtime_has_a_command_of_its_own(
    capsys: pytest.CaptureFixture[str], exported: Path, files: list[Path]
) -> None:
    from mpfgvc.cli.runtime_command import main

    assert main(["predict", str(exported), str(files[0]), "--top", "1", "--source", "text", "--jsonl"]) == 0
    (guess,) = json.loads(capsys.readouterr().out)["guesses"]
    assert Predictor.from_pretrained(exported, source="text")(files[0], top=1) == [Guess(**guess)]
    assert main(["describe", str(exported), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp32"
    assert main(["predict", str(exported)]) == 2
    assert "the following arguments are required: PHOTO" in capsys.readouterr().err


@pytest.mark.slow("an export of its own")
def test_an_export_that_is_off_leaves_what_was_there_and_nothing_else(cli: Cli, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "off.onnx"
    out.write_bytes(b"the old one")
    code, stdout, stderr = cli("export", finished, "-o", out, "--precision", "fp16", "--difference", "1e-12")
    assert (code, stdout) == (2, "")
    assert "off.onnx was not written, it does not answer as the model does: a probability differs by " in stderr
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (b"the old one", [out])


@pytest.mark.slow("an export of its own")
def test_a_half_precision_file_is_half_as_large_and_is_compared_on_named_photographs(
    cli: Cli, finished: Path, exported: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "half.onnx"
    words = ("-o", out, "--precision", "fp16", "--photos", photos / "test", "--most", 9, "--json")
    code, stdout, _ = cli("export", finished / "model", *words)
    document = json.loads(stdout)
    assert (code, document["path"], document["bytes"]) == (0, str(out), out.stat().st_size)
    assert document["bytes"] < 0.65 * exported.stat().st_size
    parity = document["parity"]
    assert (parity["count"], parity["labelled"], parity["agreement"]) == (9, 9, 1.0)
    assert parity["agreement_at_least"] == pytest.approx(9 / (9 + 1.645**2))
    assert parity["accuracy_before"] == parity["accuracy_after"]
    assert 0 < parity["largest_difference"] < 0.02


@pytest.mark.slow("an export of its own")
def test_a_file_in_8_bits_is_calibrated_by_its_own_answers_and_its_ranges_are_constants(
    small: Path, photos: Path
) -> None:
    found = ExportedBackend(small).description.calibration
    assert found is not None
    assert found.photographs == "6 photographs of the validation split"
    after = outputs(Predictor.from_pretrained(small), sorted((photos / "val").rglob("*.png")))
    assert found.temperature_of("fusion") == pytest.approx(fit_temperature(after.fusion, LABELS), rel=1e-9)
    before = load_model(small.parent).calibration
    assert before is not None
    assert before.temperature_of("fusion") != found.temperature_of("fusion")
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "QuantizeLinear" in kinds
    assert not kinds & {"DynamicQuantizeLinear", "DynamicQuantizeMatMul"}, "answers would depend on the batch"


@pytest.mark.slow("an export of its own")
def test_a_file_in_8_bits_has_no_calibration_if_that_of_the_run_is_of_other_photographs(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored_calibration(run, photos, "another labelled set")
    path = export(run, tmp_path / "int8.onnx", precision="int8", limits=ANY).path
    assert ExportedBackend(path).description.calibration is None
    assert "the file is not calibrated: the model was, by 6 photographs of another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["RUN", "-o", "model.pb"], r"--out must end with \.onnx, got model\.pb"),
        (["RUN", "-o", "m.onnx", "--most", "0"], "--most must be at least 1, got 0"),
        (["RUN", "-o", "m.onnx", "--agreement", "2"], "--agreement must be between 0 and 1, got 2"),
        (["RUN/model", "-o", "m.onnx"], "is not a run folder, so it has no photographs to compare"),
        (["none", "-o", "m.onnx"], "there is no folder none"),
        (["RUN", "-o", "m.onnx", "--photos", "none"], "no photographs in none"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    cli: Cli, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished, "RUN/model": finished / "model"}
    code, stdout, stderr = cli("export", *[places.get(word, word) for word in words])
    assert (code, stdout) == (2, "")
    assert re.search(line, stderr)
    assert len([each for each in stderr.splitlines() if each.startswith("mpfgvc: ")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_by_name(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, other)
    with pytest.raises(CheckpointError, match=r"other\.onnx is an ONNX file, but not one of mpfgvc export"):
        Predictor.from_pretrained(other)
    other.write_bytes(exported.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"onnxruntime cannot load .*other\.onnx.*; export it again"):
        Predictor.from_pretrained(other)
    with pytest.raises(CheckpointError, match=r"none\.onnx: No such file or directory"):
        Predictor.from_pretrained(tmp_path / "none.onnx")


def test_a_single_bit_that_has_changed_is_found(exported: Path, tmp_path: Path) -> None:
    other, content = tmp_path / "other.onnx", exported.read_bytes()
    for index in [0, len(content) - 1, *np.random.default_rng(0).integers(0, len(content) - 80, 40).tolist()]:
        changed = bytearray(content)
        changed[index] ^= 4
        other.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"other\.onnx is damaged: its content does not match the digest"):
            Predictor.from_pretrained(other)


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (["cross", "disc"], "names 2 classes, but its graph has 3"),
        (["cross", "disc", "stripe", "star"], "names 4 classes, but its graph has 3"),
        (["cross", "disc", "disc"], 'names that all differ, got "disc"'),
    ],
)
def test_names_that_somebody_changed_are_compared_with_the_graph(
    exported: Path, tmp_path: Path, classes: list[str], line: str
) -> None:
    other, model = tmp_path / "other.onnx", onnx.load(exported)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    about = json.dumps(json.loads(entries[KEY]) | {"classes": classes, "calibration": None})
    onnx.helper.set_model_props(model, {KEY: about})
    onnx.save(model, other)
    with pytest.raises(CheckpointError, match=line):
        Predictor.from_pretrained(other)


def test_options_of_the_runtime_are_checked(cli: Cli, exported: Path, finished: Path, files: list[Path]) -> None:
    with pytest.raises(ConfigError, match="engine must be one of onnxruntime, openvino, got 'tensorrt'"):
        Predictor.from_pretrained(exported, engine="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="threads must be a whole number of at least 1, got 0"):
        Predictor.from_pretrained(exported, threads=0)
    code, _, stderr = cli("predict", exported, files[0], "--precision", "bf16")
    assert code == 2
    assert "an exported model runs on the CPU in the precision of its file" in stderr
    code, _, stderr = cli("predict", finished, files[0], "--engine", "openvino")
    assert code == 2
    assert "--engine and --threads are for a .onnx file" in stderr


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_several_threads_may_ask_at_once(exported: Path, files: list[Path], engine: Engine) -> None:
    pytest.importorskip(engine)
    runtime = Predictor.from_pretrained(exported, engine=engine)
    expected = runtime(files)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(runtime, files * 4)) == expected * 4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_that_was_replaced_is_not_mixed_with_the_one_that_was_opened(
    exported: Path, files: list[Path], tmp_path: Path, engine: Engine
) -> None:
    pytest.importorskip(engine)
    file = tmp_path / "model.onnx"
    file.write_bytes(exported.read_bytes())
    runtime = Predictor.from_pretrained(file, engine=engine, threads=2)
    expected = runtime(files[0])
    file.unlink()
    file.write_bytes(exported.read_bytes())
    with pytest.raises(CheckpointError, match=f"{file} has changed since it was opened; open it again"):
        runtime(files)
    assert runtime(files[0]) == expected


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_an_engine_refuses_does_not_disturb_the_next(exported: Path, files: list[Path], engine: Engine) -> None:
    pytest.importorskip(engine)
    runtime = Predictor.from_pretrained(exported, engine=engine, threads=2)
    expected = runtime(files)
    with pytest.raises(CheckpointError, match=r"(?i)^cannot run [^\n]*(shape|dimension)[^\n]*; export it again$"):
        runtime.backend.run(np.zeros((15, 20, 20, 3), dtype=np.uint8), ["a"] * 15)
    assert runtime(files) == expected


def test_openvino_answers_alike(exported: Path, files: list[Path]) -> None:
    pytest.importorskip("openvino")
    plain, fast = Predictor.from_pretrained(exported), Predictor.from_pretrained(exported, engine="openvino")
    expected, found = outputs(plain, files), outputs(fast, files)
    cosines = [
        np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(expected.embedding, found.embedding, strict=True)
    ]
    assert min(cosines) > 0.99


STACK_OF_SIGNALS = """
import ctypes, sys
from pathlib import Path
from mpfgvc import Predictor

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

first = Predictor.from_pretrained(Path(sys.argv[1]), engine="openvino", threads=1)
second = Predictor.from_pretrained(Path(sys.argv[1]), engine="openvino", threads=1)
del first
del second
stack = Stack()
assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
regions = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
inside = [int(start, 16) <= (stack.start or 0) < int(end, 16) for start, end in regions]
assert stack.start is None or any(inside), hex(stack.start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the stack of signals")
def test_openvino_leaves_signals_a_stack_that_is_there(exported: Path) -> None:
    """With AMX it sets one up, and two cores that end in the order of their beginning leave a freed one."""
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", STACK_OF_SIGNALS, exported], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
