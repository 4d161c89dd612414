"""The table of `make bench` and the results that it is made from."""

from pathlib import Path

import everything


def test_the_table_in_the_readme_is_that_of_the_results() -> None:
    readme = Path(everything.HERE, "README.md").read_text()
    assert everything.speed_table() in readme
