"""The plan of a training as text: memory, time, and what makes it fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mpfgvc.cli import output
from mpfgvc.cli.tables import write_table
from mpfgvc.progress import printable, say

if TYPE_CHECKING:
    from mpfgvc.scale.fit import Fit
    from mpfgvc.scale.plan import Misfit, Plan

LEAST_SHARE = 0.002
"""Parts below this share of a moment are added up in one row."""


def write_plan(plan: Plan, fit: Fit) -> None:
    """The parts of the largest moment, a row for each moment and each stretch of time, and the verdict."""
    question, rate = plan.question, plan.rate
    asked = f"{question.classes:,} classes, {question.images:,} photographs, {question.processes} processes"
    output.write_line(f"{asked}, {plan.precision}")
    output.write_line(f"rate: {printable(rate.name)}, {printable(rate.source)}")
    _write_moments(plan)
    _write_parts(plan)
    _write_time(plan)
    _write_verdict(plan, fit)
    for note in plan.notes:
        say(note)


def _write_moments(plan: Plan) -> None:
    table = _numbers("memory of one process", *(["device", "host"] if plan.load.gpu else ["in all"]))
    for moment in plan.moments:
        totals = [moment.total("device"), moment.total("host")] if plan.load.gpu else [moment.total()]
        table.add_row(moment.name, *map(in_bytes, totals))
    write_table(table)


def _write_parts(plan: Plan) -> None:
    moment = plan.peak
    table = _numbers(f"parts of: {moment.name}", "bytes", "where")
    least = LEAST_SHARE * moment.total()
    for part in moment.parts:
        if part.bytes >= least:
            table.add_row(part.name, in_bytes(part.bytes), part.place if plan.load.gpu else "")
    rest = sum(part.bytes for part in moment.parts if part.bytes < least)
    if rest:
        table.add_row("smaller parts", in_bytes(rest), "")
    write_table(table)


def _write_time(plan: Plan) -> None:
    table = _numbers("time of one process", "FLOP", "time")
    for stretch in plan.stretches:
        table.add_row(stretch.name, f"{stretch.flops:.2g}", in_time(stretch.seconds))
    table.add_row("in all", f"{sum(each.flops for each in plan.stretches):.2g}", in_time(plan.seconds))
    write_table(table)
    hours = f"{plan.hours:,.3g} hours of one {'GPU' if plan.load.gpu else 'process'}"
    money = "" if plan.cost is None else f", at {plan.question.price:g} an hour {plan.cost:,.0f}"
    output.write_line(
        f"cost: {hours}{money}; a photograph of stage 1: {1000 * plan.seconds_per_image:.3g} ms"
    )


def _write_verdict(plan: Plan, fit: Fit) -> None:
    if plan.misfit is None:
        output.write_line("fits, as far as the memory is known" if plan.load.gpu else "fits")
        return
    output.write_line(f"does not fit: {_misfit(plan.misfit)}")
    settings = " ".join(
        f"--{name} {'null' if new is None else new}" for name, new in fit.changes(plan).items()
    )
    if settings:
        output.write_line(f"{'fits with' if fit.left is None else 'with'}: {settings}")
        output.write_line(
            f"then the time is {in_time(fit.plan.seconds)}, largest moment: {fit.plan.peak.name}"
        )
    if fit.left is not None:
        output.write_line(f"still does not fit: {_misfit(fit.left)}; {fit.reason}")


def _misfit(misfit: Misfit) -> str:
    where = "a device" if misfit.place == "device" else "a machine"
    needs = f"needs {in_bytes(misfit.needs)} of the {in_bytes(misfit.has)} of {where}"
    return f"{misfit.moment} {needs}, most of it: {misfit.largest}"


def in_bytes(amount: float) -> str:
    """Bytes for people, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.4g} TB"


def in_time(seconds: float) -> str:
    """A length of time for people."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.3g} days"


def _numbers(first: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
