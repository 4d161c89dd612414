"""What a run was made with: the commit that its results can be had with again."""

import pytest

from mpfgvc import environment


@pytest.mark.parametrize(
    ("commit", "changed", "expected"),
    [("abc", "", "abc"), ("abc", "M loop.py", "abc-dirty"), (None, None, None)],
    ids=["clean", "changed", "no git"],
)
def test_the_commit_is_dirty_where_the_package_differs_from_it(
    monkeypatch: pytest.MonkeyPatch, commit: str | None, changed: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(environment, "_git", lambda *words: commit if "rev-parse" in words else changed)
    described = environment.describe_environment(device="cpu", precision="32-true", processes=1)
    assert described["commit"] == expected


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment._git("rev-parse", "HEAD") is None
