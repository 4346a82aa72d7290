"""What the finished runs of an arm have in common so far: plain medians, cheap enough for a live view."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from statistics import median

import numpy as np

from workers.comparison.progress import ArmProgress
from workers.comparison.results import Run
from workers.runs.records import Evaluation

Curve = tuple[tuple[float, float], ...]  # (env steps, mean greedy return)
CURVE_POINTS = 80


def median_env_steps(runs: Sequence[Run]) -> float | None:
    """To the target; infinite where half of the runs or more never got there."""
    return _censored(run.summary.solved_env_steps for run in runs)


def median_seconds(runs: Sequence[Run]) -> float | None:
    """Of training to the target; infinite like `median_env_steps`."""
    return _censored(run.summary.solved_seconds for run in runs)


def median_steps_per_second(runs: Sequence[Run]) -> float | None:
    return _known(run.summary.steps_per_second for run in runs)


def median_best_return(runs: Sequence[Run]) -> float | None:
    return _known(run.summary.evaluation.mean for run in runs if run.summary.evaluation)


def mean_staleness(runs: Sequence[Run]) -> float | None:
    """Over the pushes of all runs."""
    known = [(run.summary.staleness.mean, run.summary.updates) for run in runs if run.summary.staleness]
    pushes = sum(updates for _, updates in known)
    return sum(mean * updates for mean, updates in known) / pushes if pushes else None


def _censored(values: Iterable[float | None]) -> float | None:
    """The median, where those that are not known are longer than any other."""
    lengths = [value if value is not None and isfinite(value) else inf for value in values]
    return median(lengths) if lengths else None


def _known(values: Iterable[float]) -> float | None:
    known = [value for value in values if isfinite(value)]
    return median(known) if known else None


def median_curves(arms: Sequence[ArmProgress]) -> dict[str, Curve]:
    """By the arm's name."""
    return {arm.name: median_curve(arm.runs) for arm in arms}


def median_curve(runs: Sequence[Run]) -> Curve:
    """The median over runs of the greedy return, from where all have been evaluated to where half have ended.

    Between its evaluations a run is a straight line; after its end it stays where it was.
    """
    paths = [path for path in (evaluation_curve(run.evaluations) for run in runs) if path]
    if not paths:
        return ()
    start = max(path[0][0] for path in paths)
    end = max(start, sorted(path[-1][0] for path in paths)[len(paths) // 2])
    grid = np.linspace(start, end, CURVE_POINTS)
    middle = np.median([np.interp(grid, *np.transpose(path)) for path in paths], axis=0)
    return tuple(zip(grid.tolist(), middle.tolist(), strict=True))


def evaluation_curve(evaluations: Sequence[Evaluation]) -> Curve:
    """The finite means by env steps; where a snapshot was evaluated twice, the later counts."""
    return tuple(sorted({e.env_steps: e.mean for e in evaluations if isfinite(e.mean)}.items()))
