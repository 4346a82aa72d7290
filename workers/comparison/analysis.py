"""From an arm's runs to its figures, and to those of it beside another arm.

Every bootstrap starts from the same seed, so the same runs give the same report, and an arm's figures do not depend on
which other arms there are.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.comparison.results import ArmResult, Band, Contrast, Interval, LostUpdates, Passage, Run
from workers.comparison.statistics import Samples, bootstrap, bootstrap_ratio, iqm, median, probability_less, wilson
from workers.runs.records import Evaluation

Point = tuple[float, float]
BOOTSTRAP_SEED = 0
GRID_POINTS = 101
# Of each run a number, None where it has none; of an arm the median over the runs that have one.
FIGURES: dict[str, Callable[[Run], float | None]] = {
    "steps_per_second": lambda run: run.summary.steps_per_second,
    "best_return": lambda run: run.summary.evaluation.mean if run.summary.evaluation else None,
    "updates": lambda run: run.summary.updates,
    "cpu_cores": lambda run: _share(run.summary.cpu_seconds, run.summary.train_seconds),
    "overlapped_pushes": lambda run: _share(run.summary.races.overlapped_pushes, sum(run.staleness)),
    "torn_pulls": lambda run: _share(run.summary.races.torn_pulls, sum(run.staleness)),
    "advantage_magnitude": lambda run: run.summary.advantage_magnitude,
    "policy_loss_variance": lambda run: run.summary.policy_loss_variance,
    "critic_explained_variance": lambda run: _middle([one.critic_explained_variance for one in run.evaluations]),
}


def arm_result(
    name: str, values: dict[str, Any], runs: Sequence[Run], lost_updates: LostUpdates | None = None
) -> ArmResult:
    """The figures of one arm.

    Args:
        values: of the arm's factors, by option name.
        runs: all finished runs of the arm; their order does not matter.
    """
    solved = sum(run.summary.status == "solved" for run in runs)
    counts = pooled_staleness(runs)
    return ArmResult(
        name=name,
        values=values,
        runs=len(runs),
        solved_runs=solved,
        solved=wilson(solved, len(runs)),
        env_steps=_passage(_env_steps(runs)),
        seconds=_passage(_seconds(runs)),
        gradient=None,
        **{figure: _bootstrap(_known(map(of_run, runs)), median) for figure, of_run in FIGURES.items()},
        staleness_mean=float(np.average(np.arange(len(counts)), weights=counts)) if counts else math.nan,
        staleness_p50=_quantile(counts, 0.5),
        staleness_p95=_quantile(counts, 0.95),
        staleness_max=max((run.summary.staleness.max for run in runs if run.summary.staleness), default=0),
        staleness=counts,
        lost_updates=lost_updates,
        over_env_steps=learning_curve(runs, lambda evaluation: evaluation.env_steps),
        over_seconds=learning_curve(runs, lambda evaluation: evaluation.seconds),
        advantage_over_env_steps=advantage_curve(runs),
    )


def _middle(numbers: Sequence[float | None]) -> float | None:
    """The median of those that are known; None where none is."""
    known = [number for number in numbers if number is not None and math.isfinite(number)]
    return float(np.median(known)) if known else None


def contrasts(arms: Sequence[str], runs: Sequence[Run]) -> tuple[Contrast, ...]:
    """Each other arm beside the first, in the order of `arms`, their names; `runs` are those of all arms."""
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in arms}
    reference = by_arm[arms[0]]

    def ratio(samples: Callable[[Sequence[Run]], list[float]], arm: str) -> Interval:
        return bootstrap_ratio(samples(reference), samples(by_arm[arm]), _rng())

    return tuple(
        Contrast(
            arm=arm,
            reference=arms[0],
            fewer_env_steps=probability_less(_env_steps(by_arm[arm]), _env_steps(reference)),
            sooner=probability_less(_seconds(by_arm[arm]), _seconds(reference)),
            env_steps_ratio=ratio(_env_steps, arm),
            seconds_ratio=ratio(_seconds, arm),
            policy_loss_variance_ratio=ratio(lambda some: _known(map(FIGURES["policy_loss_variance"], some)), arm),
        )
        for arm in arms[1:]
    )


def pooled_staleness(runs: Iterable[Run]) -> tuple[int, ...]:
    """Pushes of all runs by their staleness, up to the largest that occurred."""
    histograms = [run.staleness for run in runs]
    counts = np.zeros(max(map(len, histograms), default=0), np.int64)
    for histogram in histograms:
        counts[: len(histogram)] += np.asarray(histogram, np.int64)
    return tuple(np.trim_zeros(counts, "b").tolist())


def learning_curve(runs: Sequence[Run], position: Callable[[Evaluation], float]) -> Band:
    """The mean return of evaluations over seeds of one arm; after a run has ended its last evaluation stands.

    Evaluations whose return is not finite are left out: the one before them stands. `position` is where on the x axis
    an evaluation lies.
    """
    return _band([[(position(evaluation), evaluation.mean) for evaluation in run.evaluations] for run in runs])


def advantage_curve(runs: Sequence[Run]) -> Band:
    """The magnitude of the advantages over env steps, of those runs that were logged."""
    return _band([[(row.env_steps, row.advantage_magnitude) for row in run.log] for run in runs if run.log])


def step_function(points: Sequence[Point], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of the last point at or before each x of the grid: [x] -> [x], NaN before the first."""
    ordered = sorted(points, key=lambda point: point[0])  # stable: of several at the same x the last one counts
    values = np.array([math.nan, *(y for _, y in ordered)])
    return values[np.searchsorted([x for x, _ in ordered], grid, side="right")]


def _band(curves: Sequence[Sequence[Point]]) -> Band:
    """An interquartile mean over curves with its pointwise 95 % bootstrap interval.

    A curve is a step function: at x it has its last value at or before x, so that none looks ahead. The mean begins
    where all curves have: those that are evaluated early need not be like the others.

    Args:
        curves: their points (x, y); what is not finite and curves without a point are left out.
    Returns: at most 101 points from 0 to the last x of any curve; NaN before all have begun, an interval of NaN where
        there is only one. No point where there is none.
    """
    finite = [[(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)] for curve in curves]
    curves = [curve for curve in finite if curve]
    if not curves:
        return Band((), (), (), ())
    last = max(x for curve in curves for x, _ in curve)
    grid = np.linspace(0, last, GRID_POINTS) if last > 0 else np.zeros(1)
    values = np.stack([step_function(curve, grid) for curve in curves])  # [curves, points]
    points = [_bootstrap(() if np.isnan(at_x).any() else at_x, iqm) for at_x in values.T]
    return Band(tuple(grid.tolist()), *zip(*((point.value, point.low, point.high) for point in points), strict=True))


def _env_steps(runs: Iterable[Run]) -> list[float]:
    """To the target, of each run; math.inf where it was not solved."""
    return [_unless_unsolved(run, run.summary.solved_env_steps) for run in runs]


def _seconds(runs: Iterable[Run]) -> list[float]:
    """Of training to the target, of each run; math.inf where it was not solved."""
    return [_unless_unsolved(run, run.summary.solved_seconds) for run in runs]


def _unless_unsolved(run: Run, amount: float | None) -> float:
    return float(amount) if run.summary.status == "solved" and amount is not None else math.inf


def _passage(samples: Sequence[float]) -> Passage:
    return Passage(_bootstrap(samples, median), _bootstrap(samples, iqm), sum(map(math.isinf, samples)))


def _bootstrap(samples: Samples, statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Interval:
    return bootstrap(samples, statistic, _rng())


def _rng() -> np.random.Generator:
    return np.random.default_rng(BOOTSTRAP_SEED)


def _known(samples: Iterable[float | None]) -> list[float]:
    return [sample for sample in samples if sample is not None and math.isfinite(sample)]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _quantile(counts: Sequence[int], fraction: float) -> float:
    """As `Telemetry.staleness` defines it for one run."""
    return float(np.searchsorted(np.cumsum(counts) / sum(counts), fraction)) if counts else math.nan
