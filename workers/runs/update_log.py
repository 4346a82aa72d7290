"""updates.csv: training told update by update, finer than the supervisor looks."""

import contextlib
from pathlib import Path
from typing import Any

from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from workers.runs.tables import Table
from workers.runs.telemetry import Telemetry

LOSSES = ("policy_loss", "value_loss", "entropy", "gradient_norm", "learning_rate")
COLUMNS = ("updates", "env_steps", "seconds", "episodes", "mean_return", *LOSSES, "policy_loss_variance",
           "advantage_magnitude")


class UpdateLog:
    """A row per `interval` shared updates, written by worker 0 right after a push of its own.

    In `sync` that is each interval's last update exactly; where pushes are asynchronous it is worker 0's next. The
    rows of the other workers may be an update behind.
    """

    def __init__(self, path: Path, interval: int, store: SharedStore, scoreboard: Scoreboard):
        self._path, self._interval, self._store, self._scoreboard = path, interval, store, scoreboard
        self._telemetry = Telemetry(scoreboard)
        self._due = interval
        self._table: Table | None = None

    def write_due(self) -> None:
        """Write a row where one is due."""
        updates = self._store.updates
        if updates < self._due:
            return
        self._due = (updates // self._interval + 1) * self._interval
        self._telemetry.tick()
        with contextlib.suppress(OSError):  # training is worth more than its log
            self._table = self._table or Table(self._path, list(COLUMNS))
            self._table.write(self._row(updates))

    def _row(self, updates: int) -> dict[str, Any]:
        telemetry = self._telemetry
        losses = telemetry.losses()
        return {
            "updates": updates,
            "env_steps": telemetry.total("env_steps"),
            "seconds": round(telemetry.train_seconds(), 4),
            "episodes": telemetry.total("episodes"),
            "mean_return": telemetry.mean_return(),
            **{name: getattr(losses, name, None) for name in LOSSES},
            "policy_loss_variance": telemetry.policy_loss_variance(),
            "advantage_magnitude": telemetry.advantage_magnitude(),
        }
