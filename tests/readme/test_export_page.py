"""docs/export.md: its commands and its script run, and it says what the code says."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.readme.blocks import blocks_of, columns
from tests.readme.conftest import REPOSITORY
from tests.readme.test_readme import SMALL

from mpfgvc.deploy.parity import FASTER, LIMITS

for package in ("onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(package)
PAGE = REPOSITORY / "docs" / "export.md"
BLOCKS = blocks_of(PAGE)


@pytest.mark.slow("starts servers and another Python")
@pytest.mark.timeout(900)
def test_the_commands_and_the_script_run_in_the_order_of_the_page(
    mpfgvc: Callable[[list[str]], str], workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpfgvc.cli.runtime_command import main as runtime
    from mpfgvc.deploy import runtime as module

    monkeypatch.setitem(sys.modules, "mpfgvc_runtime", module)
    mpfgvc(["train", "--data.root", "my_photos", "--out", "runs/mushrooms", *SMALL])
    printed = []
    for block in BLOCKS:
        if block.language == "python":
            exec(block.text, {})  # noqa: S102
        for program, *words in block.commands if block.language == "bash" else []:
            loose = ["--agreement", "0"] if "int8" in words else []
            if program == "mpfgvc":
                printed.append(mpfgvc([*words, *loose]))
            elif program == "mpfgvc-runtime":
                assert runtime(words) == 0
            else:
                assert [program, *words][:2] == ["pip", "install"]
    (shown,) = [block.text for block in BLOCKS if block.language == "text"]
    names = [columns(line)[0] for line in printed[0].splitlines()]
    assert [columns(line)[0] for line in shown.splitlines()] == names


def test_the_limits_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (.+?) \| (any|[\d.]+) \| (\d+) % \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    shown = {name: (1.0 if most == "any" else float(most), int(share) / 100) for name, most, share in rows}
    assert shown == {
        **{name: (limits.difference, limits.agreement) for name, limits in LIMITS.items()},
        "fp32 or fp16 with `--engine openvino`": (FASTER.difference, FASTER.agreement),
    }


def test_the_page_is_in_order() -> None:
    text = PAGE.read_text("utf-8")
    assert [line for line in text.splitlines() if len(line) > 120] == []
    links = re.findall(r"\]\((?!https:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
