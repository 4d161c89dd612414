"""One way to run a network: in parts on a CPU, in the precision asked for, and never with a NaN."""

import pytest
import torch
from torch import Tensor

from mpfgvc.distributed import start_fabric
from mpfgvc.errors import CheckpointError
from mpfgvc.inference.forward import Compute, Inference, encode_in_parts, forward_in_parts
from mpfgvc.model.network import MPFGVC
from mpfgvc.terms import Precision

CPU = Compute(device=torch.device("cpu"))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def test_on_a_cpu_images_are_encoded_a_few_at_a_time_with_the_same_result(network: MPFGVC, images: Tensor) -> None:
    encoder = network.image_encoder
    with torch.no_grad():
        whole = encoder(images)
    encoder.images_at_once = 2
    seen: list[int] = []
    encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    in_parts = encode_in_parts(encoder, images, CPU)
    assert seen == [2, 2, 1]
    torch.testing.assert_close(tuple(in_parts), tuple(whole))


def test_the_parts_have_the_bits_that_each_would_have_as_a_batch(network: MPFGVC, images: Tensor) -> None:
    network.image_encoder.images_at_once = 2
    output = forward_in_parts(network, images, CPU)
    with torch.no_grad():
        expected = torch.cat([network.image_encoder(part).embedding for part in images.split(2)])
        logits = network.fusion(expected, network.text())
    assert torch.equal(output.embedding, expected)
    assert torch.equal(output.fusion, logits), "the classifiers see the whole batch"


def test_bf16_multiplies_in_bf16_and_fp32_does_not_even_inside_an_autocast(network: MPFGVC, images: Tensor) -> None:
    plain = forward_in_parts(network, images, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        inside = forward_in_parts(network, images, CPU)
    half = forward_in_parts(network, images, Compute(device=CPU.device, precision="bf16"))
    assert (plain.fusion.dtype, half.fusion.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(inside.fusion, plain.fusion)
    torch.testing.assert_close(half.fusion.float(), plain.fusion, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_fabric_says_how_it_computes(precision: Precision) -> None:
    fabric = start_fabric("cpu", precision)
    assert Compute.of(fabric) == Compute(device=torch.device("cpu"), precision=precision)


@torch.no_grad()
def test_an_output_that_is_not_finite_is_refused_by_model_and_photograph(network: MPFGVC, images: Tensor) -> None:
    inference = Inference(network=network, compute=CPU, model="runs/x/model")
    names = [f"{place}.jpg" for place in range(5)]
    assert inference(images, names).logits.isfinite().all()
    images[3] = float("inf")
    line = r"^runs/x/model: its output for 3\.jpg is not finite; its weights are damaged[^\n]*$"
    with pytest.raises(CheckpointError, match=line):
        inference(images, names)


@torch.no_grad()
@pytest.mark.parametrize("tensor", ["classifier.bias", "projection.weight", "fusion.classifier.weight"])
def test_a_damaged_weight_of_any_source_is_noticed(network: MPFGVC, images: Tensor, tensor: str) -> None:
    network.state_dict()[tensor].view(-1)[2] = float("nan")
    with pytest.raises(CheckpointError, match=r"its output for a\.jpg is not finite"):
        Inference(network=network, compute=CPU)(images, ["a.jpg"] * 5)
