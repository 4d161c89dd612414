"""Do probabilities keep their promises on photographs that were not used to make them?

    python benchmarks/certainty.py NAME=RUN ...      finished runs with a validation split

The logits of the validation and test photographs of a run are computed once. Then, for five seeds, they are
mixed and drawn apart again: as many photographs as the validation split has calibrate, the others are
measured.
The run must not have chosen anything by its validation photographs (`patience: null`).

    ece         expected calibration error before and after the temperature
    abstain     share of wrong answers among those given, and share answered, for several asked shares
    set         share of sets that hold the right class: as the theory has them (they may be empty), and as
                `predict --set` gives them (the best guess is always in it); and their mean size
    back off    with a taxonomy: how many answers at each level, and how many of them are wrong

Writes results/certainty.json, and keeps what it has of other names.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import result_file, spread, write_result
from mpfgvc import AnswerRules, Predictor
from mpfgvc.data.loading import labels_of
from mpfgvc.data.run_photos import photos_of_run
from mpfgvc.data.taxonomy import CLASS, Taxonomy
from mpfgvc.evaluation.calibration import calibration_of, collect
from mpfgvc.evaluation.evaluate import run_loader
from mpfgvc.evaluation.statistics import error_with_interval, expected_calibration_error
from mpfgvc.inference.answering import Answering, ModelFacts, softmax
from mpfgvc.run_folder import RunFolder

SEEDS = (0, 1, 2, 3, 4)
RISKS = (0.01, 0.02, 0.05, 0.1)
SHARES = (0.8, 0.9, 0.95, 0.99)
Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
Figures = dict[str, float]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    options = parser.parse_args()
    results = {}
    for word in options.runs:
        name, _, run = word.partition("=")
        results[name] = measure(Path(run))
        report(name, results[name])
    file = result_file("certainty")
    before = json.loads(file.read_text())["sets"] if file.exists() else {}
    write_result("certainty", {"seeds": SEEDS, "sets": before | results})


def measure(run: Path) -> dict[str, Any]:
    """All figures of one run: mean and standard deviation over the seeds."""
    predictor = Predictor.from_pretrained(run)
    logits, labels, count = _logits(run, predictor)
    facts = predictor.answering.facts
    found = [_of_seed(seed, logits, labels, count, facts) for seed in SEEDS]
    error = {
        when: _interval(logits[count:], labels[count:], temperature)
        for when, temperature in (("before", 1.0), ("after", predictor.answering.temperature))
    }
    return {
        "calibrated on": count,
        "measured on": len(labels) - count,
        "own split": {"ece": error, "temperature": predictor.answering.temperature},
        "over seeds": {name: spread([each[name] for each in found]) for name in found[0]},
    }


def _logits(run: Path, predictor: Predictor) -> tuple[Logits, Labels, int]:
    """Of the validation photographs, then of the test photographs; and how many the first are."""
    config = RunFolder.open(run).read_config()
    if config.stage1.patience is not None or config.stage2.patience is not None:
        raise SystemExit(f"{run} chose its epoch by its validation photographs; train it with patience: null")
    photos = photos_of_run(RunFolder.open(run)).photos
    chosen = (*photos.subset("validation"), *photos.subset("test"))
    strict = config.replaced(data=config.data.replaced(on_error="raise"))
    loader = run_loader(predictor, chosen, strict)
    logits, labels, _ = collect(predictor.inference, loader, labels_of(chosen))
    return logits[predictor.source], labels, len(photos.subset("validation"))


def _of_seed(seed: int, logits: Logits, labels: Labels, count: int, facts: ModelFacts) -> Figures:
    order = np.random.default_rng(seed).permutation(len(labels))
    known, new = order[:count], order[count:]
    calibration = calibration_of({"fusion": logits[known]}, labels[known], taxonomy=facts.taxonomy, photographs="drawn")
    facts = ModelFacts(name="the run", classes=facts.classes, calibration=calibration, taxonomy=facts.taxonomy)
    rows, truth = logits[new], labels[new]
    figures = {
        "ece before": _ece(softmax(rows), truth),
        "ece after": _ece(softmax(rows, calibration.sources[0].temperature), truth),
        "top-1": float((rows.argmax(axis=1) == truth).mean()),
    }
    for risk in RISKS:
        figures |= _abstain(rows, truth, facts, risk)
    for share in SHARES:
        figures |= _sets(rows, truth, facts, share)
    return figures


def _ece(probabilities: NDArray[np.float64], labels: Labels) -> float:
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def _interval(logits: Logits, labels: Labels, temperature: float) -> dict[str, float]:
    shares = softmax(logits, temperature)
    error = error_with_interval(shares.max(axis=1), shares.argmax(axis=1) == labels)
    return {"value": error.value, "low": error.interval.low, "high": error.interval.high}


def _abstain(logits: Logits, labels: Labels, facts: ModelFacts, risk: float) -> Figures:
    """Plain abstention, and with a taxonomy backing off: by level, and all answers together."""
    plain = _levels(logits, labels, Answering(facts, AnswerRules(abstain=risk)), None)
    figures = {f"abstain {risk:g} {name}": value for name, value in plain[CLASS].items()}
    if facts.taxonomy is None:
        return figures
    answering = Answering(facts, AnswerRules(abstain=risk, back_off=True))
    levels = _levels(logits, labels, answering, facts.taxonomy)
    for level in (*facts.taxonomy.names, "any level"):
        figures |= {f"back off {risk:g}, {level} {name}": value for name, value in levels[level].items()}
    return figures


def _levels(logits: Logits, labels: Labels, answering: Answering, taxonomy: Taxonomy | None) -> Mapping[str, Figures]:
    """By level: the share of photographs that are answered there, and the share of these that is wrong."""
    names = (CLASS,) if taxonomy is None else taxonomy.names
    groups = {CLASS: answering.facts.classes}
    if taxonomy is not None:
        groups |= dict(zip(taxonomy.levels, taxonomy.groups, strict=True))
    given, wrong = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for row, label in zip(answering.probabilities(logits), labels, strict=True):
        answer = answering.answer(row)
        if answer.label is not None:
            given[answer.level] += 1
            wrong[answer.level] += groups[answer.level][label] != answer.label
    counts = {name: (given[name], wrong[name]) for name in names}
    counts["any level"] = (sum(given.values()), sum(wrong.values()))
    return {
        name: {"answered": all_given / len(labels), "wrong": all_wrong / max(1, all_given)}
        for name, (all_given, all_wrong) in counts.items()
    }


def _sets(logits: Logits, labels: Labels, facts: ModelFacts, share: float) -> Figures:
    answering = Answering(facts, AnswerRules(set=share))
    assert facts.calibration is not None
    rows = answering.probabilities(logits)
    bound = facts.calibration.set_bound(share)
    sets = [answering.answer(row).classes or () for row in rows]
    held = [facts.classes[label] in each for each, label in zip(sets, labels, strict=True)]
    return {
        f"set {share:g} in theory": float((rows[np.arange(len(labels)), labels] >= bound).mean()),
        f"set {share:g} held": float(np.mean(held)),
        f"set {share:g} size": float(np.mean([len(each) for each in sets])),
    }


def report(name: str, result: Mapping[str, Any]) -> None:
    """The figures for people."""
    print(f"\n{name}: calibrated on {result['calibrated on']}, measured on {result['measured on']}")
    for when, error in result["own split"]["ece"].items():
        low, high = _percent(error["low"]), _percent(error["high"])
        print(f"ece {when:8s} {_percent(error['value'])}  ({low} to {high})")
    for figure, values in result["over seeds"].items():
        scale = 1 if figure.endswith("size") else 100
        print(f"{figure:36s} {scale * values['mean']:7.2f} ± {scale * values['std']:.2f}")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    main()
