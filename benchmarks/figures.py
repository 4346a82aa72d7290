"""From samples to a table: quantiles, bars, verdicts, Markdown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = ("figure", "bar", "aim", "measured (median, spread, n)", "met?")
QUARTILES_FROM = 8  # with fewer samples the whole range is shown instead


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure should reach: at most or at least `value`."""

    value: float
    at_most: bool = True

    def holds(self, measured: float) -> bool:
        """Whether `measured` keeps to it; never for NaN."""
        return measured <= self.value if self.at_most else measured >= self.value


def at_least(value: float) -> Limit:
    """A lower limit."""
    return Limit(value, at_most=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table; `bar` and `aim` are None where a figure only informs."""

    name: str
    samples: tuple[float, ...]  # math.inf where a run never got there
    unit: str = ""
    bar: Limit | None = None
    aim: Limit | None = None
    needed: int = 0  # where not 0: so many samples are asked, and every one of them has to get there

    def row(self) -> tuple[str, ...]:
        """The cells of HEADER."""
        limits = (_limit(limit, self.unit) for limit in (self.bar, self.aim))
        return (self.name, *limits, self.measured(), self.verdict())

    def measured(self) -> str:
        """Median, quartiles (or the range of few samples) and their number."""
        if not self.samples:
            return "not measured"
        median = f"{number(quantile(self.samples, 0.5))}{_suffix(self.unit)}"
        if len(self.samples) == 1:
            return f"{median} (n 1{self._reached()})"
        ends, word = ((0.25, 0.75), "quartiles") if len(self.samples) >= QUARTILES_FROM else ((0.0, 1.0), "range")
        low, high = (number(quantile(self.samples, end)) for end in ends)
        return f"{median} ({word} {low} to {high}, n {len(self.samples)}{self._reached()})"

    def _reached(self) -> str:
        never = self.samples.count(math.inf)
        return "" if not self.needed else f", {never} never" if never else ", all got there"

    def verdict(self) -> str:
        """Whether the median keeps to the bar, and to the aim."""
        if not self.samples or (self.bar is None and self.aim is None):
            return "-"
        median = quantile(self.samples, 0.5)
        if (self.bar is not None and not self.bar.holds(median)) or (self.needed and math.inf in self.samples):
            return "**missed**"
        if len(self.samples) < self.needed:
            return f"open: needs {self.needed}"
        if self.aim is None:
            return "met"
        return "met, and the aim" if self.aim.holds(median) else "met, not the aim"


@dataclass(frozen=True, slots=True)
class Count:
    """A row that counts successes, of which the bar asks all, in at least `needed` attempts."""

    name: str
    outcomes: tuple[bool, ...]
    needed: int

    def row(self) -> tuple[str, ...]:
        """The cells of HEADER."""
        measured = f"{sum(self.outcomes)} of {len(self.outcomes)}" if self.outcomes else "not measured"
        return (self.name, f"{self.needed} of {self.needed}", "", measured, self.verdict())

    def verdict(self) -> str:
        """One failure is a miss; all successes count once there are enough of them."""
        if not all(self.outcomes):
            return "**missed**"
        return "met" if len(self.outcomes) >= self.needed else f"open: needs {self.needed}"


@dataclass(frozen=True, slots=True)
class Joint:
    """A row that shows several figures side by side under one name."""

    name: str
    figures: tuple[Figure, ...]

    def row(self) -> tuple[str, ...]:
        """The cells of HEADER."""
        cells = zip(*(figure.row()[1:] for figure in self.figures), strict=True)
        return (self.name, *(" / ".join(cell) for cell in cells))


Row = Figure | Count | Joint


def table(rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(row.row() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def quantile(samples: Sequence[float], fraction: float) -> float:
    """The quantile of `samples`, linear between neighbours; infinite samples are allowed."""
    ordered = sorted(samples)
    position = fraction * (len(ordered) - 1)
    low = math.floor(position)
    share = position - low
    if share == 0 or ordered[low] == ordered[low + 1]:
        return ordered[low]
    return ordered[low] * (1 - share) + ordered[low + 1] * share


def number(value: float) -> str:
    """`value` to about three digits, with thousands separated."""
    if not math.isfinite(value):
        return "never" if value == math.inf else str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _limit(limit: Limit | None, unit: str) -> str:
    if limit is None:
        return ""
    return f"{'at most' if limit.at_most else 'at least'} {limit.value:,g}{_suffix(unit)}"


def _suffix(unit: str) -> str:
    return f" {unit}" if unit else ""
