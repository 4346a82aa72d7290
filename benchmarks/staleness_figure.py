"""What forced staleness costs, with and without a correction: `python -m benchmarks.staleness_figure`.

Draws docs/figures/forced-staleness.svg from the published studies forced-*; needs matplotlib.
"""

import csv
from math import inf
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.machine import ROOT
from benchmarks.studies import FIGURES, TABLES
from workers.comparison import canvas

# The name of each line, its study, and the value of `correction` there; a study that is not made yet has no line.
CARTPOLE = {
    "A2C, stale gradients": ("forced-v-trace", "none"),
    "A2C, fresh gradients, not corrected": ("forced-fresh", ""),
    "A2C, V-trace": ("forced-v-trace", "v-trace"),
    "A2C at a quarter of the rate": ("forced-v-trace-slow", "none"),
    "V-trace at a quarter of the rate": ("forced-v-trace-slow", "v-trace"),
    "PPO": ("forced-decoupled", "none"),
    "PPO, decoupled": ("forced-decoupled", "decoupled"),
}
LANDER = {"PPO": ("forced-lunar-lander", "none"), "PPO, decoupled": ("forced-lunar-lander", "decoupled")}
STEPS = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
AGES = (0, 2, 8, 32, 128)


def main() -> None:
    """Draw what has been published."""
    with canvas.styled():
        figure, panels = canvas.sheet(4.2, (3.2,), names=["100,000 steps"], legend=list(CARTPOLE), gap=0.24)
        canvas.title(
            figure,
            "What forced staleness costs, with and without a correction",
            "left: CartPole-v1, ten runs; open marks: not all were solved, in 100,000 - right: LunarLander-v3, two",
        )
        left, right = panels[0]
        for name, (study, correction) in CARTPOLE.items():
            _line(left, list(CARTPOLE).index(name), _solved(study, correction))
        left.set_ylabel("env steps until solved")
        for name, (study, correction) in LANDER.items():
            _line(right, list(CARTPOLE).index(name), _solved(study, correction))
        for axes in (left, right):
            axes.set_yscale("log")
            axes.set_yticks(STEPS, [f"{step:,}" for step in STEPS])
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_xticks(range(len(AGES)), list(map(str, AGES)))
            axes.set_xlabel("forced staleness, updates")
            axes.grid(axis="y")
        _save(figure)


def _rows(study: str, correction: str) -> dict[int, list[dict[str, str]]]:
    """The runs of one correction, by forced staleness."""
    path, found = TABLES / study / "runs.csv", dict[int, list[dict[str, str]]]()
    if path.exists():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row.get("factor_correction", "") == correction:
                    found.setdefault(int(row["factor_forced_staleness"]), []).append(row)
    return found


def _solved(study: str, correction: str) -> dict[int, tuple[float, bool]]:
    """Median env steps until solved, the budget where most runs were not, and whether all were."""
    points = {}
    for age, rows in _rows(study, correction).items():
        steps = [float(row["solved_env_steps"]) if row["status"] == "solved" else inf for row in rows]
        points[age] = (min(median(steps), float(rows[0]["max_env_steps"])), max(steps) < inf)
    return points


def _line(axes: Axes, index: int, points: dict[int, tuple[float, bool]]) -> None:
    ink, places = canvas.color(index), [place for place, age in enumerate(AGES) if age in points]
    axes.plot(places, [points[AGES[place]][0] for place in places], linewidth=2, color=ink)
    for place in places:
        value, all_solved = points[AGES[place]]
        fill = ink if all_solved else "white"
        axes.plot([place], [value], marker=canvas.marker(index), markersize=7, color=fill, markeredgecolor=ink)


def _save(figure: Figure) -> None:
    path = FIGURES / "forced-staleness.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
