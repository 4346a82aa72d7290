"""How long a bench will still take, from what its trials have taken, now or in an earlier one."""

from collections.abc import Mapping
from typing import Any

from benchmarks.benchmark import Benchmark, Size
from benchmarks.figures import quantile
from benchmarks.results import Results, outstanding, under


class Progress:
    """The trials that are left, and the seconds that known ones took; as text, the time that is left."""

    def __init__(
        self, benchmarks: Mapping[str, Benchmark], size: Size, results: Results, circumstances: dict[str, Any]
    ):
        self._left: dict[str, int] = {}
        self._took: dict[str, list[float]] = {}
        for name, benchmark in benchmarks.items():
            records = results.load(name)
            self._left[name] = len(outstanding(benchmark.plan(size), under(records, circumstances)))
            self._took[name] = [record.seconds for record in records if record.seconds is not None]

    def measured(self, name: str, seconds: float) -> None:
        """A trial of a benchmark has been measured."""
        self._left[name] -= 1
        self._took[name].append(seconds)

    def __str__(self) -> str:
        known = [name for name, left in self._left.items() if left and self._took[name]]
        unknown = [name for name, left in self._left.items() if left and not self._took[name]]
        seconds = sum(self._left[name] * quantile(self._took[name], 0.5) for name in known)
        parts = [duration(seconds)] if known or not unknown else []
        parts += [f"{len(unknown)} benchmark{'s' * (len(unknown) > 1)} of unknown length"] if unknown else []
        return f"{' and '.join(parts)} left"


def duration(seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
