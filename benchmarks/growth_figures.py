"""The figures of `growth`, of its newest results: `python -m benchmarks.growth_figures`; needs matplotlib."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from benchmarks.__main__ import RESULTS
from benchmarks.benchmark import Trial
from benchmarks.growth import AXES, BENCHMARK, Axis, Point, bend_of, measured
from benchmarks.machine import ROOT
from benchmarks.results import Results, under
from workers.comparison.canvas import COLORS, SOFT, WIDTH, color, marker, styled, title

FOLDER = ROOT / "docs" / "figures"
NAMED = 7  # phases with a colour of their own; the rest, small ones, share the last one
REST = "all else"
REST_COLOR = "#bbbbbb"
SHAPE = "All else: 4 workers, one environment each, 2 x 128 units, CartPole-v1."


def main() -> None:
    """Draw what has been measured under the conditions of the latest record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory with growth.jsonl")
    parser.add_argument("--figures", type=Path, default=FOLDER, help="directory to draw into")
    options = parser.parse_args()
    records = Results(options.results).load(BENCHMARK.name)
    if not records:
        parser.exit(2, "there are no results of `growth` to draw\n")
    latest = under(records, max(records, key=lambda record: record.date).conditions)
    for path in draw([record.trial for record in latest], options.figures):
        print(path)


def draw(trials: Sequence[Trial], folder: Path) -> list[Path]:
    """Write growth-rates.svg and growth-phases.svg; the same trials give the same bytes."""
    curves = {name: measured(trials, name) for name in AXES}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with styled(), matplotlib.rc_context({"font.size": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8}):
        for name, figure in (("rates", rates_figure(curves)), ("phases", phases_figure(curves))):
            paths.append(folder / f"growth-{name}.svg")
            figure.savefig(paths[-1], metadata={"Date": None, "Creator": None})
    return paths


def rates_figure(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Env steps/s above, memory below, a column for each axis; scales are shared along a row."""
    figure, (rates, memory) = _panels(5.2, 2)
    title(
        figure,
        "Env steps/s and resident memory as one thing grows",
        f"{SHAPE} Medians and ranges; dashed: where the curve bends.",
    )
    for (name, axis), above, below in zip(AXES.items(), rates, memory, strict=True):
        points = curves[name]
        _curve(above, points, [point.rates for point in points], 0, "env steps/s")
        _curve(below, points, [point.program_mb for point in points], 1, "the whole program")
        _curve(below, points, [point.worker_mb for point in points], 2, "each worker, beyond the shared pages")
        if (here := bend_of(axis, points)) is not None:
            above.axvline(points[here].value, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for panel in (above, below):
            _number_ticks(panel, [point.value for point in points])
        below.set_xlabel(axis.words)
    rates[0].set_ylabel("env steps/s")
    memory[0].set_ylabel("resident memory, MB")
    figure.legend(*memory[0].get_legend_handles_labels(), loc="lower right", ncols=2)
    return figure


def phases_figure(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Where the workers' time goes, a stack for each point."""
    figure, (panels,) = _panels(3.6, 1)
    title(
        figure,
        "Where the workers' time goes as one thing grows",
        f"{SHAPE} Shares of wall-clock time, waiting for a core included.",
    )
    named = largest_phases([point for points in curves.values() for point in points])
    for (name, axis), panel in zip(AXES.items(), panels, strict=True):
        _stacks(panel, axis, curves[name], named)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="lower center", ncols=NAMED + 1, handlelength=1.2, columnspacing=1.4
    )
    return figure


def largest_phases(points: Sequence[Point]) -> list[str]:
    """The phases that take most somewhere, in the order of a worker's loop."""
    largest = {
        phase: max(point.phases.get(phase, 0.0) for point in points) for point in points for phase in point.phases
    }
    kept = sorted(largest, key=lambda phase: -largest[phase])[:NAMED]
    return [phase for phase in largest if phase in kept]


def _panels(height: float, rows: int) -> tuple[Figure, list[list[Axes]]]:
    """A column of panels for each axis; title above, legend below."""
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.add_gridspec(
        rows, len(AXES), left=0.08, right=0.985, top=1 - 0.75 / height, bottom=0.85 / height, wspace=0.08, hspace=0.22
    )
    panels: list[list[Axes]] = []
    for row in range(rows):
        panels.append([])
        for column in range(len(AXES)):
            first = panels[row][0] if column else None
            panels[row].append(figure.add_subplot(grid[row, column], sharey=first))
            panels[row][-1].tick_params(labelleft=not column)
            panels[row][-1].grid(axis="y")
    return figure, panels


def _curve(panel: Axes, points: Sequence[Point], samples: Sequence[Sequence[float]], index: int, label: str) -> None:
    values = [point.value for point in points]
    panel.loglog(
        values,
        list(map(median, samples)),
        color=color(index),
        marker=marker(index),
        markersize=4.5,
        linewidth=1.6,
        markeredgecolor="white",
        label=label,
    )
    panel.fill_between(
        values, list(map(min, samples)), list(map(max, samples)), color=color(index), alpha=0.2, linewidth=0
    )


def _number_ticks(panel: Axes, values: Sequence[int]) -> None:
    """The measured values below, round numbers at the left."""
    panel.set_xticks(values, list(map(str, values)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _brief(value)))
    panel.yaxis.set_minor_locator(NullLocator())


def _brief(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e4 else f"{value:,g}"


def _stacks(panel: Axes, axis: Axis, points: Sequence[Point], named: Sequence[str]) -> None:
    bottoms = [0.0] * len(points)
    rest = [1 - sum(point.phases.get(phase, 0.0) for phase in named) for point in points]
    shares = {phase: [point.phases.get(phase, 0.0) for point in points] for phase in named} | {REST: rest}
    for phase, ink in zip(shares, (*COLORS[: len(named)], REST_COLOR), strict=True):
        panel.bar(
            range(len(points)),
            shares[phase],
            bottom=bottoms,
            color=ink,
            width=0.82,
            edgecolor="white",
            linewidth=0.6,
            label=phase,
        )
        bottoms = [low + share for low, share in zip(bottoms, shares[phase], strict=True)]
    panel.set_xticks(range(len(points)), [str(point.value) for point in points])
    panel.set_ylim(0, 1)
    panel.set_xlabel(axis.words)


if __name__ == "__main__":
    main()
