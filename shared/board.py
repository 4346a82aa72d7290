"""The board: one row of running totals per worker, and the request to stop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.memory import SharedArray

STALENESS_BINS = 256  # exact counts of 0, 1, 2, ... shared updates; the last bin holds all that is larger
PHASES = ("env", "forward", "backward", "pull", "push")

SUMS = (  # to which every update adds
    "updates",
    "policy_loss",
    "value_loss",
    "entropy",
    "gradient_norm",
    "policy_loss_square",
    "target_sum",  # over valid steps, as are the next four, from which explained variance follows
    "target_square_sum",
    "error_sum",
    "error_square_sum",
    "error_magnitude_sum",
    "pull_seconds",
    "backward_seconds",
    "push_seconds",
)
LATEST = (  # which every update replaces
    "env_steps",
    "episodes",
    "return_sum",  # of all finished episodes
    "mean_return",  # of the last episodes; NaN before the first has ended
    "env_seconds",
    "forward_seconds",
    "cpu_seconds",  # of the whole process since its start
    "learning_rate",
    "staleness_max",
    "started",  # time.monotonic() of the first step; 0 before
    "heartbeat",  # time.monotonic() of the last update; 0 before the first
)
ROW = np.dtype([(name, "f8") for name in (*SUMS, *LATEST)])  # one type, so that a row is written as one vector

SUPERVISOR, MONITOR = 0, 1  # who may ask for a stop
RUN, FINISH, STOP = 0, 1, 2  # go on; stop after a last evaluation; stop at once


class Board:
    """Rows of running totals that everybody may read at any time.

    Row i, and row i of the staleness counts, are written by worker i alone, once per update; totals are sums over rows,
    so no counter is raced. A read during a write may mix two consecutive states of one row, which costs a display one
    update's worth of error in it. The two stop requests are written by the supervisor and by the monitor, one each.
    """

    def __init__(self, workers: int):
        self._rows = SharedArray((workers,), ROW)
        self._rows.array["mean_return"] = np.nan
        self._staleness = SharedArray((workers, STALENESS_BINS), "int64")
        self._stop = SharedArray((2,), "int64")

    def row(self, worker_index: int) -> NDArray[np.float64]:
        """A worker's row itself, for that worker to write: the values of SUMS and LATEST, in this order."""
        return self._rows.array[worker_index : worker_index + 1].view(np.float64)

    def count_staleness(self, worker_index: int, staleness: int) -> None:
        """Count one push of a worker."""
        self._staleness.array[worker_index, min(staleness, STALENESS_BINS - 1)] += 1

    def read(self) -> NDArray[Any]:
        """A copy of all rows, [workers] of type ROW."""
        return self._rows.array.copy()

    def staleness_counts(self) -> NDArray[np.int64]:
        """A copy of how many pushes had which staleness, [workers, STALENESS_BINS]."""
        return self._staleness.array.copy()

    def training_seconds(self, now: float) -> float:
        """Seconds from the first worker's first step to `now`, a time.monotonic(); 0.0 before."""
        started = self._rows.array["started"]
        return now - float(started[started > 0].min()) if started.any() else 0.0

    def request(self, who: int, what: int) -> None:
        """Ask everybody to FINISH or to STOP, as SUPERVISOR or as MONITOR."""
        self._stop.array[who] = what

    def stopping(self) -> bool:
        """Whether anybody has asked for a stop at once."""
        return self.requested() == STOP

    def requested_by(self, who: int) -> int:
        """What the SUPERVISOR, or the MONITOR, has requested."""
        return int(self._stop.array[who])

    def requested(self) -> int:
        """The strongest request made: RUN where there is none."""
        return int(max(self._stop.array.tolist()))
