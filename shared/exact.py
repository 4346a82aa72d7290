"""Running totals that keep their digits: a pair each, the rounded sum and what rounding has left of it."""

from collections.abc import Iterable
from math import fsum


def exact_sum(numbers: Iterable[float]) -> tuple[float, float]:
    """The sum of numbers as a pair, together good for 31 digits."""
    numbers = tuple(numbers)
    high = fsum(numbers)
    return high, fsum((*numbers, -high))
