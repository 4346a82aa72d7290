"""The board: one row of running totals per worker, signs of life, and the request to stop."""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.memory import SharedArray
from shared.phases import PHASES

STALENESS_BINS = 256  # exact counts of 0, 1, 2, ... shared updates; the last bin holds all that is larger
PHASE_SECONDS = tuple(f"{phase}_seconds" for phase in PHASES)

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
)
LATEST = (  # which every update replaces
    "env_steps",
    "episodes",
    "return_sum",  # of all finished episodes
    "mean_return",  # of the last episodes; NaN before the first has ended
    *PHASE_SECONDS,
    "cpu_seconds",  # of the whole process since its start
    "learning_rate",
    "staleness_max",
    "started",  # time.monotonic() of the first step; 0 before
    "heartbeat",  # time.monotonic() of the last update; 0 before the first
)
ROW = np.dtype([(name, "f8") for name in (*SUMS, *LATEST)])  # one type, so that a row is written as one vector

DROPPED = ("observations", "rewards", "gradients", "episodes")  # see Board.count_dropped
TALLIES = ("rollbacks", "failed_saves", "monitor_restarts")
RUN, FINISH, STOP = 0, 1, 2  # go on; stop after a last evaluation; stop at once


class Board:
    """What the processes of a run tell each other; everybody may read everything at any time.

    Row i, and row i of the counts beside it, are written by worker i alone; totals are sums over rows, so no counter
    is raced. A read during a write may mix two consecutive states of one row, which costs a display one update's worth
    of error in it. A worker that is replaced leaves its rows to its successor, which goes on counting in them.
    Beats are written by the process they are a sign of, the last one by the monitor; incarnations and the request to
    stop by the supervisor; each tally by the one it belongs to.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._rows = SharedArray((workers,), ROW)
        self._rows.array["mean_return"] = np.nan
        self._staleness = SharedArray((workers, STALENESS_BINS), "int64")
        self._dropped = SharedArray((workers, len(DROPPED)), "int64")
        self._beats = SharedArray((workers + 1,), "int64")
        self._incarnations = SharedArray((workers,), "int64")
        self._tallies = SharedArray((len(TALLIES),), "int64")
        self._clock = SharedArray((2,), "float64")  # when the run began, and training seconds of earlier sittings
        self._clock.array[0] = time.time()
        self._stop = SharedArray((1,), "int64")

    def row(self, worker_index: int) -> NDArray[np.float64]:
        """A worker's row itself, for that worker to write: the values of SUMS and LATEST, in this order."""
        return self._rows.array[worker_index : worker_index + 1].view(np.float64)

    def count_staleness(self, worker_index: int, staleness: int) -> None:
        """Count one push of a worker."""
        self._staleness.numbers[worker_index, min(staleness, STALENESS_BINS - 1)] += 1

    def count_dropped(self, worker_index: int, what: str) -> None:
        """Count a rollout that a worker dropped because one of its observations, rewards or gradients was not finite;
        or, as "episodes", that it could not go on with the episodes of the run that was resumed.
        """
        self._dropped.array[worker_index, DROPPED.index(what)] += 1

    def read(self) -> NDArray[Any]:
        """A copy of all rows, [workers] of type ROW."""
        return self._rows.array.copy()

    def staleness_counts(self) -> NDArray[np.int64]:
        """A copy of how many pushes had which staleness, [workers, STALENESS_BINS]."""
        return self._staleness.array.copy()

    def dropped(self) -> dict[str, int]:
        """The counts of `count_dropped` by name."""
        return dict(zip(DROPPED, self._dropped.array.sum(0).tolist(), strict=True))

    # -- signs of life --------------------------------------------------------------------------------------------

    def beat(self, index: int) -> None:
        """A sign of life of worker `index`, or of the monitor where that is the number of workers."""
        self._beats.numbers[index] += 1

    def beats(self, index: int) -> int:
        """How many there have been: a process that adds none for long hangs."""
        return int(self._beats.numbers[index])

    def incarnation(self, worker_index: int) -> int:
        """How often the process of a worker has been replaced; the one that does not have this number is given up."""
        return int(self._incarnations.numbers[worker_index])

    def replace(self, worker_index: int) -> None:
        """Give up a worker's process: the next one has another incarnation."""
        self._incarnations.numbers[worker_index] += 1

    def worker_restarts(self) -> int:
        """How often a worker's process has been replaced."""
        return sum(self._incarnations.numbers)

    def tally(self, name: str) -> int:
        """How often one of TALLIES has happened."""
        return int(self._tallies.numbers[TALLIES.index(name)])

    def count(self, name: str) -> None:
        """Count one of TALLIES."""
        self._tallies.numbers[TALLIES.index(name)] += 1

    # -- time -----------------------------------------------------------------------------------------------------

    @property
    def began(self) -> float:
        """When the run was asked for, a time.time(); where it was resumed, so that the time between does not count."""
        return float(self._clock.array[0])

    @began.setter
    def began(self, moment: float) -> None:
        self._clock.array[0] = moment

    def training_seconds(self, now: float) -> float:
        """Seconds of training up to `now`, a time.monotonic(): since the first step, and in earlier sittings."""
        started = self._rows.array["started"]
        return self.earlier_seconds + (now - float(started[started > 0].min()) if started.any() else 0.0)

    @property
    def earlier_seconds(self) -> float:
        """Seconds of training in earlier sittings of a resumed run."""
        return float(self._clock.array[1])

    # -- stopping -------------------------------------------------------------------------------------------------

    def request(self, what: int) -> None:
        """Ask everybody to FINISH or to STOP (by the supervisor alone)."""
        self._stop.numbers[0] = what

    def requested(self) -> int:
        """What has been asked for: RUN where nothing has."""
        return int(self._stop.numbers[0])

    def stopping(self) -> bool:
        """Whether a stop at once has been asked for."""
        return self.requested() == STOP

    # -- resuming -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Everything counted so far, by name."""
        rows = self._rows.array.copy().view(np.float64).reshape(self.workers, -1)
        clock = [time.time() - self.began, self.training_seconds(time.monotonic())]
        return {
            "rows": torch.from_numpy(rows),
            "staleness": torch.from_numpy(self.staleness_counts()),
            "dropped": torch.from_numpy(self._dropped.array.copy()),
            "incarnations": torch.from_numpy(self._incarnations.array.copy()),
            "tallies": torch.from_numpy(self._tallies.array.copy()),
            "clock": torch.tensor(clock, dtype=torch.float64),
        }

    def worker_state(self, worker_index: int) -> dict[str, Any]:
        """What one worker has counted so far, as plain JSON."""
        row = [None if value != value else value for value in self.row(worker_index).tolist()]
        counts = np.trim_zeros(self._staleness.array[worker_index], "b").tolist()
        return {"row": row, "staleness": counts, "dropped": self._dropped.array[worker_index].tolist()}

    def restore_worker(self, worker_index: int, state: dict[str, Any]) -> None:
        """Go on counting from a worker's own state, which is of the same moment as the rest of what it told.

        Raises:
            KeyError, TypeError, ValueError: it is not such a state.
        """
        self.row(worker_index)[:] = [np.nan if value is None else value for value in state["row"]]
        self._rows.array["started"][worker_index] = self._rows.array["heartbeat"][worker_index] = 0.0
        self._staleness.array[worker_index] = 0
        self._staleness.array[worker_index, : len(state["staleness"])] = state["staleness"]
        self._dropped.array[worker_index] = state["dropped"]

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on counting from a `state`; where that is of more workers than there are now, worker 0 takes their totals.

        Raises:
            KeyError, ValueError: it is not a state of such a board.
        """
        rows = state["rows"].numpy().copy().view(ROW).reshape(-1)
        earlier = rows[self.workers :]
        for name in (*SUMS, *PHASE_SECONDS, "env_steps", "episodes", "return_sum", "cpu_seconds"):
            rows[name][0] += earlier[name].sum()
        rows["staleness_max"][0] = max(rows["staleness_max"][0], *earlier["staleness_max"], 0)
        rows["started"] = rows["heartbeat"] = 0.0
        kept = min(self.workers, len(rows))
        self._rows.array[:kept] = rows[:kept]
        for array, name in ((self._staleness, "staleness"), (self._dropped, "dropped"),
                            (self._incarnations, "incarnations")):  # fmt: skip
            fold(state[name].numpy(), array.array)
        self._tallies.array[:] = state["tallies"].numpy()
        elapsed, trained = state["clock"].tolist()
        self._clock.array[:] = time.time() - elapsed, trained


def fold(counts: NDArray[Any], into: NDArray[Any]) -> None:
    """Copy counts of some workers, [W, ...], to those of as many or fewer or more; worker 0 takes what is left over."""
    kept = min(len(counts), len(into))
    into[:kept] = counts[:kept]
    into[0] += counts[kept:].sum(0)
