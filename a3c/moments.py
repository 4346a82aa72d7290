"""Sums over a rollout from which the explained variance follows, however far the targets are from zero.

A variance is a small difference of large numbers: of targets of 1e8 with a standard deviation of 1, the mean square and
the squared mean agree in all digits that a float64 has. So a rollout's sums are taken about a reference near its mean,
and given as *terms*: numbers whose exact sum is the sum about zero. Totals add terms with `math.fsum`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Terms = tuple[float, ...]
SPLIT = 2.0**27 + 1
FAR = 2.0**27  # how much |reference| * |mean - reference| may exceed the variance: below, rounding costs 1e-8 of it


class Moments(NamedTuple):
    """Sums over the valid steps of targets G_t and errors G_t - V(s_t); four of them as terms."""

    steps: float
    error_magnitude: float  # of |G_t - V(s_t)|: the advantages' before any normalisation
    target: Terms
    target_square: Terms
    error: Terms
    error_square: Terms


class MomentsMeter:
    """Takes the moments of rollout after rollout of so many steps each.

    A reference of 0 is kept for as long as it does, which it nearly always does, and costs nothing.
    """

    def __init__(self, steps: int):
        self._resize(steps)
        self._references = [0.0, 0.0]

    def _resize(self, steps: int) -> None:
        self._rows = np.zeros((3, steps))  # valid; targets and errors about their references; 0 where not valid
        self._columns, self._both = self._rows.T, self._rows[1:]
        self._arrays = tuple(self._rows)

    def measure(self, returns: Array, values: Array, valid: Array) -> Moments:
        """The moments of one rollout, [N] each; valid is 1 where the step counts, else 0."""
        if len(valid) != len(self._rows[0]):  # whole episodes are of any length
            self._resize(len(valid))
        magnitude, count, target, error, square, error_square = self._sums(returns, values, valid)
        near, error_near = self._references
        if _is_far(near, count, target, square) or _is_far(error_near, count, error, error_square):
            self._references = near, error_near = [_high(near + target / count), _high(error_near + error / count)]
            magnitude, count, target, error, square, error_square = self._sums(returns, values, valid)
        if not (near or error_near):
            return Moments(count, magnitude, (target,), (square,), (error,), (error_square,))
        targets, errors = _terms(near, count, target, square), _terms(error_near, count, error, error_square)
        return Moments(count, magnitude, *targets, *errors)

    def _sums(self, returns: Array, values: Array, valid: Array) -> tuple[float, ...]:
        """Sum |error|; how many are valid; sums of targets, of errors, and of their squares about the references."""
        valids, targets, errors = self._arrays
        valids[:], targets[:], errors[:] = valid, returns, values
        np.subtract(targets, errors, errors)  # exact, which it is not in float32
        np.multiply(self._both, valids, self._both)
        magnitude = float(np.abs(errors).dot(valids))
        if self._references != [0.0, 0.0]:
            self._both -= np.multiply.outer(self._references, valids)
        (count, target, error), (_, square, _), (_, _, error_square) = self._rows.dot(self._columns).tolist()
        return magnitude, count, target, error, square, error_square


def _is_far(reference: float, count: float, total: float, square: float) -> bool:
    """Whether sums about a reference would lose digits of the variance, which is compared times count^2."""
    return (abs(reference) * count + abs(total)) * abs(total) > FAR * (count * square - total * total)


def _terms(reference: float, count: float, total: float, square: float) -> tuple[Terms, Terms]:
    """The sums of `count` numbers and of their squares, r^2 + 2 r (x - r) + (x - r)^2; the large products are exact."""
    high = _high(reference * reference)
    low = reference * reference - high
    return (count * reference, total), (count * high, count * low, 2 * reference * total, square)


def _high(number: float) -> float:
    """A number's leading 26 bits (Veltkamp's splitting; Dekker 1971), so that products with it are exact."""
    scaled = number * SPLIT
    return scaled - (scaled - number)
