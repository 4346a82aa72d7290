"""Figures of how fast the workers were and how they got into each other's way; needs matplotlib."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from workers.comparison import canvas
from workers.comparison.canvas import Row
from workers.comparison.results import ArmResult, Comparison, Contrast, Interval, Run
from workers.comparison.text import number, plural, ratio, runs_of

PAPER = {1: 1.0, 2: 2.1, 4: 3.7, 8: 6.9, 16: 12.5}  # speed-ups of A3C by threads: Mnih et al. 2016, Table 2
SHOWN = 0.99  # share of the pushes that the staleness axis shows at least


@dataclass(frozen=True, slots=True)
class Point:
    """A speed-up at a number of workers."""

    workers: int
    factor: Interval


def staleness(comparison: Comparison) -> Figure | None:
    """How stale the gradients were, arm by arm, of those where any was."""
    arms = [(index, arm) for index, arm in enumerate(comparison.arms) if arm.staleness_max]
    if not arms:
        return None
    height = 1.4 + 0.95 * len(arms)
    figure = Figure(figsize=(canvas.WIDTH, height))
    fresh = [arm.name for arm in comparison.arms if sum(arm.staleness) and not arm.staleness_max]
    never = ", ".join(fresh) if len(fresh) < 4 else plural(len(fresh), "arm")
    canvas.title(
        figure,
        "How old a gradient was when it was applied",
        "staleness: shared updates made by anyone between a worker's pull and its push · ring: the mean"
        + (f" · never stale: {never}" if fresh else ""),
    )
    grid = figure.add_gridspec(
        len(arms), 1, left=0.095, right=0.985, top=1 - 0.76 / height, bottom=0.52 / height, hspace=0.3
    )
    last = max(_quantile(arm.staleness, SHOWN) for _, arm in arms)
    highest = max(max(arm.staleness) / sum(arm.staleness) for _, arm in arms)
    for place, (index, arm) in enumerate(arms):
        axes = figure.add_subplot(grid[place])
        _histogram(axes, index, arm, last)
        axes.set(xlim=(-0.7, last + 0.7), ylim=(0, 1.12 * highest))
        axes.tick_params(labelbottom=place == len(arms) - 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("staleness, in updates")
    figure.text(0.012, 0.5, "share of pushes", rotation=90, va="center")
    return figure


def throughput(comparison: Comparison) -> Figure | None:
    """Env steps per second, and the speed-up where the arms differ in their workers."""
    if not any(isfinite(arm.steps_per_second.value) for arm in comparison.arms):
        return None
    lines = _speed_ups(comparison)
    names = [arm.name for arm in comparison.arms]
    figure, panels = canvas.sheet(
        max(1.5 + 0.5 * len(names), 3.9 if lines else 0), (1.0,), names, columns=2 if lines else 1, gap=0.22
    )
    reading = "dot: a run · mark and line: median and its 95 % interval"
    _spread(
        panels[0][0],
        comparison,
        lambda run: run.summary.steps_per_second,
        lambda arm: arm.steps_per_second,
        "env steps per second",
    )
    if lines:
        canvas.title(
            figure,
            "Env steps per second, and how much sooner more workers get to the target",
            f"{reading} · right: ratio of median seconds to the target, with its interval",
        )
        _speed_up_axes(panels[0][1], comparison, lines)
    else:
        canvas.title(figure, "Env steps per second of training", reading)
    return figure


def advantage(comparison: Comparison) -> Figure | None:
    """Size of the advantages and spread of the policy losses, where both are known of two arms or more."""
    known = [
        arm
        for arm in comparison.arms
        if isfinite(arm.advantage_magnitude.value) and isfinite(arm.policy_loss_variance.value)
    ]
    if len(known) < 2:
        return None
    names = [arm.name for arm in comparison.arms]
    figure, panels = canvas.sheet(1.5 + 0.5 * len(names), (1.0,), names)
    canvas.title(
        figure,
        "How far returns were from the critic's values, and how much the policy loss varied",
        "dot: a run · mark and line: median and its 95 % interval · both depend on how long a run went on",
    )
    _spread(
        panels[0][0],
        comparison,
        lambda run: run.summary.advantage_magnitude,
        lambda arm: arm.advantage_magnitude,
        "mean of |G − V|, in return",  # noqa: RUF001
    )
    _spread(
        panels[0][1],
        comparison,
        lambda run: run.summary.policy_loss_variance,
        lambda arm: arm.policy_loss_variance,
        "variance of the policy loss over updates",
        named=False,
    )
    return figure


def advantage_curves(comparison: Comparison) -> Figure | None:
    """The magnitude of the advantages over training, where the runs were logged (--log-interval)."""
    arms = [(index, arm) for index, arm in enumerate(comparison.arms) if arm.advantage_over_env_steps.x]
    if not arms:
        return None
    figure, panels = canvas.sheet(3.6, (1.0,), legend=[arm.name for arm in comparison.arms], columns=1)
    canvas.title(
        figure,
        "How far returns were from the critic's values while training",
        "line: interquartile mean over seeds of the mean |G − V| between two rows of the log · band: its 95 % "  # noqa: RUF001
        "interval",
    )
    axes = panels[0][0]
    for index, arm in arms:
        curve = arm.advantage_over_env_steps
        axes.fill_between(curve.x, curve.low, curve.high, color=canvas.color(index), alpha=0.16, linewidth=0)
        axes.plot(
            curve.x,
            curve.middle,
            color=canvas.color(index),
            linewidth=2,
            marker=canvas.marker(index),
            markevery=(3 + 4 * index, 17),
            markersize=6.5,
            markeredgecolor="white",
        )
    axes.set_xlim(0, 1.02 * max(arm.advantage_over_env_steps.x[-1] for _, arm in arms) or 1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("advantage magnitude, in return")
    axes.grid(axis="y")
    canvas.number_axis(axes, "env steps")
    return figure


def _quantile(counts: tuple[int, ...], share: float) -> int:
    total, seen = sum(counts), 0
    for value, count in enumerate(counts):
        seen += count
        if seen >= share * total:
            return value
    return len(counts) - 1


def _histogram(axes: Axes, index: int, arm: ArmResult, last: int) -> None:
    """Bars of one arm, its name and mean written into the free corner."""
    total = sum(arm.staleness)
    shares = [count / total for count in arm.staleness[: last + 1]]
    axes.bar(range(len(shares)), shares, width=0.82, color=canvas.color(index), linewidth=0)
    axes.plot(
        [arm.staleness_mean],
        [0],
        marker="o",
        color="white",
        markeredgecolor=canvas.INK,
        markersize=7,
        clip_on=False,
        zorder=5,
    )
    axes.text(0.99, 0.93, arm.name, fontweight="bold", ha="right", va="top", transform=axes.transAxes)
    beyond = sum(arm.staleness[last + 1 :]) / total
    told = f"mean {arm.staleness_mean:.1f}, 95 % at most {arm.staleness_p95:.0f}, largest {arm.staleness_max}"
    more = f" ({100 * beyond:.2g} % not shown)" if beyond else ""
    axes.text(0.99, 0.66, told + more, fontsize=8.5, ha="right", va="top", transform=axes.transAxes)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y")


def _spread(
    axes: Axes,
    comparison: Comparison,
    of_run: Callable[[Run], float | None],
    of_arm: Callable[[ArmResult], Interval],
    label: str,
    named: bool = True,
) -> None:
    """A row per arm of one figure of its runs."""
    rows = []
    for index, arm in enumerate(comparison.arms):
        values = tuple(value for run in runs_of(comparison, arm.name) if (value := of_run(run)) is not None)
        rows.append(Row(index, arm.name, values, (), of_arm(arm)))
    axes.set_xlim(0, 1.06 * max(value for row in rows for value in (*row.values, 0.0)) or 1)
    canvas.number_axis(axes, label)
    canvas.dot_rows(axes, rows, [number(row.estimate.value) for row in rows], named)


def _speed_ups(comparison: Comparison) -> dict[int, list[Point]]:
    """The speed-up over the first arm by workers: a line per set of other values, by the index of its first arm."""
    if "workers" not in comparison.factors or comparison.target_return is None:
        return {}
    by_arm: dict[str, Contrast] = {contrast.arm: contrast for contrast in comparison.contrasts}
    lines: dict[str, tuple[int, list[Point]]] = {}
    for index, arm in enumerate(comparison.arms):
        contrast = by_arm.get(arm.name)
        factor = contrast.seconds_ratio if contrast else Interval(1.0, 1.0, 1.0)
        if isfinite(factor.value) and factor.value > 0:
            lines.setdefault(_others(arm), (index, []))[1].append(Point(arm.values["workers"], factor))
    found = {index: sorted(points, key=lambda point: point.workers) for index, points in lines.values()}
    return found if any(len(points) > 1 for points in found.values()) else {}


def _others(arm: ArmResult) -> str:
    """What an arm is beside its workers: "async", "locked, n_steps 5"."""
    return ", ".join(
        str(value) if name == "mode" else f"{name} {value}" for name, value in arm.values.items() if name != "workers"
    )


def _speed_up_axes(axes: Axes, comparison: Comparison, lines: dict[int, list[Point]]) -> None:
    """Both axes in powers of two, so that the ideal is a straight line."""
    first = comparison.arms[0].values["workers"]
    counts = sorted({point.workers for points in lines.values() for point in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.plot(
        counts,
        [count / first for count in counts],
        color=canvas.SOFT,
        linewidth=1.1,
        linestyle=(0, (4, 3)),
        label="ideal",
    )
    _paper_line(axes, first, counts)
    for place, (index, points) in enumerate(lines.items()):
        name = _others(comparison.arms[index]) or "this study"
        _speed_up_line(axes, index, points, name, above=place % 2 == 0)
    _power_ticks(axes, counts)
    axes.set_xlabel("workers")
    axes.set_ylabel(f"speed-up over {comparison.arms[0].name}")
    axes.grid()
    axes.legend(loc="upper left", fontsize=8.5, borderaxespad=0.2)


def _paper_line(axes: Axes, first: int, counts: list[int]) -> None:
    threads = [count for count in PAPER if first <= count <= counts[-1]]
    if first not in PAPER or len(threads) < 2:
        return
    axes.plot(
        threads,
        [PAPER[count] / PAPER[first] for count in threads],
        color=canvas.SOFT,
        linewidth=1.6,
        linestyle=":",
        label="A3C, Mnih et al. 2016, Table 2",
    )


def _speed_up_line(axes: Axes, index: int, points: list[Point], name: str, above: bool) -> None:
    x, y = [point.workers for point in points], [point.factor.value for point in points]
    for point in points:
        if isfinite(point.factor.low) and point.factor.low > 0 and isfinite(point.factor.high):
            axes.plot(
                [point.workers] * 2,
                [point.factor.low, point.factor.high],
                color=canvas.color(index),
                linewidth=2,
                alpha=0.45,
            )
    axes.plot(
        x,
        y,
        color=canvas.color(index),
        marker=canvas.marker(index),
        linewidth=2,
        markersize=7,
        markeredgecolor="white",
        label=name,
    )
    for point in points[1:]:
        axes.annotate(
            ratio(point.factor.value),
            (point.workers, point.factor.value),
            (7, 9 if above else -9),
            textcoords="offset points",
            fontsize=8.5,
            va="center",
        )


def _power_ticks(axes: Axes, counts: list[int]) -> None:
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlim(counts[0] / 1.12, counts[-1] * 1.25)
    low, high = axes.get_ylim()
    ticks = [2.0**power for power in range(-6, 11) if low <= 2.0**power <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
