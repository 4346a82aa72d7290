"""Estimates over few runs, with 95 % intervals that hold for few runs (docs/decisions/0012, docs/comparison.md).

Samples are numbers of runs, one each; math.inf stands for a run that never reached the target. NumPy alone, and no
random number of its own: the caller of a bootstrap brings the generator.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from workers.comparison.results import Interval

Array = NDArray[np.float64]
Samples = Sequence[float] | Array

RESAMPLES = 4000
TAIL = 0.025  # outside a 95 % interval, on either side
Z = 1.959963984540054  # the standard normal quantile of 1 - TAIL
UNKNOWN = Interval(math.nan, math.nan, math.nan)


def median(samples: Array) -> Array:
    """The middle sample, or the mean of the middle two, infinite where one of these is: [..., n] -> [...]."""
    middle: Array = np.median(samples, axis=-1)
    return middle


def iqm(samples: Array) -> Array:
    """The interquartile mean: the mean of the middle half, with n/4 samples left out at either end.

    sum_i w_i x_(i) / sum_i w_i,  w_i = length of [i-1, i] within [n/4, 3n/4]    (Agarwal et al. 2021, section 4.3)

    They round n/4 down; here the samples at the border count by the part that lies within, so that the statistic is
    the same for any n. [..., n], n >= 1 -> [...]; infinite where a sample that counts is.
    """
    samples = np.sort(samples, axis=-1)
    n = samples.shape[-1]
    weights = np.diff(np.clip(np.arange(n + 1), n / 4, 3 * n / 4))  # multiples of 1/4: equal samples lose nothing
    counted = weights > 0  # not left to a weight of 0, which makes NaN of infinity
    mean: Array = (samples[..., counted] * weights[counted]).sum(-1) / (n / 2)
    return mean


def bootstrap(samples: Samples, statistic: Callable[[Array], Array], rng: np.random.Generator) -> Interval:
    """A statistic of one sample, with its expanded percentile interval.

    Quantiles a and 1 - a of the statistic over resamples, a = Phi(-sqrt(n / (n - 1)) t_{0.975, n-1})
                                                                 (Hesterberg 2015, "expanded percentile interval")

    The plain percentile interval, a = 0.025, is too narrow for few samples. Simulated coverage of the nominal 95 %,
    over normal, exponential and lognormal samples, none or a fifth of them censored:

        n         3           5           10          20
        median    0.74-0.76   0.93-0.95   0.96-0.97   0.95-0.97
        iqm       0.73-0.77   0.92-0.94   0.96-0.98   0.95-0.97      (plain at n = 5: 0.89-0.91)

    Args:
        samples: [n], finite or math.inf; their order does not matter.
        statistic: [..., n] -> [...].
    Returns: low and high are NaN for n = 1, everything is for n = 0; infinite as the statistic of a resample is.
    """
    samples = np.sort(np.asarray(samples, np.float64))
    n = len(samples)
    if n == 0:
        return UNKNOWN
    value = float(statistic(samples))
    if n == 1:
        return Interval(value, math.nan, math.nan)
    return _between_quantiles(value, statistic(_resamples(samples, rng)), _expanded_tail(n))


def bootstrap_ratio(numerator: Samples, denominator: Samples, rng: np.random.Generator) -> Interval:
    """The ratio of the medians of two independent samples, with its plain percentile interval.

    Expanded like `bootstrap`'s it would cover 0.99. Simulated coverage of the nominal 95 %, over lognormal samples:

        n                    3           5           10          20
        up to 20 % censored  0.89-0.91   0.96-0.97   0.95-0.97   0.96-0.97
        40 % of both         0.83        0.95        0.95        0.94     where the ratio is known at all

    Args:
        numerator, denominator: [n], [m], >= 0, finite or math.inf; their order does not matter.
    Returns: inf where only the numerator's median is infinite, 0 where only the denominator's is, NaN where both are;
        resamples that are NaN are left out. Low and high are NaN where either has but one sample.
    """
    above, below = (np.sort(np.asarray(samples, np.float64)) for samples in (numerator, denominator))
    if not len(above) or not len(below):
        return UNKNOWN
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.divide(median(above), median(below)))
        if math.isnan(value) or len(above) == 1 or len(below) == 1:
            return Interval(value, math.nan, math.nan)
        ratios = median(_resamples(above, rng)) / median(_resamples(below, rng))
    known = ratios[~np.isnan(ratios)]
    return _between_quantiles(value, known, TAIL) if len(known) else Interval(value, math.nan, math.nan)


def probability_less(a: Samples, b: Samples) -> Interval:
    """The probability that a sample of a is less than one of b, with its score interval.

    theta = P(A < B) + P(A = B) / 2, over all pairs                           (Mann and Whitney 1947; "probability of
    |theta - x| <= z sqrt(V(x)) for every x of the interval, with                improvement" in Agarwal et al. 2021)
    V(x) = x (1 - x) (1 + s (1 - x) / (2 - x) + s x / (1 + x)) / (n m),  s = (n + m) / 2 - 1   (Newcombe 2006, method 5)

    It has a width where all of a is below all of b, where a bootstrap has none. Simulated coverage of the nominal 95 %,
    over lognormal samples of equal spread, 0 to 3 standard deviations apart, none, a fifth or half of them censored:

        n = m     3           5           10          20
                  0.90-0.97   0.94-0.97   0.95-0.96   0.94-0.98

    Args:
        a, b: [n], [m], finite or math.inf; two infinities tie. Without a sample of either all is NaN.
    """
    first, second = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None, :]
    if not first.size or not second.size:
        return UNKNOWN
    value = float(np.mean((first < second) + 0.5 * (first == second)))
    return Interval(value, *(_newcombe_limit(value, first.size, second.size, end) for end in (0.0, 1.0)))


def wilson(successes: int, trials: int) -> Interval:
    """The share of successes, with its score interval; NaN where there is no trial.

    (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n)                              (Wilson 1927)
    """
    if trials == 0:
        return UNKNOWN
    share, square = successes / trials, Z * Z / trials
    centre = share + square / 2
    reach = math.sqrt(square * (share * (1 - share) + square / 4))
    high = (centre + reach) / (1 + square) if successes < trials else 1.0  # without a rest of rounding
    return Interval(share, (centre - reach) / (1 + square), high)


def _resamples(samples: Array, rng: np.random.Generator) -> Array:
    return rng.choice(samples, (RESAMPLES, len(samples)))


def _between_quantiles(value: float, estimates: Array, tail: float) -> Interval:
    """Quantiles without interpolation, which would make NaN between two infinities."""
    estimates = np.sort(estimates)
    index = round(tail * (len(estimates) - 1))
    return Interval(value, float(estimates[index]), float(estimates[-1 - index]))


def _expanded_tail(n: int) -> float:
    """Phi(-sqrt(n / (n - 1)) t_{0.975, n-1}), with Student's quantile of Abramowitz and Stegun 26.7.5.

    That quantile is within 0.3 % from 4 degrees of freedom on. With fewer it is too small, and still large enough for
    the interval to reach from the least estimate to the largest.
    """
    terms = ((Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384)
    quantile = Z + sum(term / (n - 1) ** power for power, term in enumerate(terms, 1))
    return math.erfc(math.sqrt(n / (n - 1)) * quantile / math.sqrt(2)) / 2


def _newcombe_limit(theta: float, n: int, m: int, end: float) -> float:
    """The furthest x between theta and an end of [0, 1] that is within z standard errors of theta, by bisection."""
    others = (n + m) / 2 - 1
    inside, outside = theta, end
    for _ in range(50):
        x = (inside + outside) / 2
        variance = x * (1 - x) * (1 + others * (1 - x) / (2 - x) + others * x / (1 + x)) / (n * m)
        inside, outside = (x, outside) if abs(theta - x) <= Z * math.sqrt(variance) else (inside, x)
    return inside
