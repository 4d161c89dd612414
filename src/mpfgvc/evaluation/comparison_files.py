"""A comparison on disk: `table.csv`, `table.md`, `comparison.json`, and `index.html`, a page with charts."""

import json
from pathlib import Path

from mpfgvc.evaluation.comparison import Comparison
from mpfgvc.evaluation.comparison_page import comparison_page
from mpfgvc.evaluation.comparison_table import comparison_csv, comparison_markdown
from mpfgvc.storage.whole_files import make_folder, write_text


def write_comparison_files(comparison: Comparison, folder: Path) -> None:
    """Write the four files into a folder, which is made if it is not there. Raises OutputError."""
    make_folder(folder)
    write_text(folder / "table.csv", comparison_csv(comparison))
    write_text(folder / "table.md", comparison_markdown(comparison))
    write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=2) + "\n")
    write_text(folder / "index.html", comparison_page(comparison))
