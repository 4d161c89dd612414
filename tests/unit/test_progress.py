"""Notes and errors never land on the line of a bar, and work goes on if nobody can read them."""

import errno
import sys

import pytest

from mpfgvc.errors import printable
from mpfgvc.progress import Bar, close_bars, say


def test_an_open_bar_is_ended_before_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar("stage1", total=7, done=2)
    bar.advance(3)
    bar.show(loss="0.5")
    close_bars()
    say("an error")
    *_, above, line = capsys.readouterr().err.splitlines()
    assert "stage1" in above
    assert "5/7" in above
    assert line == "mpfgvc: an error"


def test_a_closed_bar_is_not_closed_again(capsys: pytest.CaptureFixture[str]) -> None:
    Bar("stage2", total=3).close()
    capsys.readouterr()
    close_bars()
    assert capsys.readouterr().err == ""


def test_control_characters_cannot_steer_a_terminal_or_break_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[31mb\nc\u2028é\udce9") == "a\\x1b[31mb\\nc\\u2028é\udce9"
    say("skipped bad\nname.jpg")
    assert capsys.readouterr().err == "mpfgvc: skipped bad\\nname.jpg\n"


class _Gone:
    """Standard error whose reader went away."""

    encoding = "utf-8"
    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def flush(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_work_goes_on_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = _Gone()
    monkeypatch.setattr(sys, "stderr", gone)
    bar = Bar("stage1", total=7)
    bar.advance(7)
    bar.show(loss="0.5")
    say("a note")
    bar.close()
    assert gone.tried > 0, "something was to be written, and its failure stopped nothing"
