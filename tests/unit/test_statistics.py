"""Estimates over few runs: their definitions against slow oracles, their intervals against the truth they claim."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from workers.comparison import statistics
from workers.comparison.statistics import bootstrap, bootstrap_ratio, iqm, median, probability_less, wilson

STUDIES = pytest.mark.parametrize("studies", [300, pytest.param(3000, marks=pytest.mark.long)])  # simulated ones
SIGMA = 0.5  # of the logarithm of the simulated step counts
MEDIAN_STEPS = 8_000


def plain_iqm(samples):
    """Every sample four times, so that a quarter of all is a whole number of them."""
    repeated = sorted(sample for sample in samples for _ in range(4))
    return sum(repeated[len(samples) : 3 * len(samples)]) / (2 * len(samples))


def plain_probability(a, b):
    wins = [1.0 if x < y else 0.5 if x == y else 0.0 for x in a for y in b]
    return sum(wins) / len(wins)


def steps_to_target(rng, n, ratio=1.0, budget_quantile=0.8):
    """Lognormal step counts of n runs; those beyond the budget, a quantile of the population, never get there."""
    steps = np.round(ratio * MEDIAN_STEPS * np.exp(SIGMA * rng.standard_normal(n)))
    return np.where(steps > MEDIAN_STEPS * math.exp(SIGMA * stats.norm.ppf(budget_quantile)), math.inf, steps)


def population_iqm():
    """Of the step counts: E[X | q_25 < X < q_75] of the lognormal distribution; a budget above q_75 leaves it alone."""
    quartile = stats.norm.ppf(0.75)
    share = stats.norm.cdf(quartile - SIGMA) - stats.norm.cdf(-quartile - SIGMA)
    return MEDIAN_STEPS * math.exp(SIGMA**2 / 2) * share / 0.5


def coverage(intervals, truth):
    return np.mean([interval.low <= truth <= interval.high for interval in intervals])


def binomial_error(probability, studies):
    """Three standard errors of a coverage that so many studies have measured."""
    return 3 * math.sqrt(probability * (1 - probability) / studies)


SAMPLES = st.lists(st.floats(1, 1e6) | st.just(math.inf), min_size=1, max_size=24)


@given(SAMPLES)
@example([1, 2, math.inf])  # of which a quarter is in the middle half
@example([1, 2, 3, 4, math.inf])  # just outside
def test_iqm_is_the_mean_of_the_middle_half_with_fractions_at_its_borders(samples):
    assert iqm(np.array(samples, float)) == pytest.approx(plain_iqm(samples))
    if len(samples) % 4 == 0 and math.inf not in samples:  # as Agarwal et al. have it
        assert iqm(np.array(samples)) == pytest.approx(stats.trim_mean(samples, 0.25))


@given(SAMPLES)
def test_median_between_a_finite_and_an_infinite_sample_is_infinite(samples):
    middle = sorted(samples)[(len(samples) - 1) // 2 : len(samples) // 2 + 1]
    assert median(np.array(samples, float)) == pytest.approx(sum(middle) / len(middle))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_interval_of_equal_samples_is_exactly_their_value(n):
    interval = bootstrap([500.0] * n, iqm, np.random.default_rng(0))
    assert (interval.value, interval.low, interval.high) == (500, 500, 500)


@pytest.mark.parametrize("statistic", [median, iqm])
def test_statistics_of_many_samples_at_once_are_those_of_each(statistic):
    samples = np.random.default_rng(0).choice([1.0, 2.0, 5.0, math.inf], size=(3, 50, 7))
    at_once = statistic(samples)
    assert at_once.shape == (3, 50)
    assert at_once.ravel().tolist() == [float(statistic(row)) for row in samples.reshape(-1, 7)]


@pytest.mark.parametrize(
    ("statistic", "truth"), [(median, MEDIAN_STEPS), (iqm, population_iqm())], ids=["median", "iqm"]
)
@pytest.mark.parametrize(("n", "stated"), [(3, 0.75), (5, 0.935), (10, 0.965), (20, 0.96)])
@STUDIES
def test_bootstrap_interval_covers_the_truth_as_often_as_its_docstring_states(statistic, truth, n, stated, studies):
    rng = np.random.default_rng(n)
    intervals = [bootstrap(steps_to_target(rng, n), statistic, rng) for _ in range(studies)]
    assert coverage(intervals, truth) == pytest.approx(stated, abs=binomial_error(stated, studies))


@pytest.mark.parametrize("n", [5, 10, 20, 40])
def test_expanded_tail_is_hesterbergs(n):
    expected = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    assert statistics._expanded_tail(n) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_interval_of_fewer_than_five_samples_reaches_from_the_least_to_the_largest(n):
    samples = np.arange(1.0, n + 1)
    interval = bootstrap(samples, median, np.random.default_rng(0))
    assert (interval.low, interval.high) == (1, n)


@pytest.mark.parametrize(("censored", "finite_high"), [(0, True), (1, True), (4, False), (9, False)])
def test_interval_of_censored_samples_is_open_above_once_they_reach_the_upper_limit(censored, finite_high):
    samples = [*range(100, 120 - censored), *[math.inf] * censored]
    interval = bootstrap(samples, iqm, np.random.default_rng(0))
    assert math.isfinite(interval.high) == finite_high
    assert 100 < interval.low < interval.value


def test_interval_where_no_run_gets_there_is_infinite_throughout():
    interval = bootstrap([math.inf] * 5, median, np.random.default_rng(0))
    assert (interval.value, interval.low, interval.high) == (math.inf, math.inf, math.inf)


def test_interval_where_most_runs_never_get_there_has_a_finite_lower_limit():
    interval = bootstrap([*range(1, 5), *[math.inf] * 6], median, np.random.default_rng(0))
    assert interval.value == math.inf and math.isfinite(interval.low)


def test_one_sample_has_an_estimate_and_no_interval_and_none_has_neither():
    one, none = (bootstrap(samples, median, np.random.default_rng(0)) for samples in ([3.0], []))
    assert one.value == 3 and math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(none.value) and math.isnan(none.low) and math.isnan(none.high)


def test_interval_depends_on_the_samples_and_the_generator_alone_and_not_on_their_order():
    samples = np.random.default_rng(1).lognormal(size=10)
    first, again = (bootstrap(order, iqm, np.random.default_rng(5)) for order in (samples, samples[::-1]))
    other = bootstrap(samples, iqm, np.random.default_rng(6))
    assert first == again and first != other


@pytest.mark.parametrize(("n", "stated"), [(5, 0.965), (10, 0.96), (20, 0.965)])
@STUDIES
def test_ratio_of_medians_is_covered_as_often_as_its_docstring_states(n, stated, studies):
    rng = np.random.default_rng(n)
    intervals = [
        bootstrap_ratio(steps_to_target(rng, n, 1.25, 0.9), steps_to_target(rng, n, 1.0, 0.9), rng)
        for _ in range(studies)
    ]
    assert coverage(intervals, 1.25) == pytest.approx(stated, abs=binomial_error(stated, studies))


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [((6, 6, 6), (2, 2), 3), ((math.inf, math.inf), (2, 2), math.inf), ((2, 2), (math.inf, math.inf), 0)],
)
def test_ratio_of_samples_without_spread_has_no_spread(numerator, denominator, expected):
    ratio = bootstrap_ratio(numerator, denominator, np.random.default_rng(0))
    assert (ratio.value, ratio.low, ratio.high) == (expected, expected, expected)


def test_ratio_of_two_infinite_medians_is_not_known():
    ratio = bootstrap_ratio((1, math.inf, math.inf), (math.inf, math.inf), np.random.default_rng(0))
    assert math.isnan(ratio.value) and math.isnan(ratio.low) and math.isnan(ratio.high)


def test_ratio_leaves_out_resamples_of_two_infinite_medians():
    samples = (2, 2, 2, math.inf, math.inf)
    ratio = bootstrap_ratio(samples, samples, np.random.default_rng(0))
    assert (ratio.value, ratio.low, ratio.high) == (1, 0, math.inf)


@pytest.mark.parametrize(("numerator", "denominator", "value"), [((4,), (1, 2, 3), 2), ((4, 4), (2,), 2)])
def test_ratio_with_one_sample_has_no_interval(numerator, denominator, value):
    ratio = bootstrap_ratio(numerator, denominator, np.random.default_rng(0))
    assert ratio.value == value and math.isnan(ratio.low) and math.isnan(ratio.high)


def test_ratio_without_samples_is_not_known():
    assert math.isnan(bootstrap_ratio((), (1, 2), np.random.default_rng(0)).value)
    assert math.isnan(bootstrap_ratio((1, 2), (), np.random.default_rng(0)).value)


@pytest.mark.parametrize("seed", range(5))
def test_probability_less_counts_pairs_with_ties_as_half(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.choice([1, 2, 3, 4, math.inf], 7), rng.choice([2, 3, 4, math.inf], 9)
    assert probability_less(a, b).value == pytest.approx(plain_probability(a, b))
    assert probability_less(a, b).value == pytest.approx(stats.mannwhitneyu(b, a).statistic / (7 * 9))


@pytest.mark.parametrize(("n", "m", "theta"), [(3, 3, 1.0), (10, 10, 0.5), (10, 20, 0.95), (5, 20, 0.0), (1, 4, 0.25)])
def test_probability_interval_holds_every_value_within_its_own_standard_error(n, m, theta):
    x = np.linspace(0, 1, 200_001)[1:-1]
    others = (n + m) / 2 - 1
    variance = x * (1 - x) * (1 + others * (1 - x) / (2 - x) + others * x / (1 + x)) / (n * m)
    held = x[(x - theta) ** 2 <= stats.norm.ppf(0.975) ** 2 * variance]
    b = np.r_[np.full(round(theta * m), 2.0), np.zeros(m - round(theta * m))]  # above all of a, or below
    interval = probability_less(np.ones(n), b)
    assert interval.value == theta
    assert (interval.low, interval.high) == pytest.approx((held.min(), held.max()), abs=2e-5)


def test_probability_of_one_sample_each_way_is_wilsons():
    assert probability_less([1], [2]).low == pytest.approx(wilson(1, 1).low)


def test_probability_interval_is_not_empty_where_one_arm_always_wins():
    better = probability_less(range(10), range(10, 20))
    assert better.value == better.high == 1 and 0.7 < better.low < 0.9
    worse = probability_less(range(10, 20), range(10))
    assert (worse.value, worse.low, worse.high) == pytest.approx((0, 0, 1 - better.low))


def test_probability_of_two_arms_that_never_get_there_is_even():
    interval = probability_less([math.inf] * 10, [math.inf] * 10)
    assert interval.value == 0.5 and interval.low == pytest.approx(1 - interval.high) and interval.low < 0.3


def test_probability_without_samples_is_not_known():
    assert math.isnan(probability_less([], [1.0]).value) and math.isnan(probability_less([1.0], []).low)


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize(("deviations", "ceiling"), [(0, 0.97), (1, 0.97), (3, 0.98)])
@STUDIES
def test_probability_interval_covers_the_truth_at_its_nominal_rate(n, deviations, ceiling, studies):
    budget = stats.norm.ppf(0.8)
    wins = stats.norm.expect(lambda a: stats.norm.sf(a), loc=-deviations, ub=budget)  # P(A < B, A within the budget)
    truth = wins + stats.norm.sf(budget) * stats.norm.sf(budget + deviations) / 2
    rng, ratio = np.random.default_rng(n), math.exp(-deviations * SIGMA)
    intervals = [probability_less(steps_to_target(rng, n, ratio), steps_to_target(rng, n)) for _ in range(studies)]
    low, high = 0.95 - binomial_error(0.95, studies), ceiling + binomial_error(ceiling, studies)
    assert low <= coverage(intervals, truth) <= high


@pytest.mark.parametrize("trials", [1, 2, 5, 20])
def test_wilson_is_scipys(trials):
    for successes in range(trials + 1):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        interval = wilson(successes, trials)
        assert interval.value == successes / trials
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends_exactly_at_none_and_at_all_and_knows_nothing_without_a_trial():
    assert all(wilson(0, n).low == 0 and wilson(n, n).high == 1 for n in range(1, 50))
    assert math.isnan(wilson(0, 0).value) and math.isnan(wilson(0, 0).low) and math.isnan(wilson(0, 0).high)
