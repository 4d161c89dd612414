"""Tables for people, on standard output. Names in them are data: no markup, no control characters."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpfgvc.cli import output
from mpfgvc.errors import printable
from mpfgvc.progress import say
from mpfgvc.run_folder import RunFolder

if TYPE_CHECKING:
    from mpfgvc.evaluation.comparison import Comparison
    from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
    from mpfgvc.training.learned_prompts import LearnedPrompts
    from mpfgvc.training.run import Run

WORST_CLASSES = 5
CONFUSED_PAIRS = 5


def write_run(run: Run) -> None:
    """What a training gave, and what to type next."""
    if run.metrics is None:
        say("nothing was tested: final_test is false, or the dataset has no test split")
    else:
        write_evaluation(run.metrics)
    folder = printable(str(run.path))
    page = RunFolder(run.path).training_page
    if page.is_file():
        say(f"curves and early signs are in {page}")
    output.write_line(f"run folder  {folder}")
    output.write_line(f"next        mpfgvc predict {printable(shlex.quote(str(run.path)))} PHOTOS")


def write_evaluation(evaluation: Evaluation, *, report: str | None = None) -> None:
    """A row for each source of logits, the classes and pairs with most mistakes, and where its report is."""
    what = f"{evaluation.split} split" if evaluation.set == "run" else "another labelled set"
    numbers = f"{evaluation.count} photographs, {len(evaluation.classes)} classes"
    output.write_line(f"{what}, {numbers}, {evaluation.precision}")
    rows = [
        [source, *(f"{100 * accuracy:.1f}" for accuracy in metrics.to_dict().values())]
        for source, metrics in evaluation.sources.items()
    ]
    output.write_table(["source", "top-1 %", "top-5 %", "mean class %"], rows)
    if (hierarchy := evaluation.hierarchy) is not None:
        shares = ", ".join(f"{100 * share:.1f} {level}" for level, share in hierarchy.accuracy.items())
        output.write_line(f"right at each level, %: {printable(shares)}")
        if hierarchy.mistake_distance is not None:
            distance = f"{hierarchy.mistake_distance:.2f} levels of at most {hierarchy.farthest}"
            output.write_line(f"mean distance of a mistake in the taxonomy: {distance}")
    _write_mistakes([printable(name) for name in evaluation.classes], evaluation.main)
    if report is not None:
        output.write_line(f"report      {printable(report)}")
    for note in evaluation.notes:
        say(note)


def write_prompts(learned: LearnedPrompts) -> None:
    """A row for each class, then the closest pairs, and what the columns mean."""
    words = [
        " | ".join(", ".join(near.word.strip() for near in token) for token in prompt.tokens)
        for prompt in learned.prompts
    ]
    rows = [(prompt.label, f"{prompt.moved:.2f}", said) for prompt, said in zip(learned.prompts, words, strict=True)]
    output.write_table(["class", "moved", "nearest words of the learned tokens"], rows, text=(0, 2))
    pairs = [(" and ".join(pair.labels), f"{pair.cosine:.3f}", f"{pair.at_start:.3f}") for pair in learned.pairs]
    output.write_table(["closest classes by their texts", "cosine", "at the start"], pairs)
    output.write_line("moved: distance of the learned tokens from their start, over the length they started with")
    if learned.is_random:
        output.write_line("the text tower of this run is random: no word means anything to it")


def write_comparison(comparison: Comparison, folder: str) -> None:
    """A row for each recipe, what the columns mean, and where the tables are."""
    from mpfgvc.evaluation.comparison import COLUMNS, caption, table_rows

    output.write_table(COLUMNS, table_rows(comparison))
    output.write_line(caption(comparison))
    output.write_line(f"tables      {printable(folder)}/table.md, table.csv, comparison.json")


def _write_mistakes(classes: Sequence[str], metrics: SourceMetrics) -> None:
    """The classes that were recognised worst and the pairs that were mistaken most."""
    per_class = metrics.per_class()
    order = [label for label in per_class.argsort().tolist() if per_class[label] < 1][:WORST_CLASSES]
    if order:
        worst = ", ".join(f"{classes[label]} {100 * per_class[label]:.0f}" for label in order)
        output.write_line(f"lowest accuracies (%): {worst}")
    pairs = [
        f"{classes[pair.true]} as {classes[pair.predicted]} ({pair.photographs})"
        for pair in metrics.mistakes(CONFUSED_PAIRS)
    ]
    if pairs:
        output.write_line(f"most frequent mistakes: {', '.join(pairs)}")
