"""Lines for people while something runs, on standard error; standard output belongs to results."""

import sys

from tqdm import tqdm


def say(line: str) -> None:
    """Print one line, clear of any progress bar."""
    tqdm.write(f"mpfgvc: {line}", file=sys.stderr)
