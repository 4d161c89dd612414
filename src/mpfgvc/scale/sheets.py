"""GPUs by name, as their data sheets describe them. No torch, so that a mistyped name is refused at once."""

from dataclasses import dataclass

from mpfgvc.errors import ConfigError

UTILISATION = 0.3
"""Share of the data sheet's rate that a training is assumed to reach."""
MEASURED = "measured"
"""The rate that stands for a measurement on this machine."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The data sheet of a GPU: dense TFLOP/s in bfloat16, memory in GB."""

    teraflops: float
    gigabytes: float
    name: str

    @property
    def source(self) -> str:
        """Where the rate is known from, for people."""
        sheet = f"data sheet of the {self.name}, {self.teraflops:g} TFLOP/s dense bf16"
        return f"{sheet}, of which {UTILISATION:.0%} are assumed, not measured"


SHEETS = {
    "h200": Sheet(teraflops=989, gigabytes=141, name="NVIDIA H200 (SXM)"),
    "h100": Sheet(teraflops=989, gigabytes=80, name="NVIDIA H100 (SXM)"),
    "a100": Sheet(teraflops=312, gigabytes=80, name="NVIDIA A100 (80 GB)"),
    "l4": Sheet(teraflops=121, gigabytes=24, name="NVIDIA L4"),
}
"""Dense rates: where a data sheet gives a rate with sparsity, half of it."""


def check_rate(name: str) -> None:
    """Raise ConfigError for a rate that is no name and no number."""
    if name != MEASURED and name not in SHEETS:
        sustained(name)


def sustained(name: str) -> float:
    """FLOP/s of a named GPU, or of a number of TFLOP/s. Raises ConfigError."""
    if (sheet := SHEETS.get(name)) is not None:
        return UTILISATION * sheet.teraflops * 1e12
    try:
        teraflops = float(name)
    except ValueError:
        teraflops = 0.0
    if not 0 < teraflops < 1e9:
        known = ", ".join([MEASURED, *SHEETS])
        raise ConfigError(f"--rate must be one of {known}, or a number of TFLOP/s above 0, got {name}")
    return teraflops * 1e12
