"""Precision follows the device."""

import pytest
import torch

from mpfgvc.config import Config
from mpfgvc.devices import start_fabric


@pytest.mark.parametrize(("has_bf16", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_where_the_cpu_computes_in_it(
    has_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert start_fabric(Config(device="cpu")).strategy.precision.precision == chosen


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize(("named", "chosen"), [("bf16", "bf16-mixed"), ("fp32", "32-true")])
def test_a_named_precision_is_taken_whatever_the_cpu(
    named: str, chosen: str, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    config = Config(device="cpu", precision=named)  # type: ignore[arg-type]
    assert start_fabric(config).strategy.precision.precision == chosen


def test_inputs_keep_their_bits_while_products_are_in_bf16() -> None:
    seen: list[torch.dtype] = []

    class Recorder(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(inputs)
            seen.extend([inputs.dtype, outputs.dtype])
            return outputs

    start_fabric(Config(device="cpu", precision="bf16")).setup(Recorder(3, 2))(torch.randn(5, 3))
    assert seen == [torch.float32, torch.bfloat16]
