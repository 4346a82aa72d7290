"""The tables of a study: their columns as data for the console and the report, and how a console shows them."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isinf, isnan, nan
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType

from workers.comparison.findings import arms_of, verdict
from workers.comparison.results import ArmResult, Comparison, Contrast, Interval
from workers.comparison.stored_runs import version_runs
from workers.comparison.text import (
    UNKNOWN,
    budget_of,
    number,
    percent,
    plural,
    probability,
    ratio,
    shortened,
    target_of,
)
from workers.console.drawing import Frame, cells_of, fitted, flowed
from workers.console.text import Line, clean

WIDE = 110  # cells from which on a console shows every interval
NOTE = "Medians over runs; in brackets 95 % intervals; IQM: the mean of the middle half of the runs."
CRITICS_NOTE = "On held-out episodes with sampled actions, median over a run's evaluations: 1 is perfect, 0 a constant."
GRADIENTS_NOTE = "Of the same episodes of one snapshot, half-way to the target; 95 % intervals over episodes."
STYLES = {1: "bold green", 0: "", -1: "bold red"}  # of a verdict
Bounds = tuple[str, str | None] | tuple[()]  # of an interval; high is None where it is infinite, () is unknown


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure and its 95 % interval."""

    text: str
    interval: Bounds = ()
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """How a figure of an arm or a contrast is shown, under two lines of title."""

    title: str
    cell: Callable[[Comparison, Any], Cell]
    narrow: bool = True  # consoles that are not wide show its intervals, too


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each named arm or contrast."""

    title: str
    rows: dict[str, Any]
    columns: Sequence[Column]
    note: str = ""


def _bounds(interval: Interval, words: Callable[[float], str] = number) -> Bounds:
    if isnan(interval.value) or isnan(interval.low) or isnan(interval.high) or isinf(interval.low):
        return ()
    return words(interval.low), None if isinf(interval.high) else words(interval.high)


def _estimate(interval: Interval, words: Callable[[float], str] = number, never: str = "not reached") -> Cell:
    return Cell(never if isinf(interval.value) else words(interval.value), _bounds(interval, words))


def _steps(comparison: Comparison, arm: ArmResult, interval: Interval) -> Cell:
    return _estimate(interval, never=f"> {budget_of(comparison, arm.name):,}")


def _solved(_: Comparison, arm: ArmResult) -> Cell:
    style = "green" if arm.solved_runs == arm.runs else "yellow" if arm.solved_runs else "red"
    return Cell(f"{arm.solved_runs} of {arm.runs}", _bounds(arm.solved, percent), style)


def _chance(comparison: Comparison, contrast: Contrast, chance: Interval) -> Cell:
    arm, reference = arms_of(comparison, contrast)
    return Cell(
        probability(chance.value), _bounds(chance, probability), STYLES[verdict(chance, arm.runs, reference.runs)]
    )


def _factor(factor: Interval) -> Cell:
    """A ratio: infinite where only the reference, 0 where only the arm did not get there."""
    text = UNKNOWN if isnan(factor.value) else f"{ratio(factor.value)} x" if factor.value else "< 1 x"
    return Cell("> 1 x" if isinf(factor.value) else text, _bounds(factor, ratio) if factor.high else ())


def _p_value(p_value: float) -> Cell:
    return Cell(UNKNOWN if isnan(p_value) else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}")


TO_TARGET = (
    Column("\nsolved", _solved, narrow=False),
    Column("env steps to target\nmedian", lambda study, arm: _steps(study, arm, arm.env_steps.median)),
    Column("env steps to target\nIQM", lambda study, arm: _steps(study, arm, arm.env_steps.iqm), narrow=False),
    Column("seconds to target\nmedian", lambda _, arm: _estimate(arm.seconds.median)),
    Column("seconds to target\nIQM", lambda _, arm: _estimate(arm.seconds.iqm), narrow=False),
)
RUNS = (Column("\nruns", lambda _, arm: Cell(f"{arm.runs:,}")),)
RETURNS = (Column("best return\nmedian", lambda _, arm: _estimate(arm.best_return)),)
WORK = (
    Column("\nenv steps/s", lambda _, arm: _estimate(arm.steps_per_second), narrow=False),
    Column("CPU\ncores", lambda _, arm: _estimate(arm.cpu_cores), narrow=False),
    Column("staleness\nmean", lambda _, arm: Cell(number(arm.staleness_mean))),
    Column("staleness\np95", lambda _, arm: Cell(number(arm.staleness_p95))),
    Column("staleness\nmax", lambda _, arm: Cell(f"{arm.staleness_max:,}")),
    Column("overlapped\npushes", lambda _, arm: _estimate(arm.overlapped_pushes, percent), narrow=False),
    Column("torn\npulls", lambda _, arm: _estimate(arm.torn_pulls, percent), narrow=False),
    Column("lost\nelements", lambda _, arm: Cell(percent(arm.lost_updates.lost if arm.lost_updates else nan))),
)
CRITICS = (Column("critic's explained\nvariance", lambda _, arm: _estimate(arm.critic_explained_variance)),)
GRADIENTS = (
    Column("gradient's variance\ntrace", lambda _, arm: _estimate(arm.gradient.variance)),
    Column("gradient's variance\nratio", lambda _, arm: _estimate(arm.gradient.ratio)),
    Column("squared\nmean", lambda _, arm: Cell(number(arm.gradient.squared_mean)), narrow=False),
)
CONTRASTS = (
    Column("fewer env steps\nprobability", lambda study, contrast: _chance(study, contrast, contrast.fewer_env_steps)),
    Column("fewer env steps\nratio", lambda _, contrast: _factor(contrast.env_steps_ratio)),
    Column("sooner\nprobability", lambda study, contrast: _chance(study, contrast, contrast.sooner)),
    Column("sooner\nspeed-up", lambda _, contrast: _factor(contrast.seconds_ratio)),
)


def tables(comparison: Comparison, p_values: Mapping[str, float] | None = None) -> list[Table]:
    """How the arms did, what their workers did for it, and each arm beside the first.

    Args:
        p_values: of the log-rank tests against the first arm, by the other arm's name; None: no column of these.
    """
    arms, contrasts = {arm.name: arm for arm in comparison.arms}, comparison.contrasts
    reached = comparison.target_return is not None
    found = [Table("arm", arms, (*(TO_TARGET if reached else RUNS), *RETURNS)), Table("arm", arms, WORK, NOTE)]
    if judged := {arm.name: arm for arm in comparison.arms if isfinite(arm.critic_explained_variance.value)}:
        found.append(Table("arm", judged, CRITICS, CRITICS_NOTE))
    if measured := {arm.name: arm for arm in comparison.arms if arm.gradient is not None}:
        found.append(Table("arm", measured, GRADIENTS, GRADIENTS_NOTE))
    if reached and contrasts:
        reference = contrasts[0].reference
        columns = list(CONTRASTS)
        if p_values is not None:
            columns.append(Column("log-rank\np", lambda _, contrast: _p_value(p_values.get(contrast.arm, nan))))
        note = f"Above 0.5 and above 1 x: better than {reference}. Bold: the runs tell the two apart."
        found.append(Table(f"vs {reference}", {one.arm: one for one in contrasts}, columns, note))
    return found


def render_comparison(comparison: Comparison, findings: Sequence[str], width: int) -> RenderableType:
    """On a console: the tables, the full names of arms that have no room there, and the findings."""
    full, room = [arm.name for arm in comparison.arms], max(width // 3, 8)
    names = dict(zip(full, shortened(full, room), strict=True))
    done, planned = len(comparison.runs), comparison.planned_runs
    runs = plural(done, "run") if done == planned else f"{done:,} of {plural(planned, 'run')}"
    target = "" if comparison.target_return is None else f", target {target_of(comparison)}"
    shape = f"{plural(len(full), 'arm')} x {plural(len(comparison.seeds), 'seed')}, {runs}{target}"
    budget = f"budget {comparison.max_env_steps:,} env steps"
    lines = flowed([[(clean(comparison.env_id), "bold")], [(f"{shape}, {budget}", "")]], width, gap=3)
    if len(comparison.versions) > 1:
        versions = "; ".join(map(version_runs, comparison.versions))
        lines += _wrapped(f"Runs of {len(comparison.versions)} versions: {versions}.", width)
    for table in tables(comparison):
        rows = shortened([table.title], room) + [names[name] for name in table.rows]
        lines += [*_table(comparison, table, rows, width), *_wrapped(table.note, width)]
    if list(names.values()) != full:
        lines += [[], *(line for name in full for line in _wrapped(f"{names[name]}: {name}", width))]
    lines += [[]] if findings else []
    for finding in findings:
        first, *others = textwrap.wrap(clean(finding), max(min(width, 120) - 2, 10)) or [""]
        lines += [[("• ", "bold cyan"), (first, "")], *([("  ", ""), (text, "")] for text in others)]
    return Frame([fitted(line, width, pad=False) for line in lines])


def _wrapped(text: str, width: int) -> list[Line]:
    return [[(part, "dim")] for part in textwrap.wrap(clean(text), max(width, 10))]


def _table(comparison: Comparison, table: Table, names: Sequence[str], width: int) -> list[Line]:
    """Every column beside the names, the title first among these: those that find no room continue below."""
    cells = min(max(map(cell_len, names)), max(width // 3, 8))
    first: list[Line] = [[], [(names[0], "bold")], *([(name, "")] for name in names[1:])]
    blocks = [[fitted(line, cells) for line in first]]
    shared = ""  # the upper title of the column before
    for column in table.columns:
        figures = [column.cell(comparison, row) for row in table.rows.values()]
        over, title = column.title.split("\n")
        part = _drawn((over if over != shared else "", title), figures, width >= WIDE or column.narrow)
        if cells_of(blocks[-1][0]) > cells and cells_of(blocks[-1][0]) + 2 + cells_of(part[0]) > width:
            blocks.append([fitted(line, cells) for line in first])
            part = _drawn((over, title), figures, width >= WIDE or column.narrow)
        blocks[-1] = [[*line, ("  ", ""), *more] for line, more in zip(blocks[-1], part, strict=True)]
        shared = over
    return [line for block in blocks for line in ([], *block)]


def _drawn(titles: tuple[str, str], cells: Sequence[Cell], intervals: bool) -> list[Line]:
    """Titles and figures to the right, all of one width, and the intervals behind the figures."""
    known = [cell.interval if intervals else () for cell in cells]
    behind = [f" [{', '.join(end or UNKNOWN for end in interval)}]" if interval else "" for interval in known]
    after = max(map(len, behind), default=0)
    before = max(*(len(cell.text) for cell in cells), *(len(title) - after for title in titles))
    lines: list[Line] = [[(f"{title:>{before}}".ljust(before + after), "dim")] for title in titles]
    return lines + [
        [(f"{cell.text:>{before}}", cell.style), (f"{interval:<{after}}", "dim")]
        for cell, interval in zip(cells, behind, strict=True)
    ]
