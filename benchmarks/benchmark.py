"""What a benchmark is: trials known beforehand, each measured by itself, and figures made of all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Row

Parameters = dict[str, Any]  # of one trial: everything that defines it, as JSON
Values = dict[str, Any]  # what a trial measured, as JSON


class BenchmarkError(RuntimeError):
    """A measurement that cannot be made; one line or more that say why."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    seeds: int = 50
    quick: bool = False  # so little that only a mistake shows


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that has been measured."""

    parameters: Parameters
    values: Values


def nothing_to_prepare() -> None:
    """For benchmarks that start right away."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark. Trials that belong together, such as the two sides of a ratio, are one trial: they are neighbours
    in time, and an interruption never leaves half of one."""

    name: str
    meaning: str  # what it measures, a sentence or a few
    plan: Callable[[Size], list[Parameters]]  # the trials, in order
    measure: Callable[[Parameters], Values]
    rows: Callable[[Sequence[Trial]], list[Row]]
    prepare: Callable[[], None] = nothing_to_prepare  # once before the first trial of a run
