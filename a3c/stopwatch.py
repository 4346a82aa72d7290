"""A stopwatch that books all of a process's time on the phases of its loop."""

import time
from collections import defaultdict


class Stopwatch:
    """Wall-clock seconds by phase. Each lap books everything since the lap before, so that no time is left out."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.start()

    def start(self) -> None:
        """The first phase begins."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """A phase has ended."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def move(self, seconds: float, source: str, target: str) -> None:
        """Book seconds of one phase on another."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds
