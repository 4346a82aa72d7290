"""Explained variance from the worker's sums to the reader's number, against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.moments import MomentsMeter
from shared.scoreboard import CRITIC, SUMS, Scoreboard, add_moments
from workers.runs.telemetry import Telemetry

STEPS = 12
Rollouts = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # returns, values, valid, [STEPS] each


class Writer:
    """A worker, as far as explained variance knows one."""

    def __init__(self, scoreboard: Scoreboard, index: int):
        row = scoreboard.row(index)
        self._updates, self._critic = row[:1], row[len(SUMS) : len(SUMS) + len(CRITIC)]
        self._meter, self._moments = MomentsMeter(STEPS), self._critic.tolist()

    def write(self, rollouts: Rollouts) -> None:
        for rollout in rollouts:
            self._moments = add_moments(self._moments, self._meter.measure(*rollout))
            self._critic[:] = self._moments
            self._updates += 1


def exact_variance(numbers: list[Fraction]) -> Fraction:
    mean = sum(numbers) / len(numbers)
    return sum((number - mean) ** 2 for number in numbers) / len(numbers)


def oracle(rollouts: Rollouts) -> float:
    steps = [
        (Fraction(float(target)), Fraction(float(value)))
        for returns, values, valid in rollouts
        for target, value, counts in zip(returns, values, valid, strict=True)
        if counts
    ]
    if not steps:
        return np.nan
    variance = exact_variance([target for target, _ in steps])
    return float(1 - exact_variance([target - value for target, value in steps]) / variance) if variance else np.nan


def told(telemetry: Telemetry) -> float:
    losses = telemetry.losses()
    assert losses is not None
    return losses.explained_variance


def rollouts_about(rng: np.random.Generator, count: int, mean: float, std: float, critic: float) -> Rollouts:
    """Targets with this mean and deviation, as float32 has them; a critic that is off by `critic` on average."""
    returns = (mean + std * rng.standard_normal((count, STEPS))).astype(np.float32)
    values = (returns + critic + std * rng.standard_normal((count, STEPS))).astype(np.float32)
    valid = (rng.random((count, STEPS)) < 0.9).astype(np.float32)
    return list(zip(returns, values, valid, strict=True))


phases = st.tuples(
    st.one_of(st.just(0.0), st.floats(1, 1e8), st.floats(-1e8, -1)),  # the mean
    st.one_of(st.just(1.0), st.floats(1, 1e4)),  # the standard deviation, both in units of the scale
    st.sampled_from([0.0, 1.0, -0.7, 1e3]),  # how far the critic is off, in means
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(phases, min_size=2, max_size=4), st.integers(1, 3), st.booleans(), st.sampled_from([1.0, 1e-20, 1e20]))
def test_explained_variance_keeps_its_digits_over_workers_intervals_and_a_resume(
    courses: list[tuple[float, float, float, int]], workers: int, resumed: bool, scale: float
) -> None:
    scoreboard = Scoreboard(workers)
    writers, telemetry = [Writer(scoreboard, index) for index in range(workers)], Telemetry(scoreboard)
    everything: Rollouts = []
    for phase, (mean, std, critic, seed) in enumerate(courses):
        rng = np.random.default_rng(seed)
        if resumed and phase == len(courses) - 1:
            before, scoreboard = (
                scoreboard,
                Scoreboard(max(1, workers - 1)),
            )  # the first takes over what the last has counted
            scoreboard.restore(before.state())
            writers, telemetry = (
                [Writer(scoreboard, index) for index in range(scoreboard.workers)],
                Telemetry(scoreboard),
            )
        interval: Rollouts = []
        for writer in writers:
            rollouts = rollouts_about(rng, 3, mean * scale, std * scale, critic * mean * scale)
            writer.write(rollouts)
            interval += rollouts
        telemetry.tick()
        everything += interval
        expected = oracle(interval)
        assert told(telemetry) == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)
    telemetry.whole()
    assert told(telemetry) == pytest.approx(oracle(everything), rel=1e-6, abs=1e-6, nan_ok=True)


def test_an_interval_late_in_a_run_of_large_targets_keeps_its_digits() -> None:
    scoreboard, rng = Scoreboard(1), np.random.default_rng(0)
    writer = Writer(scoreboard, 0)
    scoreboard.row(0)[len(SUMS)] = 1e10  # steps so far, with squares of 1e16
    scoreboard.row(0)[len(SUMS) + 4] = 1e26
    writer = Writer(scoreboard, 0)
    telemetry = Telemetry(scoreboard)
    interval = rollouts_about(rng, 20, 1e8, 8.0, 1e8)
    writer.write(interval)
    telemetry.tick()
    assert told(telemetry) == pytest.approx(oracle(interval), rel=1e-6)


def test_targets_that_are_all_equal_have_no_explained_variance() -> None:
    scoreboard = Scoreboard(1)
    telemetry = Telemetry(scoreboard)
    rollout = (np.full(STEPS, 1e8 / 3, np.float32), np.ones(STEPS, np.float32), np.ones(STEPS, np.float32))
    Writer(scoreboard, 0).write([rollout, rollout])
    telemetry.tick()
    assert np.isnan(told(telemetry))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_moments_and_spoils_no_later_ones(poison: float) -> None:
    meter, rng = MomentsMeter(STEPS), np.random.default_rng(0)
    returns, values, valid = rollouts_about(rng, 1, 1e8, 8.0, 1e8)[0]
    expected = meter.measure(returns, values, valid)
    spoilt = returns.copy()
    spoilt[3], valid[3] = poison, 1
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(meter.measure(spoilt, values, valid).error_magnitude)
    valid[3] = 1 if expected.steps == valid.sum() else 0
    assert meter.measure(returns, values, valid) == expected


def test_a_worker_killed_between_two_updates_leaves_totals_that_its_successor_continues() -> None:
    scoreboard, rng = Scoreboard(1), np.random.default_rng(0)
    rollouts = rollouts_about(rng, 10, 1e7, 1.0, 0.0)
    telemetry = Telemetry(scoreboard)
    for rollout in rollouts:
        Writer(scoreboard, 0).write([rollout])
    telemetry.tick()
    assert told(telemetry) == pytest.approx(oracle(rollouts), rel=1e-6)
