"""Start of the command line: seconds until `mpfgvc --help` and a refused setting have answered.

Printed beside them, measured in turns in the same run: an interpreter that does nothing, and one that
imports torch.
"""

import statistics
import subprocess
import sys
from functools import partial

from side_by_side import comparison, report, seconds_of

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "mpfgvc --help": ["-m", "mpfgvc", "--help"],
    "a refused setting": ["-m", "mpfgvc", "train", "--model.kept_token", "3"],
    "import torch": ["-c", "import torch"],
}
LIMITS = {"mpfgvc --help": 0.3, "a refused setting": 0.5}
"""The most seconds that each may take."""
ROUNDS = 7


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, words in COMMANDS.items():
            times[name].append(seconds_of(partial(_run, words)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:20s} {value:6.3f} s")
    pairs = {name: [(value, limit) for value in times[name]] for name, limit in LIMITS.items()}
    report("startup", [comparison(f"{name}, against the limit", "s", pairs[name], 1) for name in LIMITS])


def _run(words: list[str]) -> None:
    result = subprocess.run([sys.executable, *words], capture_output=True, check=False)
    if result.returncode != (2 if "train" in words else 0):
        raise SystemExit(f"startup: {' '.join(words)} ended with {result.returncode}")


if __name__ == "__main__":
    main()
