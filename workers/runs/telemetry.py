"""From the scoreboard's running totals to a `Status`: what happened in the last interval, and since the start."""

import math
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import PHASES
from shared.scoreboard import Scoreboard, exact_sum
from workers.runs.records import Losses, Staleness, WorkerStatus
from workers.processes.usage import Usage

EQUAL = 2**80  # mean squares of float32 numbers that are not all equal are less than so many times their variance
EXACT = 2**98  # how much of a total is surely kept (shared/scoreboard.py, exact_sum)


class Telemetry:
    """Compares the scoreboard with how it was one interval ago."""

    def __init__(self, scoreboard: Scoreboard):
        self._scoreboard = scoreboard
        self._time = time.monotonic()
        self._before = self.rows = scoreboard.read()
        self._stale_before = self._stale = scoreboard.staleness_counts()
        self._seconds = 0.0

    def tick(self) -> None:
        """End an interval: what is told below is about the time since the tick before."""
        now = time.monotonic()
        self._seconds, self._time = now - self._time, now
        self._before, self.rows = self.rows, self._scoreboard.read()
        self._stale_before, self._stale = self._stale, self._scoreboard.staleness_counts()

    def whole(self) -> None:
        """Let the interval be the whole training: what is told below are averages over the run."""
        self._before, self._seconds = np.zeros_like(self.rows), self.train_seconds()
        self._stale_before = np.zeros_like(self._stale)

    def train_seconds(self) -> float:
        """From the first worker's first step to the latest update of any, and in earlier sittings."""
        started = self.rows["started"][self.rows["started"] > 0]
        present = max(0.0, float(self.rows["heartbeat"].max() - started.min())) if len(started) else 0.0
        return self._scoreboard.earlier_seconds + present

    def total(self, name: str) -> int:
        """The sum of a counter over workers, since the start."""
        return int(self.rows[name].sum())

    def cpu_seconds(self) -> float:
        """CPU time of the workers, since the start of each."""
        return float(self.rows["cpu_seconds"].sum())

    def steps_per_second(self) -> float:
        """Environment steps per second of all workers over the interval."""
        return self._rate(self._gained("env_steps").sum())

    def mean_return(self) -> float | None:
        """Mean return of the workers' last episodes, of those workers that have finished one."""
        means = self.rows["mean_return"]
        known = means[~np.isnan(means)]
        return float(known.mean()) if len(known) else None

    def time_shares(self) -> dict[str, float]:
        """Shares of the running workers' wall-clock time over the interval, by phase; empty where none ran."""
        running = int((self._gained("updates") > 0).sum())
        if not running or not self._seconds:
            return {}
        shares = {phase: float(self._gained(f"{phase}_seconds").sum()) / (running * self._seconds) for phase in PHASES}
        spent = sum(shares.values())
        if spent > 1:  # a phase that began before the interval was booked in it
            shares = {phase: share / spent for phase, share in shares.items()}
        return {**shares, "other": max(0.0, 1 - spent)}

    def profile(self) -> tuple[dict[str, float], ...]:
        """Seconds of every worker since its start: by phase, of CPU time, and by the clock on the wall."""
        return tuple(
            {name: round(float(row[f"{name}_seconds"]), 4) for name in (*PHASES, "cpu")}
            | {"wall": round(self._scoreboard.earlier_seconds + max(0.0, float(row["heartbeat"] - row["started"])), 4)}
            for row in self.rows
        )

    def advantage_magnitude(self) -> float | None:
        """Mean of |G_t - V(s_t)| over the interval's valid steps, or None where there was none."""
        steps = int(self._gained("learned_steps").sum())
        return float(self._gained("error_magnitude_sum").sum()) / steps if steps else None

    def policy_loss_variance(self) -> float | None:
        """Variance of the interval's policy losses, an update each, or None where there was none."""
        updates = int(self._gained("updates").sum())
        if not updates:
            return None
        mean = float(self._gained("policy_loss").sum()) / updates
        return max(0.0, float(self._gained("policy_loss_square").sum()) / updates - mean**2)

    def losses(self) -> Losses | None:
        """Means over the interval's updates, or None where there was none."""
        updates = int(self._gained("updates").sum())
        if not updates:
            return None
        names = ("policy_loss", "value_loss", "entropy", "gradient_norm")
        means = {name: float(self._gained(name).sum()) / updates for name in names}
        rates = self.rows["learning_rate"][self.rows["updates"] > 0]
        return Losses(**means, explained_variance=self._explained_variance(), learning_rate=float(rates.min()))

    def staleness(self) -> Staleness | None:
        """Over all pushes since the start, or None before the first."""
        counts = self._stale.sum(0)
        if not counts.sum():
            return None
        cumulative = np.cumsum(counts) / counts.sum()
        return Staleness(
            mean=_mean_of(counts),
            p50=float(np.searchsorted(cumulative, 0.5)),
            p95=float(np.searchsorted(cumulative, 0.95)),
            max=int(self.rows["staleness_max"].max()),
        )

    def staleness_counts(self) -> list[int]:
        """Pushes since the start by their staleness, to the largest there was; the last bin counts all larger."""
        counts = np.trim_zeros(self._stale.sum(0), "b")
        return [int(count) for count in counts]

    def worker(self, index: int, pid: int | None, state: str, usage: Usage | None, restarts: int) -> WorkerStatus:
        """One worker's row."""
        row, counts = self.rows[index], self._stale[index] - self._stale_before[index]
        mean = float(row["mean_return"])
        return WorkerStatus(
            worker_index=index,
            pid=pid,
            state=state,
            env_steps=int(row["env_steps"]),
            steps_per_second=self._rate(self._gained("env_steps")[index]),
            updates=int(row["updates"]),
            episodes=int(row["episodes"]),
            mean_return=None if math.isnan(mean) else mean,
            staleness=_mean_of(counts) if counts.sum() else None,
            cpu_percent=100 * self._rate(self._gained("cpu_seconds")[index]) if row["updates"] else None,
            memory_bytes=usage.memory_bytes if usage else None,
            restarts=restarts,
        )

    def _gained(self, name: str) -> NDArray[Any]:
        gained: NDArray[Any] = self.rows[name] - self._before[name]
        return gained

    def _rate(self, gained: Any) -> float:
        return float(gained) / self._seconds if self._seconds else 0.0

    def _explained_variance(self) -> float:
        """1 - Var(G - V) / Var(G) over the valid steps of the interval's updates."""
        steps = int(self._gained("learned_steps").sum())
        if not steps:
            return math.nan
        variance = self._variance("target", steps)
        return float(1 - self._variance("error", steps) / variance) if variance else math.nan

    def _variance(self, of: str, steps: int) -> Fraction:
        """Of the interval's targets or errors; exactly 0 where there is no more than rounding can have left."""
        mean, square = self._gained_exactly(f"{of}_sum") / steps, self._gained_exactly(f"{of}_square_sum") / steps
        total = Fraction(float(self.rows[f"{of}_square_sum"].sum()))
        variance = square - mean**2
        return variance if variance > square / EQUAL + total / steps / EXACT else Fraction(0)

    def _gained_exactly(self, name: str) -> Fraction:
        parts = [(self.rows[part], -self._before[part]) for part in (name, f"{name}_low")]
        high, low = exact_sum(np.array(parts).reshape(-1).tolist())
        return Fraction(high) + Fraction(low)


def _mean_of(counts: Sequence[int] | NDArray[Any]) -> float:
    counts = np.asarray(counts)
    return float(counts @ np.arange(len(counts)) / counts.sum())
