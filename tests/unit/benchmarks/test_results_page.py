"""The tables of RESULTS.md and the comparisons that they are made from."""

from results_page import PAGE, TABLE, with_tables


def test_the_tables_of_the_page_are_those_of_the_comparisons() -> None:
    page = PAGE.read_text()
    assert TABLE.search(page)
    assert with_tables(page) == page
