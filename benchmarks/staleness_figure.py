"""What forced staleness costs, with and without a correction: `python -m benchmarks.staleness_figure`.

Draws docs/figures/forced-staleness.svg from the published studies forced-*; needs matplotlib.
"""

import csv
from math import inf
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
AGES = (0, 2, 8, 32, 128)


def main() -> None:
    """Draw what has been published."""
    with canvas.styled():
        figure, panels = canvas.sheet(4.2, (3.2,), legend=list(CARTPOLE), gap=0.24)
        canvas.title(
            figure,
            "What forced staleness costs, with and without a correction",
            "left: median env steps until CartPole-v1 is solved, and runs solved where not all were · "
            "right: best mean return on LunarLander-v3 in 300,000",
        )
        left, right = panels[0]
        for name, (study, correction) in CARTPOLE.items():
            _line(left, list(CARTPOLE).index(name), _solved(study, correction))
        left.set_yscale("log")
        left.set_ylabel("env steps until solved")
        for name, (study, correction) in LANDER.items():
            _line(right, list(CARTPOLE).index(name), _returns(study, correction))
        right.set_ylabel("best mean return")
        for axes in (left, right):
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


def _solved(study: str, correction: str) -> dict[int, tuple[float, str]]:
    """Median env steps until solved, and how many were where not all."""
    points = {}
    for age, rows in _rows(study, correction).items():
        steps = [float(row["solved_env_steps"]) if row["status"] == "solved" else inf for row in rows]
        many = sum(step < inf for step in steps)
        points[age] = (median(steps), "" if many == len(steps) else f"{many}/{len(steps)}")
        if points[age][0] == inf:
            points[age] = (float(rows[0]["max_env_steps"]), points[age][1])
    return points


def _returns(study: str, correction: str) -> dict[int, tuple[float, str]]:
    """The median of the runs' best mean returns."""
    return {
        age: (median(float(row["evaluation_mean"]) for row in rows), "")
        for age, rows in _rows(study, correction).items()
    }


def _line(axes: Axes, index: int, points: dict[int, tuple[float, str]]) -> None:
    style: dict[str, Any] = {"color": canvas.color(index), "marker": canvas.marker(index), "markeredgecolor": "white"}
    places = [place for place, age in enumerate(AGES) if age in points]
    axes.plot(places, [points[AGES[place]][0] for place in places], linewidth=2, markersize=7, **style)
    for place in places:
        value, told = points[AGES[place]]
        axes.annotate(told, (place, value), (5, 5), textcoords="offset points", fontsize=8, color=canvas.color(index))


def _save(figure: Figure) -> None:
    path = FIGURES / "forced-staleness.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
