"""The parameter store: what a worker pulls from and pushes to. The one seam at which the modes differ."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.checkpoint_barrier import CheckpointBarrier
from shared.memory import Notifier, SharedArray
from shared.optimizers import SLOW, SharedOptimizer
from shared.scoreboard import RUN, Scoreboard, fold

if TYPE_CHECKING:
    from shared.statistics import SharedStatistics

COPY_SECONDS = 0.25  # for a moment at which nobody pushes; a pusher may be off its core for a while
COPY_PAUSE = 1e-4  # between two attempts, so that it may have ours
WAIT_SECONDS = 0.05  # between two checks whether the run is being stopped
GRACE_SECONDS = 2.0  # for what is waited for to come when the run is being stopped


class StaleGradientError(Exception):
    """A gradient that is older than the run allows: it was not applied."""


class Pulled(NamedTuple):
    """How far training had come when a worker pulled."""

    updates: int  # shared optimizer steps, by anyone
    env_steps: int  # of all workers, as of their last pushes
    torn: bool = False  # a push was under way meanwhile: the copy may mix two generations
    stopped: bool = False  # the run is being ended: do no more


class Snapshot(NamedTuple):
    """A copy of the shared parameters."""

    parameters: Tensor  # [P], the reader's own
    updates: int  # shared optimizer steps it contains
    env_steps: int  # of all workers
    taken: float  # time.monotonic()
    consistent: bool  # no step was under way while it was copied; else up to one step per worker is there in part


class Capture(NamedTuple):
    """A copy of everything in a store, for `SharedStore.restore`."""

    snapshot: Snapshot
    tensors: dict[str, Tensor]


class SharedStore:
    """Shared parameters, stepped without a lock by every worker that pushes (`--mode async`, Hogwild).

    Written by every worker at once: the parameters and the optimizer's moments. A pull that overlaps another worker's
    push copies some elements from before and some from after it; Hogwild tolerates that (docs/decisions/0002).
    Written by one worker each: its counters of pushes begun and done, of environment steps, and of the pushes and pulls
    that met another worker's push. Their sums are the totals: no increment is lost, and a push under way shows.
    """

    queues = False  # whether the snapshots to evaluate are kept until they have been evaluated
    incarnation = 0  # of the worker whose process this is: how many came before it
    max_staleness = math.inf  # of a gradient that is applied
    waited = 0.0  # seconds in which this process waited for others, since it was last set to 0
    waits_in = "idle"  # the phase that these belong to
    _notifiers: Sequence[Notifier] = ()  # of workers, where they wait for each other

    def __init__(
        self,
        initial: Tensor,
        optimizer: SharedOptimizer,
        scoreboard: Scoreboard,
        statistics: "SharedStatistics | None" = None,
    ):
        self.optimizer, self._scoreboard, self.statistics = optimizer, scoreboard, statistics
        self._parameters = SharedArray(tuple(initial.shape), "float32")
        self._parameters.array[:] = initial.detach().numpy()
        self._begun, *counters = (SharedArray((scoreboard.workers,)) for _ in range(5))
        self._counters = self._done, self._env_steps, self._overlapped, self._torn = tuple(counters)
        self.barrier = CheckpointBarrier(scoreboard.workers, led=self.queues)

    @property
    def nbytes(self) -> int:
        """Of the parameters and the optimizer's moments."""
        arrays = (self._parameters, *self.optimizer.moments.values())
        return sum(shared.array.nbytes for shared in arrays)

    def pull_again(self, into: Tensor) -> Pulled:
        """As `pull`, between two minibatches of a rollout: its statistics stay what they were when it was collected."""
        if self.statistics is None:
            return self.pull(into)
        kept = into.numpy()[self.statistics.place].copy()
        pulled = self.pull(into)
        into.numpy()[self.statistics.place] = kept
        return pulled

    def pull(self, into: Tensor) -> Pulled:
        """Copy the shared parameters into [P]; return how far training had come just before."""
        updates, env_steps = self.updates, self.env_steps
        np.copyto(into.numpy(), self._parameters.array)
        self._fill(into)
        return Pulled(updates, env_steps, sum(self._begun.numbers) > updates, self._stopped())

    def pull_slow(self, into: Tensor, pulled: Tensor) -> None:
        """Copy the optimizer's slow copy of the parameters into [P], with the statistics that were just `pulled`."""
        np.copyto(into.numpy(), self.optimizer.moments[SLOW].array)
        if self.statistics is not None:
            into.numpy()[self.statistics.place] = pulled.numpy()[self.statistics.place]

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Step the shared optimizer along a gradient [P] that was computed at the pull which returned `pulled`.

        Args:
            env_steps: this worker's environment steps so far.
        Returns: the staleness, updates made by anyone between that pull and this push; None where the step was not
            made because the run is being stopped, or because this process has been replaced.
        Raises StaleGradientError: it is above `max_staleness`, and the step was not made.
        """
        if self._is_replaced(worker_index):
            return None
        before = self.updates
        if before - pulled.updates > self.max_staleness:
            self._env_steps.numbers[worker_index] = env_steps
            raise StaleGradientError
        self._begun.numbers[worker_index] += 1
        self.optimizer.step(self.parameters, gradient, learning_rate, before + 1)
        self._env_steps.numbers[worker_index] = env_steps
        self._overlapped.numbers[worker_index] += sum(self._begun.numbers) > before + 1
        self._torn.numbers[worker_index] += pulled.torn
        self._done.numbers[worker_index] += 1
        return before - pulled.updates

    def first(self, pulled: Pulled, minibatches: int) -> int:
        """The minibatch of its rollout that a worker begins with, after a pull."""
        return 0

    def _fill(self, parameters: Tensor) -> None:
        """Write the statistics of all workers where they lie in a copy of the parameters [P]: at its end."""
        if self.statistics is not None:
            self.statistics.write_into(parameters.numpy())

    @property
    def enqueuing(self) -> bool:
        """Whether a snapshot is to be queued before anybody begins another rollout."""
        return False

    def replace(self, worker_index: int) -> None:
        """Make room for a worker's successor: nobody waits for a push of the dead one, and its episodes are gone."""
        self.close_push(worker_index)
        self.barrier.forget(worker_index)
        self._scoreboard.replace(worker_index)

    def close_push(self, worker_index: int) -> None:
        """Close the push in the middle of which a worker has died, if it has: it does not count as a step."""
        self._begun.numbers[worker_index] = self._done.numbers[worker_index]

    def _stopped(self) -> bool:
        return self._scoreboard.requested() != RUN

    def _wait(self, worker_index: int, condition: Callable[[], bool]) -> bool:
        """Until a condition holds; False where the run is stopped, or this process replaced, before it does."""
        deadline: float | None = None
        began = time.perf_counter()
        while not condition():
            if self._scoreboard.stopping():
                deadline = deadline or time.monotonic() + GRACE_SECONDS
            if self._is_replaced(worker_index) or (deadline is not None and time.monotonic() > deadline):
                return False
            self._scoreboard.beat(worker_index)
            self._notifiers[worker_index].wait(WAIT_SECONDS)
        self.waited += time.perf_counter() - began
        return True

    def _is_replaced(self, worker_index: int) -> bool:
        return self._scoreboard.incarnation(worker_index) != self.incarnation

    # -- progress -------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Tensor:
        """The shared vector itself, [P]."""
        return self._parameters.tensor

    @property
    def updates(self) -> int:
        """Optimizer steps made so far, by anyone."""
        return sum(self._done.numbers)

    @property
    def env_steps(self) -> int:
        """Environment steps of all workers, as of their last pushes."""
        return sum(self._env_steps.numbers)

    def env_steps_of(self, worker_index: int) -> int:
        """Environment steps of one worker, as of its last push."""
        return int(self._env_steps.numbers[worker_index])

    @property
    def overlapped_pushes(self) -> int:
        """Pushes during which another push was under way: no others can have lost an element."""
        return sum(self._overlapped.numbers)

    @property
    def torn_pulls(self) -> int:
        """Pulls during which a push was under way, as of the pushes that followed them."""
        return sum(self._torn.numbers)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def enqueue_due(self, worker_index: int, meanwhile: Callable[[], None]) -> None:
        """Before a rollout: queue the snapshot that is due, where they are queued; `meanwhile` is called in a wait."""

    def snapshot(self) -> Snapshot:
        """A copy during which nobody pushed; where no such moment comes for long, one marked as not consistent."""
        return self._copy({"parameters": self.parameters}).snapshot

    def next_snapshot(self, env_steps: int) -> Snapshot | None:
        """The next snapshot to evaluate, once training has come to `env_steps` and made an update; None before."""
        return self.snapshot() if self.env_steps >= env_steps and self.updates else None

    @property
    def queue_is_full(self) -> bool:
        """Whether training waits until a snapshot is released."""
        return False

    def release(self, evaluated: int) -> None:
        """Drop the snapshots before number `evaluated`: they have been evaluated, or never will be."""

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def vectors(self) -> dict[str, Tensor]:
        """The shared parameters and moments themselves, by name, [P] each."""
        moments = {f"moment.{name}": moment.tensor for name, moment in self.optimizer.moments.items()}
        return {"parameters": self.parameters, **moments}

    def sha256(self) -> str:
        """Digest of the parameters and the optimizer's moments: equal where two runs have come to the same bit."""
        return hashlib.sha256(b"".join(vector.numpy().tobytes() for vector in self.vectors().values())).hexdigest()

    def capture(self, evaluated: Callable[[], int] = lambda: 0) -> Capture:
        """A copy of everything here, and of the queue but for its first snapshots, so many as are `evaluated`."""
        return self._copy(self.vectors())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Resume from a capture's tensors; of more workers than there are now, worker 0 takes the counts.

        Raises:
            KeyError, RuntimeError, ValueError: they are not of such a store.
        """
        self.roll_back(tensors)
        for counts, array in zip(tensors["counters"].numpy(), self._counters, strict=True):
            fold(counts, array.array)
        self._begun.array[:] = self._done.array
        if self.statistics is not None:
            self.statistics.restore(tensors["statistics"].numpy())

    def roll_back(self, tensors: dict[str, Tensor]) -> None:
        """Set parameters and moments back to a capture's while others may push; the counters continue."""
        for name, vector in self.vectors().items():
            stored = tensors[name]
            if stored.shape != vector.shape or stored.dtype != vector.dtype:
                raise ValueError(f"{name} is {list(stored.shape)} of {stored.dtype}, not {list(vector.shape)}")
            vector.copy_(stored)

    def _copy(self, vectors: dict[str, Tensor]) -> Capture:
        deadline = time.monotonic() + COPY_SECONDS
        while True:
            is_last = time.monotonic() > deadline
            begun = sum(self._begun.numbers)
            if is_last or begun == self.updates:
                tensors = {name: vector.clone() for name, vector in vectors.items()}
                self._fill(tensors["parameters"])
                rows = {} if self.statistics is None else {"statistics": torch.from_numpy(self.statistics.rows())}
                counters = np.stack([array.array for array in self._counters])
                updates, env_steps, *_ = counters.sum(1).tolist()
                consistent = begun == updates == sum(self._begun.numbers)
                if is_last or consistent:
                    snapshot = Snapshot(tensors["parameters"], updates, env_steps, time.monotonic(), consistent)
                    return Capture(snapshot, {**tensors, **rows, "counters": torch.from_numpy(counters)})
            time.sleep(COPY_PAUSE)
