"""Text from anywhere, on one line of a terminal and in tables for people."""

import csv
import io

import pytest

from mpfgvc.errors import csv_text, printable


def test_what_steers_a_terminal_or_turns_the_direction_of_writing_is_escaped() -> None:
    assert printable("a\x1b[2Jb\nc\x85\u2028d") == r"a\x1b[2Jb\nc\x85\u2028d"
    assert printable("crow\u202egpj.exe") == r"crow\u202egpj.exe"
    assert (
        printable("caf\u00e9 \u9ce5 \U0001f468\u200d\U0001f33e \udce9")
        == "caf\u00e9 \u9ce5 \U0001f468\u200d\U0001f33e \udce9"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_name_in_a_table_is_no_formula(start: str) -> None:
    name = f"{start}cmd|' /C calc'!A0"
    (row,) = csv.reader(io.StringIO(csv_text([(name, "\t=1", "a,b", -0.5, "-0.5", "+1e-05")])))
    assert row == [f"'{name}", r"\t=1", "a,b", "-0.5", "-0.5", "+1e-05"]
