"""Precision follows the device."""

import pytest
import torch

from mpfgvc.distributed import find_device, start_fabric
from mpfgvc.errors import ConfigError
from mpfgvc.terms import PrecisionSetting


@pytest.mark.parametrize(("has_bf16", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_where_the_cpu_computes_in_it(
    has_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert start_fabric("cpu", "auto").strategy.precision.precision == chosen


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize(("named", "chosen"), [("bf16", "bf16-mixed"), ("fp32", "32-true")])
def test_a_named_precision_is_taken_whatever_the_cpu(
    named: PrecisionSetting, chosen: str, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert start_fabric("cpu", named).strategy.precision.precision == chosen


def test_inputs_keep_their_bits_while_products_are_in_bf16() -> None:
    seen: list[torch.dtype] = []

    class Recorder(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs = super().forward(inputs)
            seen.extend([inputs.dtype, outputs.dtype])
            return outputs

    start_fabric("cpu", "bf16").setup(Recorder(3, 2))(torch.randn(5, 3))
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh"},
        {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4", "JSM_NAMESPACE_SIZE": "4"},
    ],
    ids=["sbatch --ntasks=4 without srun", "srun of one task", "other clusters"],
)
def test_variables_of_a_cluster_that_started_nothing_leave_one_process(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fabric = start_fabric("cpu", "fp32")
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_the_device_that_fabric_numbers_is_found_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("mps:0") == "mps:0"
    with pytest.raises(ConfigError, match="got mps:1"):
        find_device("mps:1")


def test_a_numbered_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="got mps:0"):
        find_device("mps:0")
