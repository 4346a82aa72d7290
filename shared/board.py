"""The board: one row of running totals per worker, and the request to stop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.memory import SharedArray

STALENESS_BINS = 256  # exact counts of 0, 1, 2, ... shared updates; the last bin holds all that is larger
PHASES = ("env", "forward", "backward", "pull", "push")

ROW = np.dtype(
    [
        ("env_steps", "i8"),
        ("updates", "i8"),
        ("episodes", "i8"),
        ("return_sum", "f8"),  # of all finished episodes
        ("mean_return", "f8"),  # of the last episodes; NaN before the first has ended
        ("policy_loss", "f8"),  # sums over updates, as are the next three
        ("value_loss", "f8"),
        ("entropy", "f8"),
        ("gradient_norm", "f8"),
        ("learning_rate", "f8"),  # of the last push
        ("target_sum", "f8"),  # sums over valid steps, from which explained variance follows
        ("target_square_sum", "f8"),
        ("error_sum", "f8"),
        ("error_square_sum", "f8"),
        ("staleness_max", "i8"),
        ("staleness_counts", "i8", (STALENESS_BINS,)),
        *[(f"{phase}_seconds", "f8") for phase in PHASES],
        ("started", "f8"),  # time.monotonic() of the first step; 0 before
        ("heartbeat", "f8"),  # time.monotonic() of the last update; 0 before the worker runs
    ],
    align=True,
)

SUPERVISOR, MONITOR = 0, 1  # who may ask for a stop
RUN, FINISH, STOP = 0, 1, 2  # go on; stop after a last evaluation; stop at once


class Board:
    """Rows of running totals that everybody may read at any time.

    Row i is written by worker i alone, whole, once per update; totals are sums over rows, so no counter is raced. A
    read during a write may mix two consecutive states of one row, which costs a display one update's worth of error.
    The two stop requests are written by the supervisor and by the monitor, one each.
    """

    def __init__(self, workers: int):
        self._rows = SharedArray((workers,), ROW)
        self._rows.array["mean_return"] = np.nan
        self._stop = SharedArray((2,), "int64")

    def publish(self, worker_index: int, row: NDArray[Any]) -> None:
        """Replace a worker's row by `row`, an array of shape [] and type ROW."""
        self._rows.array[worker_index] = row

    def read(self) -> NDArray[Any]:
        """A copy of all rows, [workers]."""
        return self._rows.array.copy()

    def env_steps(self) -> int:
        """Environment steps of all workers."""
        return int(self._rows.array["env_steps"].sum())

    def training_seconds(self, now: float) -> float:
        """Seconds from the first worker's first step to `now`, a time.monotonic(); 0.0 before."""
        started = self._rows.array["started"]
        return now - float(started[started > 0].min()) if started.any() else 0.0

    def request(self, who: int, what: int) -> None:
        """Ask everybody to FINISH or to STOP, as SUPERVISOR or as MONITOR."""
        self._stop.array[who] = what

    def requested(self) -> int:
        """The strongest request made: RUN where there is none."""
        return int(self._stop.array.max())
