"""How every figure of a study looks: colours, marks, axes and rows of dots; needs matplotlib.

Colours are those of Okabe and Ito, which colour-blind readers tell apart. Each arm also has its own marker,
so that a figure survives a printer without colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from workers.comparison.results import Interval

WIDTH = 9.4  # inches; 900 pixels on a page
INK, SOFT, GRID = "#222222", "#5f5f5f", "#e4e4e4"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE: Any = {  # matplotlib's own type of this lists every setting there is
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "a3c",  # the same runs give the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # drawn for the first; the second is as wide
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
LEGEND_LINE = 0.22  # inches
TARGET: Any = {"color": INK, "linewidth": 1.1, "linestyle": (0, (4, 3))}
LONG = 200.0  # how many times its beginning the end of a logarithmic axis is, from which on few ticks have room
GOLDEN = 0.6180339887498949  # spreads the dots of a row evenly, the same way every time


@dataclass(frozen=True, slots=True)
class Row:
    """The runs of one arm along one axis."""

    index: int  # of the arm, which gives its colour
    name: str
    values: tuple[float, ...]  # one a run
    censored: tuple[float, ...]  # where runs that did not arrive gave up
    estimate: Interval


def color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def marker(index: int) -> str:
    """Beyond seven arms, colours come again with other markers."""
    return MARKERS[(index + index // len(COLORS)) % len(MARKERS)]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Both files of a figure; without dates, so that the same data give the same bytes."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"Date": None, "Creator": None})
    figure.savefig(paths[1], dpi=150)
    return paths


def styled() -> Any:
    """The style, for as long as a `with` lasts: matplotlib reads these settings when it draws, and nowhere else."""
    return matplotlib.rc_context(STYLE)


def sheet(
    height: float,
    rows: Sequence[float],
    names: Sequence[str] = (),
    legend: Sequence[str] = (),
    columns: int = 2,
    gap: float = 0.09,
    goal: str = "",
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with panels in rows and columns, with room for a title, a legend and names at the left.

    Args:
        height: in inches, without the legend.
        rows: their heights, relative to each other.
        names: those that stand at the left.
        legend: the names in it.
        gap: between columns, in their widths.
        goal: what the legend says of the target line.
    Returns: the figure, and its panels by row, then column.
    """
    entries = [*legend, goal] if goal else legend
    lines = LEGEND_LINE * ceil(len(entries) / _legend_columns(entries))
    figure = Figure(figsize=(WIDTH, height + lines))
    left = max(0.76, 0.28 + 0.078 * max(map(len, names), default=0))
    grid = figure.add_gridspec(
        len(rows),
        columns,
        height_ratios=rows,
        left=left / WIDTH,
        right=1 - 0.16 / WIDTH,
        top=1 - (0.72 + lines) / (height + lines),
        bottom=0.5 / (height + lines),
        wspace=gap,
        hspace=0.1 / (sum(rows) / len(rows)),
    )
    if legend:
        _legend(figure, legend, goal)
    return figure, [[figure.add_subplot(grid[row, column]) for column in range(columns)] for row in range(len(rows))]


def title(figure: Figure, text: str, more: str = "") -> None:
    """What the figure shows, in a bold line, and a plain one on how to read it."""
    height = figure.get_size_inches()[1]
    figure.text(0.012, 1 - 0.1 / height, text, fontsize=11.5, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.34 / height, more, fontsize=9, color=SOFT, va="top")


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), int((WIDTH - 0.2) / (0.75 + 0.083 * max(map(len, names), default=0)))))


def _legend(figure: Figure, names: Sequence[str], goal: str) -> None:
    """The arms, each with its colour and marker, under the title."""
    handles = [
        Line2D([], [], color=color(index), marker=marker(index), linewidth=2, markersize=6.5, markeredgecolor="white")
        for index in range(len(names))
    ]
    entries = [*names, goal] if goal else list(names)
    if goal:
        handles.append(Line2D([], [], **TARGET))
    figure.legend(
        handles,
        entries,
        loc="upper left",
        bbox_to_anchor=(0.004, 1 - 0.55 / figure.get_size_inches()[1]),
        ncols=_legend_columns(entries),
        handlelength=2.6,
        columnspacing=1.8,
        borderaxespad=0,
    )


def target_line(axes: Axes, target: float | None) -> None:
    if target is not None:
        axes.axhline(target, zorder=1, **TARGET)


def number_axis(axes: Axes, label: str) -> None:
    """Few round ticks with thousands separated, and faint lines up from them."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.grid(axis="x")


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Ticks for a logarithmic axis, at 1, 2 and 5 times the powers of ten, or at these alone where it spans many."""
    mantissas = (1, 2, 5) if high < LONG * low else (1,)
    ticks = [mantissa * 10.0**power for power in range(-6, 13) for mantissa in mantissas]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_minor_locator(NullLocator())


def dot_rows(axes: Axes, rows: Sequence[Row], told: Sequence[str], named: bool) -> None:
    """A row per arm: a dot per run, open triangles for those that did not arrive, median and interval above.

    Args:
        told: what is written beside each median.
        named: whether the names of the arms stand at the left.
    """
    for place, row in enumerate(rows):
        ink = color(row.index)
        axes.scatter(row.values, _jitter(place, len(row.values)), s=16, color=ink, alpha=0.45, linewidths=0, zorder=2)
        axes.scatter(
            row.censored,
            _jitter(place, len(row.censored)),
            s=26,
            marker=">",
            facecolors="none",
            edgecolors=ink,
            linewidths=1,
            zorder=2,
            clip_on=False,
        )
        _estimate(axes, place, row, told[place])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks(range(len(rows)), [row.name for row in rows] if named else [""] * len(rows))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _estimate(axes: Axes, place: int, row: Row, told: str) -> None:
    """The median as a filled mark on the line of its interval; an arrow where that has no upper end."""
    height, ink, value = place - 0.2, color(row.index), row.estimate.value
    left, right = axes.get_xlim()
    low, high = (edge if isfinite(edge) else value for edge in (row.estimate.low, min(row.estimate.high, right)))
    if isfinite(low):
        high = min(high, right)
        axes.plot([low, high], [height, height], color=ink, linewidth=2.2, solid_capstyle="butt", zorder=3)
    if isfinite(low) and row.estimate.high > right:
        axes.plot([right], [height], marker=9, color=ink, markersize=7, clip_on=False, zorder=3)  # an arrow head
    if isfinite(value) and value <= right:
        axes.plot(
            [value], [height], marker=marker(row.index), color=ink, markersize=7, markeredgecolor="white", zorder=4
        )
    if not isfinite(low):
        _beside(axes, right, height, told, -4)
        return
    low_share, high_share = (axes.transLimits.transform(axes.transScale.transform((x, 0)))[0] for x in (low, high))
    if 1 - high_share > low_share:  # on the side with more room
        _beside(axes, high, height, told, 8)
    else:
        _beside(axes, max(low, left), height, told, -8)


def _beside(axes: Axes, x: float, y: float, told: str, offset: float) -> None:
    axes.annotate(
        told,
        (x, y),
        (offset, 0),
        textcoords="offset points",
        fontsize=8.5,
        va="center",
        ha="left" if offset > 0 else "right",
    )


def _jitter(place: int, many: int) -> list[float]:
    return [place + 0.1 + 0.28 * (index * GOLDEN % 1) for index in range(many)]
