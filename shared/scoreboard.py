"""The scoreboard: one row of running totals per worker, signs of life, and the request to stop."""

import time
from collections.abc import Iterable, Sequence
from math import fsum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared import PHASES
from shared.memory import SharedArray

STALENESS_BINS = 256  # exact counts of 0, 1, 2, ... shared updates; the last bin holds all that is larger
PHASE_SECONDS = tuple(f"{phase}_seconds" for phase in PHASES)

# The columns of a row. To these every update adds:
SUMS = ("updates", "policy_loss", "value_loss", "entropy", "gradient_norm", "policy_loss_square")
PAIRS = ("target_sum", "target_square_sum", "error_sum", "error_square_sum")  # from which explained variance follows
CRITIC = (  # totals over the valid steps of the rollouts learned from; of each pair a sum and what rounding left of it
    "learned_steps",
    "error_magnitude_sum",
    *(name + part for name in PAIRS for part in ("", "_low")),
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
COLUMNS = (*SUMS, *CRITIC, *LATEST)
ROW = np.dtype([(name, "f8") for name in COLUMNS])  # one type: a row is written as vectors
ADDED = (*SUMS, *CRITIC[:2], *PHASE_SECONDS, "env_steps", "episodes", "return_sum", "cpu_seconds")  # beside the pairs
LARGE = 1e300  # larger than any total can become, and small enough to add up
READS = 5  # of rows that change all the time

DROPPED = ("observations", "rewards", "gradients", "episodes", "stale_gradients")  # see Scoreboard.count_dropped
VERSIONS = ("behavior_version", "learner_version")  # of a worker's last rollout: updates made when each was pulled
FAULTS = ("rollbacks", "failed_saves", "monitor_restarts", "failed_evaluations", "checkpointer_restarts")
# Train; stop after a last evaluation; stop at once; save what there is, for all others have ended.
RUN, FINISH, STOP, CLOSE = 0, 1, 2, 3


class Scoreboard:
    """What the processes of a run know of each other; all may read everything at any time.

    Row i, and row i of the counts beside it, are written by worker i alone; totals are sums over rows, so no counter
    is raced. A read during a write may mix two consecutive states of one row, which costs a display one update's worth
    of error in it. A worker that is replaced leaves its rows to its successor, which continues them. Beats are written
    by the process they are a sign of, the last ones by monitor, checkpointer and a cluster's gate; incarnations, the
    request to stop and that to save by the supervisor; each count of faults by the process that notices them.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self.monitor, self.checkpointer, self.gate = range(workers, workers + 3)  # the indices of their beats
        # When the run was asked for, a time.monotonic() (of a resumed run without the time between its sittings), and
        # seconds of training in earlier sittings. Both are set before any process is started.
        self.began, self.earlier_seconds = time.monotonic(), 0.0
        self._rows = SharedArray((workers,), ROW)
        self._rows.array["mean_return"] = np.nan
        self._staleness = SharedArray((workers, STALENESS_BINS))
        self._dropped = SharedArray((workers, len(DROPPED)))
        self._versions = SharedArray((workers, len(VERSIONS)))
        self._incarnations = SharedArray((workers,))
        self._faults = SharedArray((len(FAULTS),))
        self._counts = {  # by their names in a checkpoint
            "staleness": self._staleness,
            "dropped": self._dropped,
            "incarnations": self._incarnations,
            "tallies": self._faults,
        }
        self._beats, self._learning = SharedArray((workers + 3,)), SharedArray((workers,))
        self._requests = SharedArray((2,))  # to stop: one of RUN to CLOSE; checkpoints asked for

    # -- counting -------------------------------------------------------------------------------------------------

    def row(self, worker_index: int) -> NDArray[np.float64]:
        """A worker's row itself, for that worker to write: the values of SUMS, CRITIC and LATEST, in this order."""
        return self._rows.array[worker_index : worker_index + 1].view(np.float64)

    def count_staleness(self, worker_index: int, staleness: int) -> None:
        self._staleness.numbers[worker_index, min(staleness, STALENESS_BINS - 1)] += 1

    def note_versions(self, worker_index: int, acted: int, learned: int) -> None:
        """Note with which versions of the shared parameters a worker's last rollout was collected, and learned from."""
        self._versions.numbers[worker_index, 0] = acted
        self._versions.numbers[worker_index, 1] = learned

    def versions(self, worker_index: int) -> dict[str, int]:
        """What was noted of a worker's last rollout, by the names of VERSIONS."""
        return dict(zip(VERSIONS, self._versions.array[worker_index].tolist(), strict=True))

    def count_dropped(self, worker_index: int, what: str) -> None:
        """Count a rollout of which something was not finite, or a gradient that was too old; as "episodes", that those
        of a resumed run were not continued.
        """
        self._dropped.numbers[worker_index, DROPPED.index(what)] += 1

    def count(self, fault: str) -> None:
        self._faults.numbers[FAULTS.index(fault)] += 1

    def replace(self, worker_index: int) -> None:
        """Count that a worker's process is replaced: the next one has another incarnation."""
        self._incarnations.numbers[worker_index] += 1

    def beat(self, index: int) -> None:
        """A sign of life of worker `index`, of the `monitor` or the `checkpointer`."""
        self._beats.numbers[index] += 1

    def set_learning(self, worker_index: int, learning: bool) -> None:
        """Note whether a worker computes gradients, and no environment can be what it waits for."""
        self._learning.numbers[worker_index] = learning

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self) -> NDArray[Any]:
        """A copy of all rows, [workers] of type ROW; read again where two reads differ, for a row was being written."""
        rows: NDArray[Any] = self._rows.array.copy()
        for _ in range(READS):
            before, rows = rows, self._rows.array.copy()
            if before.tobytes() == rows.tobytes():
                break
        return rows

    def staleness_counts(self) -> NDArray[np.int64]:
        """A copy of how many pushes had which staleness, [workers, STALENESS_BINS]."""
        return self._staleness.array.copy()

    def faults(self) -> dict[str, int]:
        """How often each of DROPPED and FAULTS has happened, and a worker's process has been replaced."""
        counts = [*self._dropped.array.sum(0).tolist(), *self._faults.numbers, sum(self._incarnations.numbers)]
        return dict(zip((*DROPPED, *FAULTS, "worker_restarts"), counts, strict=True))

    def incarnation(self, worker_index: int) -> int:
        """How often the process of a worker has been replaced; one that has another number is no longer the worker."""
        return int(self._incarnations.numbers[worker_index])

    def beats(self, index: int) -> int:
        """How many signs of life there have been: a process that adds none for long hangs."""
        return int(self._beats.numbers[index])

    def is_learning(self, worker_index: int) -> bool:
        return bool(self._learning.numbers[worker_index])

    def training_seconds(self, now: float) -> float:
        """Seconds of training up to `now`, a time.monotonic(): since the first step, and in earlier sittings."""
        started = min((moment for moment in self._rows.array["started"].tolist() if moment), default=now)
        return self.earlier_seconds + (now - started)

    # -- requests, by the supervisor alone ------------------------------------------------------------------------

    def request(self, what: int) -> None:
        """Ask all to FINISH, to STOP or to CLOSE."""
        self._requests.numbers[0] = what

    def requested(self) -> int:
        """What has been asked for: RUN where nothing has."""
        return int(self._requests.numbers[0])

    def stopping(self) -> bool:
        return self.requested() >= STOP

    def request_save(self) -> None:
        self._requests.numbers[1] += 1

    def saves_requested(self) -> int:
        return int(self._requests.numbers[1])

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Everything counted so far, by name."""
        now = time.monotonic()
        arrays = {name: counts.array for name, counts in self._counts.items()} | {
            "rows": self._rows.array.view(np.float64).reshape(self.workers, -1),
            "clock": np.array([now - self.began, self.training_seconds(now)]),
        }
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue a `state`; of more workers than there are now, worker 0 takes the totals.

        Raises KeyError or ValueError where it is none.
        """
        rows = _rows_of(state["rows"].numpy())
        earlier = rows[self.workers :]
        for name in ADDED:
            rows[name][0] += earlier[name].sum()
        for name, low in ((name, f"{name}_low") for name in PAIRS if len(earlier)):
            rows[name][0], rows[low][0] = exact_sum((rows[name][0], rows[low][0], *earlier[name], *earlier[low]))
        rows["staleness_max"][0] = max(rows["staleness_max"][0], *earlier["staleness_max"], 0)
        self._rows.array[: len(rows)] = rows[: self.workers]
        for name, counts in self._counts.items():
            fold(_with_all_columns(state[name].numpy(), name), counts.array)
        elapsed, trained = state["clock"].tolist()
        self.began, self.earlier_seconds = time.monotonic() - elapsed, trained

    def worker_state(self, worker_index: int) -> dict[str, NDArray[Any]]:
        """What one worker has counted so far."""
        counts = {name: self._counts[name].array[worker_index].copy() for name in ("staleness", "dropped")}
        return {"row": self.row(worker_index).copy(), **counts}

    def follow_worker(
        self, worker_index: int, state: dict[str, NDArray[Any]], versions: Sequence[int], seconds: float
    ) -> None:
        """Take over what a worker of another machine has counted, whose clock is so many seconds behind this one's."""
        row = state["row"].copy().view(ROW)
        for name in ("started", "heartbeat"):
            row[name] += seconds * (row[name] > 0)
        self._rows.array[worker_index] = row[0]
        self._staleness.array[worker_index], self._dropped.array[worker_index] = state["staleness"], state["dropped"]
        self._versions.array[worker_index] = versions

    def restore_worker(self, worker_index: int, state: dict[str, Any]) -> None:
        """Continue a worker's own state; raises KeyError, TypeError or ValueError where it is none."""
        self._rows.array[worker_index] = _rows_of(np.array([state["row"]], np.float64))[0]
        self._staleness.array[worker_index] = 0
        self._staleness.array[worker_index, : len(state["staleness"])] = state["staleness"]
        self._dropped.array[worker_index] = _with_all_columns(np.array([state["dropped"]]), "dropped")[0]


def exact_sum(numbers: Iterable[float]) -> tuple[float, float]:
    """The sum of numbers as a pair, rounded and what rounding has left of it: together good for 31 digits."""
    numbers = tuple(numbers)
    high = fsum(numbers)
    return high, fsum((*numbers, -high))


def add_moments(totals: list[float], moments: Sequence[Any]) -> list[float]:
    """The values of CRITIC after one more rollout: its steps, error magnitudes, and numbers to add to each of PAIRS."""
    steps, magnitude, a, a_low, b, b_low, c, c_low, d, d_low = totals  # written out: this is done in every update
    more, more_magnitude, to_a, to_b, to_c, to_d = moments
    new_a, new_b = fsum((a, a_low, *to_a)), fsum((b, b_low, *to_b))
    new_c, new_d = fsum((c, c_low, *to_c)), fsum((d, d_low, *to_d))
    low_a, low_b = fsum((a, a_low, *to_a, -new_a)), fsum((b, b_low, *to_b, -new_b))
    low_c, low_d = fsum((c, c_low, *to_c, -new_c)), fsum((d, d_low, *to_d, -new_d))
    return [steps + more, magnitude + more_magnitude, new_a, low_a, new_b, low_b, new_c, low_c, new_d, low_d]


def fold(counts: NDArray[Any], into: NDArray[Any]) -> None:
    """Copy counts of some workers, [W, ...], to those of as many or fewer or more; worker 0 takes what is left over."""
    kept = min(len(counts), len(into))
    into[:kept] = counts[:kept]
    into[0] += counts[kept:].sum(0)


def _with_all_columns(counts: NDArray[Any], name: str) -> NDArray[Any]:
    """Counts of some workers, [W, ...]; an earlier version did not have the last of what is dropped."""
    is_earlier = name == "dropped" and counts.shape[1:] == (len(DROPPED) - 1,)
    return np.pad(counts, ((0, 0), (0, 1))) if is_earlier else counts


def _rows_of(values: NDArray[np.float64]) -> NDArray[Any]:
    """A copy of stored rows, [W, columns], as [W] of type ROW; raises ValueError where they are none, or not finite."""
    if values.shape[1:] == (len(COLUMNS) - 1,):  # of an earlier version, which knew no network
        values = np.insert(values, COLUMNS.index("network_seconds"), 0.0, 1)
    rows = values.copy().view(ROW).reshape(len(values))
    if not all((np.abs(rows[name]) < LARGE).all() for name in CRITIC):
        raise ValueError("rows that are not finite")
    rows["started"] = rows["heartbeat"] = 0.0  # moments of an earlier sitting
    return rows
