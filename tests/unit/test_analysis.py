"""From runs to what is said of an arm: every figure against a plain computation of it."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from tests.unit.comparison_samples import BUDGET, sample_evaluation, sample_log, sample_run, sample_runs
from workers.comparison import analysis
from workers.comparison.analysis import (
    advantage_curve,
    arm_result,
    contrasts,
    learning_curve,
    pooled_staleness,
    step_function,
)
from workers.comparison.results import Interval, LostUpdates
from workers.comparison.statistics import iqm, wilson
from workers.runs.records import Races

STUDIES = 1000


def points_of(run):
    return [(evaluation.env_steps, evaluation.mean) for evaluation in run.evaluations]


def env_steps_of(evaluation):
    return evaluation.env_steps


def result_of(runs, lost_updates=None):
    return arm_result("async", {"mode": "async"}, runs, lost_updates)


def with_summary(run, **changes):
    return replace(run, summary=replace(run.summary, **changes))


def with_evaluations(*points):
    """A run with an evaluation of the mean return at each (env steps, mean)."""
    return replace(sample_run("async", 0, 5000), evaluations=tuple(sample_evaluation(x, mean) for x, mean in points))


def value_at(run, x):
    """The mean of the last evaluation at or before x, looked for one by one."""
    value = math.nan
    for evaluation in run.evaluations:
        if evaluation.env_steps <= x:
            value = evaluation.mean
    return value


def pushes_one_by_one(counts):
    return [staleness for staleness, pushes in enumerate(counts) for _ in range(pushes)]


def unknown(interval):
    return all(math.isnan(limit) for limit in (interval.value, interval.low, interval.high))


def test_arm_has_the_figures_of_its_runs():
    steps = [4000, 4500, 6000, 7000, 30_000]
    result = result_of([sample_run("async", seed, at) for seed, at in enumerate(steps)])
    assert (result.name, result.values, result.runs, result.solved_runs) == ("async", {"mode": "async"}, 5, 4)
    assert result.solved == wilson(4, 5)
    assert (result.env_steps.median.value, result.env_steps.censored) == (6000, 1)
    assert result.env_steps.iqm.value == (4500 * 0.75 + 6000 + 7000 * 0.75) / 2.5
    assert (result.env_steps.iqm.low, result.env_steps.iqm.high) == (4000, math.inf)
    assert result.seconds.median.value == 0.3 and result.seconds.censored == 1
    assert result.steps_per_second.value == 20_200
    assert result.advantage_magnitude.value == 4.2
    assert result.policy_loss_variance.value == 0.52
    assert result.best_return.value == 500.0
    assert result.cpu_cores.value == pytest.approx((6000 / 12_000) / (6000 / 20_000 + 0.05))


def test_run_that_was_not_solved_never_got_there_whatever_else_its_summary_says():
    run = with_summary(sample_run("async", 0, 5000), status="interrupted")
    result = result_of([run])
    assert (result.solved_runs, result.env_steps.censored, result.env_steps.median.value) == (0, 1, math.inf)
    assert (result.seconds.censored, result.seconds.iqm.value) == (1, math.inf)


def test_races_are_shares_of_pushes_where_one_update_of_sync_averages_many():
    run = replace(sample_run("sync", 0, 5000), staleness=(400,))
    run = with_summary(run, updates=100, races=Races(overlapped_pushes=8, torn_pulls=20))
    result = result_of([run, run])
    assert (result.overlapped_pushes.value, result.torn_pulls.value, result.updates.value) == (0.02, 0.05, 100)


@pytest.mark.parametrize("name", ["advantage_magnitude", "policy_loss_variance"])
def test_figure_that_some_runs_lack_is_of_the_others_and_unknown_where_all_lack_it(name):
    runs = [with_summary(sample_run("async", seed, 5000), **{name: value}) for seed, value in enumerate((1, None, 2))]
    assert getattr(result_of(runs), name).value == 1.5
    assert unknown(getattr(result_of(runs[1:2]), name))


def test_best_return_leaves_out_runs_without_an_evaluation():
    runs = [sample_run("async", seed, 5000) for seed in range(2)]
    runs.append(with_summary(runs[0], evaluation=None))
    assert result_of(runs).best_return.value == 500.0
    assert unknown(result_of(runs[2:]).best_return)


def test_run_that_was_stopped_before_it_began_divides_nothing_by_zero():
    run = replace(sample_run("async", 0, 5000), staleness=(), evaluations=())
    result = result_of([with_summary(run, train_seconds=0.0, staleness=None, updates=0)])
    assert unknown(result.cpu_cores) and unknown(result.overlapped_pushes) and unknown(result.torn_pulls)
    assert math.isnan(result.staleness_mean) and math.isnan(result.staleness_p50) and result.staleness_max == 0
    assert result.staleness == () and result.over_env_steps.x == ()


def test_arm_without_a_run_has_nothing_to_say_and_says_so():
    result = result_of([])
    assert (result.runs, result.solved_runs, result.env_steps.censored, result.staleness_max) == (0, 0, 0, 0)
    intervals = [getattr(result, field.name) for field in fields(result)]
    intervals = [value for value in intervals if isinstance(value, Interval)]
    assert len(intervals) == 10 and all(map(unknown, [*intervals, result.env_steps.median, result.seconds.iqm]))


def test_one_run_has_figures_without_intervals():
    result = result_of(sample_runs({"async": 5000}, seeds=1))
    assert result.env_steps.median.value > 0 and math.isnan(result.env_steps.median.low)
    assert math.isnan(result.over_seconds.high[-1]) and result.over_seconds.middle[-1] == 490


def test_lost_updates_pass_through():
    lost = LostUpdates(updates=100, lost=0.1, overlapped=0.2, torn=0.3)
    assert result_of(sample_runs(seeds=2), lost).lost_updates is lost
    assert result_of(sample_runs(seeds=2)).lost_updates is None


def test_pooled_staleness_adds_histograms_of_any_length_and_ends_with_the_largest_that_occurred():
    histograms = ((1, 2, 0, 0), (5,), (0, 1, 4, 0, 0, 0), ())
    runs = [replace(sample_run("async", 0, 5000), staleness=counts) for counts in histograms]
    assert pooled_staleness(runs) == (6, 3, 4)
    assert pooled_staleness(runs[3:]) == ()


@pytest.mark.parametrize("seed", range(5))
def test_staleness_is_that_of_all_pushes_one_by_one(seed):
    histograms = np.random.default_rng(seed).integers(0, 30, (3, 12))
    runs = [replace(sample_run("async", 0, 5000), staleness=tuple(counts.tolist())) for counts in histograms]
    result, pushes = result_of(runs), sorted(pushes_one_by_one(histograms.sum(0)))
    assert result.staleness_mean == pytest.approx(np.mean(pushes))
    assert result.staleness_p50 == pushes[math.ceil(0.5 * len(pushes)) - 1]
    assert result.staleness_p95 == pushes[math.ceil(0.95 * len(pushes)) - 1]


def test_largest_staleness_is_the_summaries_which_know_more_than_the_last_bin():
    runs = [
        with_summary(run, staleness=replace(run.summary.staleness, max=most))
        for run, most in zip(sample_runs({"async": 5000}, seeds=3), (3, 99, 7), strict=True)
    ]
    assert result_of(runs).staleness_max == 99


@pytest.mark.parametrize("seed", range(5))
def test_step_function_is_the_last_evaluation_at_or_before_x(seed):
    rng = np.random.default_rng(seed)
    run = with_evaluations(*((int(x), rng.random()) for x in np.sort(rng.integers(3, 30, 12))))
    grid = np.arange(0.0, 40.0)
    expected = [value_at(run, x) for x in grid]
    assert step_function(points_of(run), grid).tolist() == pytest.approx(expected, nan_ok=True)


def test_step_function_is_the_verification_where_that_is_of_the_same_snapshot():
    run = sample_run("async", 0, 5000)
    assert run.evaluations[-1].verification and run.evaluations[-2].env_steps == run.evaluations[-1].env_steps
    assert step_function(points_of(run), np.array([5000.0])) == [490]


def test_curve_looks_at_no_later_evaluation_and_keeps_the_last_one_of_a_run_that_has_ended():
    runs = [with_evaluations((0, 10), (40, 200)), with_evaluations((0, 20), (100, 300))]
    curve = learning_curve(runs, env_steps_of)
    at = dict(zip(curve.x, curve.middle, strict=True))
    assert (at[0], at[39], at[40], at[99], at[100]) == (15, 15, 110, 110, 250)


def test_curve_begins_where_every_run_has_been_evaluated():
    runs = [with_evaluations((50, 10), (100, 30)), with_evaluations((80, 20)), with_evaluations((80, 60))]
    curve = learning_curve(runs, env_steps_of)
    at = dict(zip(curve.x, zip(curve.middle, curve.low, curve.high, strict=True), strict=True))
    assert all(map(math.isnan, [*at[49], *at[79]]))
    assert at[80] == (pytest.approx((10 * 0.25 + 20 + 60 * 0.25) / 1.5), 10, 60)


def test_curve_is_that_of_the_other_runs_where_one_was_never_evaluated():
    runs = [with_evaluations((50, 10)), with_evaluations(), with_evaluations((100, 30))]
    assert learning_curve(runs, env_steps_of).middle[-1] == 20


def test_a_return_that_is_not_finite_changes_neither_curve_nor_figures():
    finite = with_evaluations((50, 10), (100, 30))
    broken = with_evaluations((20, math.inf), (50, 10), (60, math.nan), (100, 30))
    assert repr(learning_curve([finite], env_steps_of)) == repr(learning_curve([broken], env_steps_of))
    runs = [with_summary(finite, evaluation=sample_evaluation(0, mean)) for mean in (math.nan, 7.0, math.inf)]
    assert result_of(runs).best_return.value == 7.0


def test_curve_ends_at_the_last_evaluation_of_any_run_and_has_a_hundred_steps():
    runs = sample_runs({"async": 8000}, seeds=5)
    last = max(evaluation.env_steps for run in runs for evaluation in run.evaluations)
    over_steps, over_seconds = result_of(runs).over_env_steps, result_of(runs).over_seconds
    assert len(over_steps.x) == 101 and (over_steps.x[0], over_steps.x[-1]) == (0, last)
    assert over_seconds.x[-1] == last / 20_000
    assert len(over_steps.middle) == len(over_steps.low) == len(over_steps.high) == 101


def test_curve_of_one_evaluation_at_the_start_is_one_point():
    curve = learning_curve([with_evaluations((0, 10)), with_evaluations((0, 20))], env_steps_of)
    assert (curve.x, curve.middle, curve.low, curve.high) == ((0,), (15,), (10,), (20,))


def test_curve_is_the_interquartile_mean_over_seeds_within_its_band():
    runs = sample_runs({"async": 12_000}, seeds=10)
    curve = learning_curve(runs, env_steps_of)
    expected = [iqm(np.array([value_at(run, x) for run in runs])) for x in curve.x]
    assert curve.middle == pytest.approx(expected)
    inside = zip(curve.low, curve.middle, curve.high, strict=True)
    assert all(low <= middle <= high for low, middle, high in inside)
    assert curve.low[50] < curve.middle[50] < curve.high[50]


def test_band_of_a_curve_covers_the_truth_at_its_nominal_rate(monkeypatch):
    """The truth at x = 500 is that of the evaluations at 450; those at 550 would lie 3 standard deviations above."""
    monkeypatch.setattr(analysis, "GRID_POINTS", 3)
    rng = np.random.default_rng(0)
    covered = 0
    for study in range(STUDIES):
        monkeypatch.setattr(analysis, "BOOTSTRAP_SEED", study)
        returns = 200 + 20 * rng.standard_normal(10)
        curve = learning_curve([with_evaluations((450, m), (550, m + 60), (1000, m)) for m in returns], env_steps_of)
        covered += curve.low[1] <= 200 <= curve.high[1]
    assert covered / STUDIES == pytest.approx(0.97, abs=3 * math.sqrt(0.97 * 0.03 / STUDIES))


def test_contrasts_put_each_other_arm_beside_the_first_in_order():
    found = contrasts(["sync", "locked", "async"], sample_runs())
    assert [(contrast.arm, contrast.reference) for contrast in found] == [("locked", "sync"), ("async", "sync")]
    assert contrasts(["async"], sample_runs()) == ()


def test_contrast_is_above_a_half_and_above_one_where_the_arm_is_faster():
    runs = sample_runs({"sync": 12_000, "async": 6000}, seeds=20)
    steps = {
        arm: [run.summary.solved_env_steps or math.inf for run in runs if run.arm == arm] for arm in ("sync", "async")
    }
    (contrast,) = contrasts(["sync", "async"], runs)
    wins = np.mean([(x < y) + (x == y) / 2 for x in steps["async"] for y in steps["sync"]])
    assert contrast.fewer_env_steps.value == pytest.approx(wins) and wins > 0.8
    assert contrast.env_steps_ratio.value == np.median(steps["sync"]) / np.median(steps["async"])
    assert contrast.env_steps_ratio.low > 1 and contrast.fewer_env_steps.low > 0.5
    assert contrast.sooner == contrast.fewer_env_steps  # the samples' seconds are their env steps / 20,000
    assert contrast.seconds_ratio.value == pytest.approx(contrast.env_steps_ratio.value)


def test_contrast_tells_seconds_from_env_steps():
    fast = [with_summary(run, solved_seconds=0.001) for run in sample_runs({"async": 6000}, seeds=5)]
    (contrast,) = contrasts(["sync", "async"], [*sample_runs({"sync": 1000}, seeds=5), *fast])
    assert (contrast.fewer_env_steps.value, contrast.sooner.value) == (0, 1)
    assert contrast.env_steps_ratio.value < 1 < contrast.seconds_ratio.value


def test_contrast_of_an_arm_that_never_gets_there_is_a_ratio_of_nothing():
    (contrast,) = contrasts(["sync", "async"], sample_runs({"sync": 1000, "async": 100 * BUDGET}, seeds=5))
    ratio = contrast.env_steps_ratio
    assert (ratio.value, ratio.low, ratio.high, contrast.fewer_env_steps.value) == (0, 0, 0, 0)


def test_same_runs_give_the_same_report_in_any_order_and_with_any_other_arms():
    runs = sample_runs()
    ours = [run for run in runs if run.arm == "async"]
    assert repr(result_of(ours)) == repr(result_of(ours[::-1]))
    assert contrasts(["sync", "async"], runs) == contrasts(["sync", "locked", "async"], runs[::-1])[1:]


def test_advantage_curve_is_over_the_runs_that_were_logged_and_empty_without_one():
    logged = [
        replace(run, log=sample_log(10_000, magnitude))
        for run, magnitude in zip(sample_runs({"async": 5000}, 3), (2.0, 4.0, 6.0), strict=True)
    ]
    curve = advantage_curve([*logged, sample_run("async", 9, 5000)])
    assert (curve.x[0], curve.x[-1]) == (0, 10_000)
    assert math.isnan(curve.middle[0])
    assert curve.middle[-1] == pytest.approx(2.0)
    assert curve.low[-1] <= 2.0 <= curve.high[-1]
    assert advantage_curve([sample_run("async", 9, 5000)]).x == ()


def test_ratio_of_variances_is_that_of_the_reference_to_the_arm():
    def arm(name, variance):
        return [with_summary(run, policy_loss_variance=variance) for run in sample_runs({name: 5000}, seeds=4)]

    (contrast,) = contrasts(["a", "b"], [*arm("a", 1.0), *arm("b", 4.0)])
    assert contrast.policy_loss_variance_ratio == Interval(0.25, 0.25, 0.25)
