"""The scoreboard: one row of running totals per worker, signs of life, and the request to stop."""

import time
from collections.abc import Sequence
from math import fsum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.exact import exact_sum
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
)
PAIRS = ("target_sum", "target_square_sum", "error_sum", "error_square_sum")  # from which explained variance follows
CRITIC = (  # totals over the valid steps of the rollouts learned from
    "learned_steps",
    "error_magnitude_sum",
    *(name + part for name in PAIRS for part in ("", "_low")),  # see shared/exact.py
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
    "started",  # time.monotonic() of the first step, which is later than boot and so above 0; 0 before
    "heartbeat",  # time.monotonic() of the last update; 0 before the first
)
ROW = np.dtype([(name, "f8") for name in (*SUMS, *CRITIC, *LATEST)])  # one type: a row is written as vectors
FORMER = (*SUMS, *PAIRS, "error_magnitude_sum", *LATEST)  # a row's columns in older checkpoints
LARGE = 1e300  # larger than any total can become, and small enough to add up

DROPPED = ("observations", "rewards", "gradients", "episodes")  # see Scoreboard.count_dropped
TALLIES = ("rollbacks", "failed_saves", "monitor_restarts", "failed_evaluations", "checkpointer_restarts")
# Train; stop after a last evaluation; stop at once; save what there is, for all others have ended.
RUN, FINISH, STOP, CLOSE = 0, 1, 2, 3
LOOKS = 5  # at rows that change all the time


def add_moments(totals: list[float], moments: Sequence[Any]) -> list[float]:
    """The values of CRITIC after one more rollout.

    Args:
        moments: its steps and its sum of error magnitudes; for each of PAIRS numbers whose sum is to be added exactly.
    """
    steps, magnitude, a, a_low, b, b_low, c, c_low, d, d_low = totals  # written out: this is done in every update
    more, more_magnitude, to_a, to_b, to_c, to_d = moments
    new_a, new_b = fsum((a, a_low, *to_a)), fsum((b, b_low, *to_b))
    new_c, new_d = fsum((c, c_low, *to_c)), fsum((d, d_low, *to_d))
    return [
        steps + more,
        magnitude + more_magnitude,
        new_a,
        fsum((a, a_low, *to_a, -new_a)),
        new_b,
        fsum((b, b_low, *to_b, -new_b)),
        new_c,
        fsum((c, c_low, *to_c, -new_c)),
        new_d,
        fsum((d, d_low, *to_d, -new_d)),
    ]


class Scoreboard:
    """What the processes of a run tell each other; everybody may read everything at any time.

    Row i, and row i of the counts beside it, are written by worker i alone; totals are sums over rows, so no counter
    is raced. A read during a write may mix two consecutive states of one row, which costs a display one update's worth
    of error in it. A worker that is replaced leaves its rows to its successor, which goes on counting in them.
    Beats are written by the process they are a sign of, the last two by the monitor and the checkpointer; incarnations,
    the request to stop and that to save by the supervisor; each tally by the one it belongs to.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._rows = SharedArray((workers,), ROW)
        self._rows.array["mean_return"] = np.nan
        self._staleness = SharedArray((workers, STALENESS_BINS), "int64")
        self._dropped = SharedArray((workers, len(DROPPED)), "int64")
        self._beats = SharedArray((workers + 2,), "int64")
        self._learning = SharedArray((workers,), "int64")
        self._incarnations = SharedArray((workers,), "int64")
        self._tallies = SharedArray((len(TALLIES),), "int64")
        self._clock = SharedArray((2,), "float64")  # when the run began, and training seconds of earlier sittings
        self._clock.array[0] = time.monotonic()
        self._stop = SharedArray((1,), "int64")
        self._saves_wanted = SharedArray((1,), "int64")

    def row(self, worker_index: int) -> NDArray[np.float64]:
        """A worker's row itself, for that worker to write: the values of SUMS, CRITIC and LATEST, in this order."""
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
        """A copy of all rows, [workers] of type ROW; where two looks differ, a row was being written: look again."""
        rows: NDArray[Any] = self._rows.array.copy()
        for _ in range(LOOKS):
            before, rows = rows, self._rows.array.copy()
            if before.tobytes() == rows.tobytes():
                break
        return rows

    def staleness_counts(self) -> NDArray[np.int64]:
        """A copy of how many pushes had which staleness, [workers, STALENESS_BINS]."""
        return self._staleness.array.copy()

    def dropped(self) -> dict[str, int]:
        """The counts of `count_dropped` by name."""
        return dict(zip(DROPPED, self._dropped.array.sum(0).tolist(), strict=True))

    # -- signs of life --------------------------------------------------------------------------------------------

    @property
    def monitor(self) -> int:
        """The index of the monitor's beats."""
        return self.workers

    @property
    def checkpointer(self) -> int:
        """The index of the checkpointer's beats."""
        return self.workers + 1

    def beat(self, index: int) -> None:
        """A sign of life of worker `index`, of the `monitor` or the `checkpointer`."""
        self._beats.numbers[index] += 1

    def beats(self, index: int) -> int:
        """How many there have been: a process that adds none for long hangs."""
        return int(self._beats.numbers[index])

    def set_learning(self, worker_index: int, learning: bool) -> None:
        """Say whether a worker computes gradients, and no environment can be what it waits for."""
        self._learning.numbers[worker_index] = learning

    def is_learning(self, worker_index: int) -> bool:
        """Whether a worker computes gradients."""
        return bool(self._learning.numbers[worker_index])

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
        """When the run was asked for, a time.monotonic(); of a resumed run, without the time between its sittings."""
        return float(self._clock.array[0])

    @began.setter
    def began(self, moment: float) -> None:
        self._clock.array[0] = moment

    def training_seconds(self, now: float) -> float:
        """Seconds of training up to `now`, a time.monotonic(): since the first step, and in earlier sittings."""
        started = self._rows.array["started"]
        started = started[started > 0]
        return self.earlier_seconds + (now - float(started.min()) if len(started) else 0.0)

    @property
    def earlier_seconds(self) -> float:
        """Seconds of training in earlier sittings of a resumed run."""
        return float(self._clock.array[1])

    # -- requests -------------------------------------------------------------------------------------------------

    def request_save(self) -> None:
        """Ask for a checkpoint now (by the supervisor alone)."""
        self._saves_wanted.numbers[0] += 1

    def saves_requested(self) -> int:
        """How often a checkpoint has been asked for."""
        return int(self._saves_wanted.numbers[0])

    def request(self, what: int) -> None:
        """Ask everybody to FINISH, to STOP or to CLOSE (by the supervisor alone)."""
        self._stop.numbers[0] = what

    def requested(self) -> int:
        """What has been asked for: RUN where nothing has."""
        return int(self._stop.numbers[0])

    def stopping(self) -> bool:
        """Whether a stop at once has been asked for."""
        return self.requested() >= STOP

    # -- resuming -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Everything counted so far, by name."""
        rows = self._rows.array.copy().view(np.float64).reshape(self.workers, -1)
        clock = [time.monotonic() - self.began, self.training_seconds(time.monotonic())]
        return {
            "rows": torch.from_numpy(rows),
            "staleness": torch.from_numpy(self.staleness_counts()),
            "dropped": torch.from_numpy(self._dropped.array.copy()),
            "incarnations": torch.from_numpy(self._incarnations.array.copy()),
            "tallies": torch.from_numpy(self._tallies.array.copy()),
            "clock": torch.tensor(clock, dtype=torch.float64, device="cpu"),
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
        row = np.array([[np.nan if value is None else value for value in state["row"]]])
        self._rows.array[worker_index] = _rows_of(row)[0]
        self._rows.array["started"][worker_index] = self._rows.array["heartbeat"][worker_index] = 0.0
        self._staleness.array[worker_index] = 0
        self._staleness.array[worker_index, : len(state["staleness"])] = state["staleness"]
        self._dropped.array[worker_index] = state["dropped"]

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on counting from a `state`; where that is of more workers than there are now, worker 0 takes their totals.

        Raises:
            KeyError, ValueError: it is not a state of such a scoreboard.
        """
        rows = _rows_of(state["rows"].numpy())
        earlier = rows[self.workers :]
        for name in (*SUMS, *CRITIC[:2], *PHASE_SECONDS, "env_steps", "episodes", "return_sum", "cpu_seconds"):
            rows[name][0] += earlier[name].sum()
        for name in PAIRS if len(earlier) else ():
            low = f"{name}_low"
            parts = (rows[name][0], rows[low][0], *earlier[name], *earlier[low])
            rows[name][0], rows[low][0] = exact_sum(parts)
        rows["staleness_max"][0] = max(rows["staleness_max"][0], *earlier["staleness_max"], 0)
        rows["started"] = rows["heartbeat"] = 0.0
        kept = min(self.workers, len(rows))
        self._rows.array[:kept] = rows[:kept]
        for array, name in (
            (self._staleness, "staleness"),
            (self._dropped, "dropped"),
            (self._incarnations, "incarnations"),
        ):
            fold(state[name].numpy(), array.array)
        tallies = state["tallies"].numpy()  # of an older version: fewer
        self._tallies.array[: len(tallies)] = tallies
        elapsed, trained = state["clock"].tolist()
        self._clock.array[:] = time.monotonic() - elapsed, trained


def _rows_of(values: NDArray[np.float64]) -> NDArray[Any]:
    """A copy of stored rows, [W, columns], as rows of today, [W] of type ROW.

    Raises:
        ValueError: they are no rows, or what is added to exactly is not finite.
    """
    if values.shape[-1] == len(FORMER):
        rows = np.zeros(len(values), ROW)
        for name, column in zip(FORMER, values.T, strict=True):
            rows[name] = column
        rows["learned_steps"] = rows["env_steps"]
    else:
        rows = values.copy().view(ROW).reshape(len(values))
    if not all((np.abs(rows[name]) < LARGE).all() for name in CRITIC):
        raise ValueError("rows that are not finite")
    return rows


def fold(counts: NDArray[Any], into: NDArray[Any]) -> None:
    """Copy counts of some workers, [W, ...], to those of as many or fewer or more; worker 0 takes what is left over."""
    kept = min(len(counts), len(into))
    into[:kept] = counts[:kept]
    into[0] += counts[kept:].sum(0)
