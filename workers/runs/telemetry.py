"""From the scoreboard's running totals to a `Status`: what happened in the last interval, and since the start."""

import contextlib
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import PHASES
from shared.scoreboard import VERSIONS, Scoreboard, exact_sum
from shared.store import SharedStore
from workers.runs.directory import Table, open_table
from workers.runs.records import Losses, Staleness, WorkerStatus

LOSSES = ("policy_loss", "value_loss", "entropy", "gradient_norm")
TOTALS = ("updates", "env_steps", "seconds", "episodes", "mean_return")
COLUMNS = (*TOTALS, *LOSSES, "learning_rate", "policy_loss_variance", "advantage_magnitude", *VERSIONS)
EQUAL = 2**80  # mean squares of float32 numbers that are not all equal are less than so many times their variance
EXACT = 2**98  # how much of a total is surely kept (shared/scoreboard.py, exact_sum)


class Telemetry:
    """Compares the scoreboard with how it was one interval ago."""

    def __init__(self, scoreboard: Scoreboard):
        self._scoreboard = scoreboard
        self._time, self._seconds = time.monotonic(), 0.0
        self._before = self.rows = scoreboard.read()
        self._stale_before = self._stale = scoreboard.staleness_counts()

    def tick(self) -> None:
        """End an interval: what follows is about the time since the tick before."""
        now = time.monotonic()
        self._seconds, self._time = now - self._time, now
        self._before, self.rows = self.rows, self._scoreboard.read()
        self._stale_before, self._stale = self._stale, self._scoreboard.staleness_counts()

    def whole(self) -> None:
        """Let the interval be the whole training: what follows are averages over the run."""
        self._before, self._seconds = np.zeros_like(self.rows), self.train_seconds()
        self._stale_before = np.zeros_like(self._stale)

    def train_seconds(self) -> float:
        """From the first worker's first step to the latest update of any, and before the run was resumed."""
        started = self.rows["started"][self.rows["started"] > 0]
        present = max(0.0, float(self.rows["heartbeat"].max() - started.min())) if len(started) else 0.0
        return self._scoreboard.earlier_seconds + present

    def total(self, name: str) -> int:
        """The sum of a counter over workers, since the start."""
        return int(self.rows[name].sum())

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
        shares = {phase: self._sum(f"{phase}_seconds") / (running * self._seconds) for phase in PHASES}
        spent = max(1.0, sum(shares.values()))  # above 1 where a phase that began before the interval ended in it
        shares = {phase: share / spent for phase, share in shares.items()}
        return {**shares, "other": max(0.0, 1 - sum(shares.values()))}

    def profile(self) -> tuple[dict[str, float], ...]:
        """Seconds of every worker since its start: by phase, of CPU time, and by the clock on the wall."""
        return tuple(
            {name: round(float(row[f"{name}_seconds"]), 4) for name in (*PHASES, "cpu")}
            | {"wall": round(self._scoreboard.earlier_seconds + max(0.0, float(row["heartbeat"] - row["started"])), 4)}
            for row in self.rows
        )

    def advantage_magnitude(self) -> float | None:
        """Mean of |G_t - V(s_t)| over the interval's valid steps, or None where there was none."""
        steps = self._sum("learned_steps")
        return self._sum("error_magnitude_sum") / steps if steps else None

    def policy_loss_variance(self) -> float | None:
        """Variance of the interval's policy losses, an update each, or None where there was none."""
        if not (updates := self._sum("updates")):
            return None
        return max(0.0, self._sum("policy_loss_square") / updates - (self._sum("policy_loss") / updates) ** 2)

    def losses(self) -> Losses | None:
        """Means over the interval's updates, or None where there was none."""
        if not (updates := self._sum("updates")):
            return None
        means = {name: self._sum(name) / updates for name in LOSSES}
        rates = self.rows["learning_rate"][self.rows["updates"] > 0]
        return Losses(**means, explained_variance=self._explained_variance(), learning_rate=float(rates.min()))

    def staleness(self) -> Staleness | None:
        """Over all pushes since the start, or None before the first."""
        counts = self._stale.sum(0)
        if not counts.sum():
            return None
        p50, p95 = np.searchsorted(np.cumsum(counts) / counts.sum(), (0.5, 0.95)).tolist()
        return Staleness(_mean_of(counts), float(p50), float(p95), int(self.rows["staleness_max"].max()))

    def staleness_counts(self) -> list[int]:
        """Pushes since the start by their staleness, to the largest there was; the last bin counts all larger."""
        return list(map(int, np.trim_zeros(self._stale.sum(0), "b")))

    def worker(
        self, index: int, pid: int | None, state: str, memory_bytes: int | None, restarts: int, node: str = ""
    ) -> WorkerStatus:
        """One worker's row."""
        row, counts = self.rows[index], self._stale[index] - self._stale_before[index]
        return WorkerStatus(
            index,
            state,
            pid,
            **{name: int(row[name]) for name in ("env_steps", "updates", "episodes")},
            steps_per_second=self._rate(self._gained("env_steps")[index]),
            mean_return=None if math.isnan(row["mean_return"]) else float(row["mean_return"]),
            staleness=_mean_of(counts) if counts.sum() else None,
            cpu_percent=100 * self._rate(self._gained("cpu_seconds")[index]) if row["updates"] else None,
            memory_bytes=memory_bytes,
            restarts=restarts,
            node=node,
        )

    def _gained(self, name: str) -> NDArray[Any]:
        gained: NDArray[Any] = self.rows[name] - self._before[name]
        return gained

    def _sum(self, name: str) -> float:
        """What all workers have gained in the interval."""
        return float(self._gained(name).sum())

    def _rate(self, gained: Any) -> float:
        return float(gained) / self._seconds if self._seconds else 0.0

    def _explained_variance(self) -> float:
        """1 - Var(G - V) / Var(G) over the valid steps of the interval's updates."""
        steps = int(self._sum("learned_steps"))
        variance = self._variance("target", steps) if steps else None
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


def _mean_of(counts: NDArray[Any]) -> float:
    return float(counts @ np.arange(len(counts)) / counts.sum())


class UpdateLog:
    """A row per `interval` shared updates, written by worker 0 right after a push of its own.

    In `sync` that is each interval's last update exactly; where pushes are asynchronous it is worker 0's next. The
    rows of the other workers may be an update behind.
    """

    def __init__(self, path: Path, interval: int, store: SharedStore, scoreboard: Scoreboard):
        self._path, self._interval, self._store = path, interval, store
        self._telemetry, self._due, self._scoreboard = Telemetry(scoreboard), interval, scoreboard
        self._table: Table | None = None

    def write_due(self) -> None:
        """Write a row where one is due."""
        if (updates := self._store.updates) < self._due:
            return
        self._due = (updates // self._interval + 1) * self._interval
        telemetry = self._telemetry
        telemetry.tick()
        losses = telemetry.losses()
        row = {
            "updates": updates,
            "env_steps": telemetry.total("env_steps"),
            "seconds": round(telemetry.train_seconds(), 4),
            "episodes": telemetry.total("episodes"),
            "mean_return": telemetry.mean_return(),
            **{name: getattr(losses, name, None) for name in (*LOSSES, "learning_rate")},
            "policy_loss_variance": telemetry.policy_loss_variance(),
            "advantage_magnitude": telemetry.advantage_magnitude(),
            **self._scoreboard.versions(0),
        }
        with contextlib.suppress(OSError):  # training is worth more than its log
            self._table = self._table or open_table(self._path, COLUMNS)
            self._table.write(row)
