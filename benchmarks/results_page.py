"""The tables of RESULTS.md, from finished comparisons.

    python benchmarks/results_page.py cub50=runs/cub50 ...    take over what `mpfgvc compare` wrote there
    python benchmarks/results_page.py                         write the tables again

A comparison is kept as results/compare_NAME.json. Its table stands in RESULTS.md between the lines
`<!-- NAME -->` and `<!-- end -->`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from common import HERE, result_file, write_document
from mpfgvc.files import write_text

SOURCES = ("vision", "text", "fusion")
PAGE = HERE.parent / "RESULTS.md"
HEAD = (
    "| recipe | vision | text | fusion | answer, top-1 % | 95 % | to `{reference}` | 95 % | p | minutes |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)
TABLE = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->\n", re.DOTALL)


def main() -> None:
    for word in sys.argv[1:]:
        name, _, folder = word.partition("=")
        write_document(f"compare_{name}", json.loads((Path(folder) / "comparison.json").read_text()))
    write_text(PAGE, with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """The page with the tables of the results."""
    return TABLE.sub(lambda match: f"<!-- {match['name']} -->\n{table(match['name'])}<!-- end -->\n", page)


def table(name: str) -> str:
    """A row for each recipe of a comparison, and a line that says what it was tested on."""
    document = json.loads(result_file(f"compare_{name}").read_text())
    rows = "".join(f"| {' | '.join(_cells(recipe))} |\n" for recipe in document["recipes"])
    seeds = ", ".join(map(str, document["recipes"][0]["seeds"]))
    tested = f"{document['photographs']:,} photographs of the {document['split']} split, seeds {seeds}."
    return HEAD.format(reference=document["reference"]) + rows + f"\n{tested}\n"


def _cells(recipe: dict[str, Any]) -> list[str]:
    difference, spread = recipe["difference"], recipe["deviation"]
    trained = SOURCES if recipe["prediction"] == "fusion" else (recipe["prediction"],)
    paired = ["", "", ""]
    if difference is not None:
        paired = [f"{100 * difference['mean']:+.1f}", _interval(difference["interval"], "+.1f")]
        paired.append(f"{difference['p_value']:.2g}")
    return [
        recipe["name"],
        *(f"{100 * recipe['sources'][name]:.1f}" if name in trained else "" for name in SOURCES),
        f"{100 * recipe['accuracy']:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}"),
        _interval(recipe["interval"], ".1f"),
        *paired,
        f"{recipe['minutes']:.1f}",
    ]


def _interval(interval: dict[str, float], form: str) -> str:
    return f"{100 * interval['low']:{form}} to {100 * interval['high']:{form}}"


if __name__ == "__main__":
    main()
