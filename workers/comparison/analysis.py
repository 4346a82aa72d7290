"""From an arm's runs to what can be said of it, and of it beside another.

Every bootstrap starts from the same seed, so the same runs give the same report, and an arm's figures do not depend on
which other arms there are.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.comparison.results import ArmResult, Band, Contrast, Interval, LostUpdates, Passage, Run
from workers.comparison.statistics import bootstrap, bootstrap_ratio, iqm, median, probability_less, wilson
from workers.runs.records import Evaluation

Point = tuple[float, float]
BOOTSTRAP_SEED = 0
GRID_POINTS = 101


def arm_result(
    name: str, values: dict[str, Any], runs: Sequence[Run], lost_updates: LostUpdates | None = None
) -> ArmResult:
    """Everything that is said of one arm.

    Args:
        values: of the arm's factors, by option name.
        runs: all finished runs of the arm; their order does not matter.
    """
    summaries = [run.summary for run in runs]
    solved = sum(summary.status == "solved" for summary in summaries)
    counts = pooled_staleness(runs)
    return ArmResult(
        name=name,
        values=values,
        runs=len(runs),
        solved_runs=solved,
        solved=wilson(solved, len(runs)),
        env_steps=passage(env_steps_to_target(runs)),
        seconds=passage(seconds_to_target(runs)),
        steps_per_second=_median_of(summary.steps_per_second for summary in summaries),
        best_return=_median_of(summary.evaluation.mean for summary in summaries if summary.evaluation is not None),
        updates=_median_of(summary.updates for summary in summaries),
        cpu_cores=_median_of(_share(summary.cpu_seconds, summary.train_seconds) for summary in summaries),
        overlapped_pushes=_median_of(_share(run.summary.races.overlapped_pushes, sum(run.staleness)) for run in runs),
        torn_pulls=_median_of(_share(run.summary.races.torn_pulls, sum(run.staleness)) for run in runs),
        advantage_magnitude=_median_of(summary.advantage_magnitude for summary in summaries),
        policy_loss_variance=_median_of(summary.policy_loss_variance for summary in summaries),
        staleness_mean=_mean_of(counts),
        staleness_p50=_quantile_of(counts, 0.5),
        staleness_p95=_quantile_of(counts, 0.95),
        staleness_max=max((summary.staleness.max for summary in summaries if summary.staleness is not None), default=0),
        staleness=counts,
        lost_updates=lost_updates,
        over_env_steps=learning_curve(runs, lambda evaluation: evaluation.env_steps),
        over_seconds=learning_curve(runs, lambda evaluation: evaluation.seconds),
        advantage_over_env_steps=advantage_curve(runs),
    )


def contrasts(arms: Sequence[str], runs: Sequence[Run]) -> tuple[Contrast, ...]:
    """Each other arm beside the first, in the order of arms.

    Args:
        arms: their names.
        runs: of all arms.
    """
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in arms}
    return tuple(_contrast(arm, by_arm[arm], arms[0], by_arm[arms[0]]) for arm in arms[1:])


def env_steps_to_target(runs: Iterable[Run]) -> list[float]:
    """Of each run, in order; math.inf where it was not solved."""
    return [_to_target(run, run.summary.solved_env_steps) for run in runs]


def seconds_to_target(runs: Iterable[Run]) -> list[float]:
    """Of training, of each run, in order; math.inf where it was not solved."""
    return [_to_target(run, run.summary.solved_seconds) for run in runs]


def passage(samples: Sequence[float]) -> Passage:
    """How long runs took to the target: [n], math.inf for those that never got there."""
    censored = sum(math.isinf(sample) for sample in samples)
    return Passage(bootstrap(samples, median, _rng()), bootstrap(samples, iqm, _rng()), censored)


def pooled_staleness(runs: Iterable[Run]) -> tuple[int, ...]:
    """Pushes of all runs by their staleness, up to the largest that occurred."""
    histograms = [run.staleness for run in runs]
    counts = np.zeros(max(map(len, histograms), default=0), np.int64)
    for histogram in histograms:
        counts[: len(histogram)] += np.asarray(histogram, np.int64)
    return tuple(np.trim_zeros(counts, "b").tolist())


def learning_curve(runs: Sequence[Run], position: Callable[[Evaluation], float]) -> Band:
    """The mean greedy return over seeds; after a run has ended its last evaluation stands.

    Evaluations whose return is not finite are left out: the one before them stands.

    Args:
        runs: of one arm.
        position: where on the x axis an evaluation lies.
    """
    return band([[(position(evaluation), evaluation.mean) for evaluation in run.evaluations] for run in runs])


def advantage_curve(runs: Sequence[Run]) -> Band:
    """The magnitude of the advantages over env steps, of those runs that were logged."""
    return band([[(row.env_steps, row.advantage_magnitude) for row in run.log] for run in runs if run.log])


def band(curves: Sequence[Sequence[Point]]) -> Band:
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
    points = [bootstrap(() if np.isnan(at_x).any() else at_x, iqm, _rng()) for at_x in values.T]
    return Band(
        x=tuple(grid.tolist()),
        middle=tuple(point.value for point in points),
        low=tuple(point.low for point in points),
        high=tuple(point.high for point in points),
    )


def step_function(points: Sequence[Point], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of the last point at or before each x of the grid: [x] -> [x], NaN before the first."""
    ordered = sorted(points, key=lambda point: point[0])  # stable: of several at the same x the last one counts
    values = np.array([math.nan, *(y for _, y in ordered)])
    return values[np.searchsorted([x for x, _ in ordered], grid, side="right")]


def _contrast(arm: str, runs: Sequence[Run], reference: str, reference_runs: Sequence[Run]) -> Contrast:
    steps, reference_steps = env_steps_to_target(runs), env_steps_to_target(reference_runs)
    seconds, reference_seconds = seconds_to_target(runs), seconds_to_target(reference_runs)
    return Contrast(
        arm=arm,
        reference=reference,
        fewer_env_steps=probability_less(steps, reference_steps),
        sooner=probability_less(seconds, reference_seconds),
        env_steps_ratio=bootstrap_ratio(reference_steps, steps, _rng()),
        seconds_ratio=bootstrap_ratio(reference_seconds, seconds, _rng()),
        policy_loss_variance_ratio=bootstrap_ratio(_variances(reference_runs), _variances(runs), _rng()),
    )


def _rng() -> np.random.Generator:
    return np.random.default_rng(BOOTSTRAP_SEED)


def _to_target(run: Run, amount: float | None) -> float:
    return float(amount) if run.summary.status == "solved" and amount is not None else math.inf


def _median_of(samples: Iterable[float | None]) -> Interval:
    """Over those runs that know it."""
    return bootstrap(_known(samples), median, _rng())


def _variances(runs: Iterable[Run]) -> list[float]:
    return _known(run.summary.policy_loss_variance for run in runs)


def _known(samples: Iterable[float | None]) -> list[float]:
    return [sample for sample in samples if sample is not None and math.isfinite(sample)]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean_of(counts: Sequence[int]) -> float:
    return float(np.average(np.arange(len(counts)), weights=counts)) if counts else math.nan


def _quantile_of(counts: Sequence[int], fraction: float) -> float:
    """As `Telemetry.staleness` defines it for one run."""
    if not counts:
        return math.nan
    return float(np.searchsorted(np.cumsum(counts) / sum(counts), fraction))
