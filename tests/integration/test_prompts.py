"""`mpfgvc prompts` reads what the prompts of a run have learned."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mpfgvc import CheckpointError, Config, load_config
from mpfgvc.files import write_with_digest
from mpfgvc.model.network import MPFGVC
from mpfgvc.model.prompts import ClassPrompts
from mpfgvc.training.learned_prompts import learned_prompts

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


def _at_start(run: Path) -> ClassPrompts:
    config: Config = load_config(run / "config.yaml")
    classes = json.loads((run / "photographs.json").read_text())["classes"]
    text = MPFGVC.from_config(config.model, classes, seed=config.seed).text
    assert isinstance(text, ClassPrompts)
    return text


def _stored(run: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(run / "stage1.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def _plant(run: Path, context: Tensor) -> None:
    tensors, about = _stored(run)
    tensors["network.text.context"] = context.detach().contiguous()
    write_with_digest(run / "stage1.safetensors", save(tensors, metadata=about))


@torch.no_grad()
def test_a_token_that_is_a_word_is_named_with_cosine_one(cli: Cli, run: Path) -> None:
    text = _at_start(run)
    classes, tokens = text.context.shape[:2]
    words = ["café", "wing"][:tokens]
    ids = [text.tower.token_ids(word) for word in words]
    assert all(len(each) == 1 for each in ids)
    planted = text.tower.embed_tokens(torch.tensor(ids).flatten())
    _plant(run, planted.expand(classes, -1, -1))
    code, stdout, _ = cli("prompts", run, "--json")
    document = json.loads(stdout)
    assert code == 0
    assert len(document["prompts"]) == classes
    for prompt in document["prompts"]:
        assert [near[0]["word"].strip() for near in prompt["tokens"]] == words
        assert [near[0]["cosine"] for near in prompt["tokens"]] == pytest.approx([1] * tokens, abs=1e-4)


@torch.no_grad()
def test_how_far_tokens_moved_is_in_lengths_of_their_start(run: Path) -> None:
    start = _at_start(run).context
    _plant(run, start)
    assert {prompt.moved for prompt in learned_prompts(run).prompts} == {0.0}
    _plant(run, 3 * start)
    assert [prompt.moved for prompt in learned_prompts(run).prompts] == pytest.approx([2.0] * len(start))


@torch.no_grad()
def test_the_closest_classes_are_those_of_the_text_features(run: Path) -> None:
    found = learned_prompts(run, pairs=100).pairs
    text = _at_start(run)
    classes = json.loads((run / "photographs.json").read_text())["classes"]
    before = F.normalize(text(), dim=-1)
    text.context.copy_(_stored(run)[0]["network.text.context"])
    now = F.normalize(text(), dim=-1)
    expected = {
        (classes[one], classes[other]): (float(now[one] @ now[other]), float(before[one] @ before[other]))
        for one in range(len(classes))
        for other in range(one + 1, len(classes))
    }
    assert {pair.labels for pair in found} == set(expected)
    for pair in found:
        assert (pair.cosine, pair.at_start) == pytest.approx(expected[pair.labels], abs=1e-4)
    cosines = [pair.cosine for pair in found]
    assert cosines == sorted(cosines, reverse=True)
    assert learned_prompts(run, pairs=1).pairs == found[:1]


def test_prompts_are_printed_for_people(cli: Cli, run: Path) -> None:
    code, stdout, _ = cli("prompts", run, "--words", 2, "--pairs", 1)
    assert code == 0
    for name in json.loads((run / "photographs.json").read_text())["classes"]:
        assert name in stdout
    assert "closest classes" in stdout
    assert stdout.endswith("the text tower of this run is random: no word means anything to it\n")


def test_what_has_no_prompts_is_refused_with_the_way_out(cli: Cli, run: Path, tmp_path: Path) -> None:
    assert cli("prompts", tmp_path / "none")[0] == 2
    _plant(run, _stored(run)[0]["network.text.context"][:, :-1])
    code, _, stderr = cli("prompts", run)
    assert (code, "belongs to another text tower" in stderr) == (2, True), stderr
    (run / "stage1.safetensors").unlink()
    code, _, stderr = cli("prompts", run)
    assert (code, "its stage 1 has not ended; finish it first" in stderr) == (2, True), stderr


def test_a_broken_file_is_named(run: Path) -> None:
    (run / "stage1.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"stage1\.safetensors"):
        learned_prompts(run)
