"""The figures of a study, as files; needs matplotlib and scipy (the extra `report`)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from workers.comparison import canvas
from workers.comparison.canvas import Row
from workers.comparison.race_figures import advantage, advantage_curves, staleness, throughput
from workers.comparison.results import ArmResult, Band, Comparison, Interval, Run
from workers.comparison.stored_runs import diverged
from workers.comparison.text import NEVER, number, plural, runs_of, short_names, subject, target_of

FIRST = "learning_curves"  # the main figure
NAME_CELLS = 36


def save_figures(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every figure that has data, as SVG and PNG.

    Args:
        folder: made where it is missing.
    Returns: the paths, the main figure first, each SVG before its PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    comparison, paths = _with_short_names(comparison), []
    drawings: dict[str, Callable[[Comparison], Figure | None]] = {
        FIRST: learning_curves,
        "time_to_target": time_to_target,
        "solved_share": solved_share,
        "throughput": throughput,
        "staleness": staleness,
        "advantage_curves": advantage_curves,
        "advantage": advantage,
        "gradient_variance": gradient_variance,
    }
    with canvas.styled():
        for name, draw in drawings.items():
            if (figure := draw(comparison)) is not None:
                paths += canvas.save(figure, folder, name)
    return paths


def _with_short_names(comparison: Comparison) -> Comparison:
    """The same with names that find room beside an axis and in a legend."""
    short = short_names([arm.name for arm in comparison.arms], NAME_CELLS)
    return replace(
        comparison,
        arms=tuple(replace(arm, name=short(arm.name)) for arm in comparison.arms),
        runs=tuple(replace(run, arm=short(run.arm)) for run in comparison.runs),
        contrasts=tuple(
            replace(contrast, arm=short(contrast.arm), reference=short(contrast.reference))
            for contrast in comparison.contrasts
        ),
    )


def log_rank(comparison: Comparison) -> dict[str, float]:
    """The p-value of the log-rank test of each arm against the first, by env steps; arms without one are left out."""
    samples = {
        arm.name: _censored(_arrivals(comparison, runs_of(comparison, arm.name))) for arm in comparison.arms if arm.runs
    }
    if not samples or comparison.target_return is None:
        return {}
    first, *others = samples
    with warnings.catch_warnings():  # of a division where nobody was solved, which leaves NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        p_values = {name: float(stats.logrank(samples[first], samples[name]).pvalue) for name in others}
    return {name: p_value for name, p_value in p_values.items() if isfinite(p_value)}


def learning_curves(comparison: Comparison) -> Figure | None:
    """Mean return of evaluations over env steps and over seconds, and below it when each arm was at the target."""
    if not any(len(arm.over_env_steps.x) > 1 for arm in comparison.arms):
        return None
    strip = 0.4 * len(comparison.arms) * (comparison.target_return is not None)  # inches
    names = [arm.name for arm in comparison.arms]
    figure, panels = canvas.sheet(
        4.1 + strip,
        (3.0, strip) if strip else (3.0,),
        names if strip else (),
        names,
        goal=f"target {target_of(comparison)}" if strip else "",
    )
    canvas.title(figure, f"{subject(comparison)}: mean return of evaluations while training", _reading(comparison))
    for column, seconds in enumerate((False, True)):
        end = _shown_until(comparison, seconds)
        _curves(panels[0][column], comparison, seconds, end, labelled=not column)
        if strip:
            canvas.target_line(panels[0][column], comparison.target_return)
            _passages(panels[1][column], comparison, seconds, (0, end), named=not column)
            panels[0][column].set_xlabel("")
            panels[0][column].tick_params(labelbottom=False)  # the axis below is the same
    return figure


def time_to_target(comparison: Comparison) -> Figure | None:
    """Every run by when it was solved, the runs that were not at the budget."""
    if comparison.target_return is None or not comparison.runs:
        return None
    names = [arm.name for arm in comparison.arms]
    figure, panels = canvas.sheet(1.35 + 0.62 * len(names), (1.0,), names)
    canvas.title(
        figure,
        f"When each run on {comparison.env_id} had reached {target_of(comparison)}",
        "dot: a run · open triangle: a run that was not solved, at its budget · mark and line: median and its "
        "95 % interval",
    )
    for column, seconds in enumerate((False, True)):
        arrivals = [position for position, _ in _arrivals(comparison, comparison.runs, seconds)]
        low, high = min(arrivals), max(arrivals) or 1.0
        axes, wide = panels[0][column], low > 0 and high > 15 * low
        limits = (low / 1.3, high * 1.3) if wide else (0, high * 1.06)
        if wide:
            axes.set_xscale("log")
        _passages(axes, comparison, seconds, limits, named=not column)
        if wide:
            canvas.log_axis(axes, *limits)
    return figure


def solved_share(comparison: Comparison) -> Figure | None:
    """The share of runs solved so far (Kaplan-Meier)."""
    if comparison.target_return is None or not any(arm.solved_runs for arm in comparison.arms):
        return None
    figure, panels = canvas.sheet(4.0, (3.0,), legend=[arm.name for arm in comparison.arms])
    canvas.title(
        figure,
        f"{subject(comparison)}: share of runs that have reached {target_of(comparison)}",
        "Kaplan-Meier estimate with its pointwise 95 % band · upright tick: runs that gave up unsolved",
    )
    for axes, seconds in zip(panels[0], (False, True), strict=True):
        end = 1.04 * max(at for at, _ in _arrivals(comparison, comparison.runs, seconds)) or 1.0
        for index, arm in enumerate(comparison.arms):
            if arm.runs:
                _survival(axes, index, _arrivals(comparison, runs_of(comparison, arm.name), seconds), end)
        axes.set(xlim=(0, end), ylim=(-0.02, 1.04))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="y")
        canvas.number_axis(axes, _axis_name(seconds))
    panels[0][0].set_ylabel("runs solved so far")
    panels[0][1].tick_params(labelleft=False)
    return figure


def gradient_variance(comparison: Comparison) -> Figure | None:
    """The variance of each arm's gradient at equal parameters, and its ratio to the first one's."""
    measured = [(index, arm) for index, arm in enumerate(comparison.arms) if arm.gradient is not None]
    if not measured:
        return None
    names = [arm.name for _, arm in measured]
    figure, panels = canvas.sheet(1.35 + 0.5 * len(names), (1.0,), names)
    canvas.title(
        figure,
        f"{comparison.env_id}: variance of the policy gradient at equal parameters",
        "the same episodes of one snapshot for every arm · mark and line: estimate and its 95 % interval",
    )
    for axes, label, which in zip(panels[0], ("trace of the covariance", f"times {names[0]}"), (0, 1), strict=True):
        rows = []
        for index, arm in measured:
            assert arm.gradient is not None
            rows.append(Row(index, arm.name, (), (), (arm.gradient.variance, arm.gradient.ratio)[which]))
        low, high = min(row.estimate.low for row in rows) / 1.5, max(row.estimate.high for row in rows) * 1.5
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        canvas.dot_rows(axes, rows, [number(row.estimate.value) for row in rows], named=not which)
        canvas.number_axis(axes, label)
        canvas.log_axis(axes, low, high)
    return figure


def _reading(comparison: Comparison) -> str:
    curve = f"line: interquartile mean over {plural(len(comparison.seeds), 'seed')} · band: its 95 % interval"
    return (
        curve if comparison.target_return is None else f"{curve} · below: when each run was solved, median and interval"
    )


def _axis_name(seconds: bool) -> str:
    return "seconds of training" if seconds else "env steps"


def _arrivals(comparison: Comparison, runs: Sequence[Run], seconds: bool = False) -> list[tuple[float, bool]]:
    """When each run was solved, or when it gave up, and whether it did.

    A run that diverged gave up early because it was bad: it counts to the end of the longest run.
    """
    longest = max((_end(run, seconds) for run in comparison.runs), default=0.0)
    return [(longest if diverged(run.summary) else _end(run, seconds), not _is_solved(run)) for run in runs]


def _is_solved(run: Run) -> bool:
    summary = run.summary
    return summary.status == "solved" and summary.solved_env_steps is not None and summary.solved_seconds is not None


def _end(run: Run, seconds: bool) -> float:
    summary = run.summary
    solved, budget = (
        (summary.solved_seconds, summary.train_seconds)
        if seconds
        else (summary.solved_env_steps, summary.max_env_steps)
    )
    return solved if _is_solved(run) and solved is not None else budget


def _censored(arrivals: Sequence[tuple[float, bool]]) -> stats.CensoredData:
    return stats.CensoredData.right_censored([at for at, _ in arrivals], [gave_up for _, gave_up in arrivals])


def _shown_until(comparison: Comparison, seconds: bool) -> float:
    """Where the axis ends: past the last run that was solved, or at the budget where an arm was never solved."""
    solved = [at for at, gave_up in _arrivals(comparison, comparison.runs, seconds) if not gave_up]
    if solved and all(arm.solved_runs for arm in comparison.arms if arm.runs):
        return 1.04 * max(solved) or 1.0
    return max(band.x[-1] for arm in comparison.arms if (band := _band(arm, seconds)).x) or 1.0


def _band(arm: ArmResult, seconds: bool) -> Band:
    return arm.over_seconds if seconds else arm.over_env_steps


def _curves(axes: Axes, comparison: Comparison, seconds: bool, end: float, labelled: bool) -> None:
    for index, arm in enumerate(comparison.arms):
        band = _band(arm, seconds)
        if not band.x:
            continue
        x = (*band.x, max(end, band.x[-1]))  # the last evaluation stands
        low, high, middle = ((*values, values[-1]) for values in (band.low, band.high, band.middle))
        axes.fill_between(x, low, high, step="post", color=canvas.color(index), alpha=0.16, linewidth=0)
        axes.plot(
            x,
            middle,
            drawstyle="steps-post",
            color=canvas.color(index),
            linewidth=2,
            marker=canvas.marker(index),
            markevery=(3 + 4 * index, 17),
            markersize=6.5,
            markeredgecolor="white",
        )
    axes.set_xlim(0, end)
    if not any(value < 0 for arm in comparison.arms for value in _band(arm, seconds).middle):
        axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    canvas.number_axis(axes, _axis_name(seconds))
    axes.tick_params(labelleft=labelled)
    if labelled:
        axes.set_ylabel("mean return of evaluations")


def _passages(axes: Axes, comparison: Comparison, seconds: bool, limits: tuple[float, float], named: bool) -> None:
    """A row per arm on one axis."""
    rows = [_row(comparison, index, arm, seconds, limits[1]) for index, arm in enumerate(comparison.arms)]
    axes.set_xlim(*limits)
    canvas.number_axis(axes, _axis_name(seconds))
    unit = " s" if seconds else ""
    told = [
        f"median {number(row.estimate.value)}{unit}"
        if isfinite(row.estimate.value)
        else NEVER
        if row.censored
        else "no run yet"
        for row in rows
    ]
    canvas.dot_rows(axes, rows, told, named)


def _row(comparison: Comparison, index: int, arm: ArmResult, seconds: bool, end: float) -> Row:
    arrivals = _arrivals(comparison, runs_of(comparison, arm.name), seconds)
    solved = tuple(at for at, gave_up in arrivals if not gave_up)
    gave_up = tuple(min(at, end) for at, gave_up in arrivals if gave_up)
    passage = arm.seconds if seconds else arm.env_steps
    return Row(index, arm.name, solved, gave_up, passage.median if arm.runs else Interval(inf, inf, inf))


def _survival(axes: Axes, index: int, arrivals: Sequence[tuple[float, bool]], end: float) -> None:
    """One arm's steps, from nobody solved at 0 to the end of the axis."""
    with warnings.catch_warnings():  # the band is undefined, NaN, where all or none are solved
        warnings.simplefilter("ignore", RuntimeWarning)
        solved = stats.ecdf(_censored(arrivals)).cdf
        band = solved.confidence_interval(method="log-log")
    x, ink = [0.0, *solved.quantiles, end], canvas.color(index)
    axes.fill_between(
        x,
        _steps(band.low.probabilities),
        _steps(band.high.probabilities),
        step="post",
        color=ink,
        alpha=0.13,
        linewidth=0,
    )
    shares = _steps(solved.probabilities)
    axes.plot(
        x,
        shares,
        drawstyle="steps-post",
        color=ink,
        linewidth=2,
        marker=canvas.marker(index),
        markersize=6,
        markeredgecolor="white",
        markevery=slice(1, -1),
    )
    ticks = sorted({at for at, gave_up in arrivals if gave_up})
    heights = [float(solved.evaluate(at)) for at in ticks]
    axes.plot(ticks, heights, "|", color=ink, markersize=11, markeredgewidth=2, clip_on=False)


def _steps(values: NDArray[np.float64]) -> list[float]:
    return [0.0, *values, values[-1]]
