"""Evaluating photographs that cannot all be read, in one process and in two."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from PIL import Image
from torch import nn

from mpfgvc.data.loading import EvaluationLoader, labels_of
from mpfgvc.data.preprocessing import Preprocessing
from mpfgvc.data.samples import Samples
from mpfgvc.data.transforms import eval_transform as make_transform
from mpfgvc.errors import DataError
from mpfgvc.evaluation.evaluate import evaluate_photos
from mpfgvc.inference.forward import Compute
from mpfgvc.processes import Processes

PREPROCESSING = Preprocessing(
    image_size=(6, 6), resize="squash", crop_ratio=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear"
)
BROKEN = (2, 5, 9)


@dataclass
class Logits:
    fusion: torch.Tensor


@dataclass
class Runs:
    """Runs a network on the CPU."""

    network: nn.Module
    compute: Compute = field(default_factory=lambda: Compute(device=torch.device("cpu")))

    def __call__(self, images: torch.Tensor, names: list[str]) -> Logits:
        return self.network(images)


class Brightest(nn.Module):
    """Recognises a photograph by its brightest colour."""

    classes = ("red", "green", "blue")
    prediction = "fusion"

    def forward(self, images: torch.Tensor) -> Logits:
        return Logits(images.mean(dim=(2, 3)))


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """13 photographs in three colours; the last is labelled wrongly, three are broken."""
    made = []
    for index in range(13):
        pixels = np.zeros((8, 8, 3), dtype=np.uint8)
        pixels[..., index % 3] = 255
        path = tmp_path / f"{index}.png"
        Image.fromarray(pixels).save(path)
        if index in BROKEN:
            path.write_bytes(b"no image")
        made.append((path.name, 2 if index == 12 else index % 3, "test"))
    return Samples.of(tmp_path, made)


def evaluated(samples, *, processes=None):
    loader = EvaluationLoader(
        samples, make_transform(PREPROCESSING), batch_size=2, on_error="skip", processes=processes or Processes()
    )
    inference = Runs(Brightest())
    return evaluate_photos(inference, loader, labels_of(samples), split="test", sources=("fusion",))


def test_what_cannot_be_read_is_left_out_counted_and_said(samples):
    evaluation = evaluated(samples)
    assert evaluation.count == 10
    assert evaluation.top1 == 0.9
    assert evaluation.left_out.unreadable == tuple(str(samples[index].path) for index in BROKEN)
    assert evaluation.to_dict()["left_out"]["unreadable"] == 3
    assert evaluation.notes[0].startswith("photographs that cannot be read, left out: 3 of 13 (")
    assert evaluation.precision == "fp32"


def test_if_nothing_can_be_read_there_is_nothing_to_evaluate(samples):
    with pytest.raises(DataError, match=r"cannot be read, left out: 2 of 2 .*nothing else to evaluate"):
        evaluated(samples.take([2, 5]))


def evaluate_a_share(rank, port, samples, queue):
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    queue.put(facts(evaluated(samples, processes=Processes(rank=rank, world=2))))
    distributed.barrier()
    distributed.destroy_process_group()


def facts(evaluation):
    """All that an evaluation says, for a comparison by `==`."""
    columns = {name: value.tolist() for name, value in vars(evaluation.main).items() if name != "classes"}
    return evaluation.to_dict(), evaluation.left_out, evaluation.paths, columns


def test_two_processes_leave_out_and_count_what_one_does(samples, free_port):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (free_port, samples, queue)
    processes = [context.Process(target=evaluate_a_share, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert results == [facts(evaluated(samples))] * 2
