"""The parameter store: what a worker pulls from and pushes to. The one seam at which the modes differ."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from shared.checkpoint_barrier import CheckpointBarrier
from shared.locks import try_lock, unlock
from shared.memory import SharedArray
from shared.optimizers import SharedOptimizer
from shared.scoreboard import RUN, Scoreboard, fold

SNAPSHOT_SECONDS = 0.25  # for a moment at which nobody pushes; a pusher may be off its core for a while
SNAPSHOT_PAUSE = 1e-4  # between two attempts, so that it may have ours
LOCK_PAUSE = 5e-5  # between two attempts to get the lock: a push holds it for about as long
T = TypeVar("T")


class Pulled(NamedTuple):
    """How far training had come when a worker pulled."""

    updates: int  # shared optimizer steps, by anyone
    env_steps: int  # of all workers, as of their last pushes
    torn: bool = False  # a push was under way meanwhile: the copy may mix two generations
    stopped: bool = False  # the run is being ended: do no more


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the shared parameters."""

    parameters: Tensor  # [P], the reader's own
    updates: int  # shared optimizer steps it contains
    env_steps: int  # of all workers
    taken: float  # time.monotonic()
    consistent: bool  # no step was under way while it was copied; else up to one step per worker is there in part


@dataclass(frozen=True, slots=True)
class Capture:
    """A copy of everything in a store that going on from this moment needs."""

    snapshot: Snapshot
    tensors: dict[str, Tensor]  # for `SharedStore.restore`


class SharedStore:
    """Shared parameters, stepped without a lock by whoever pushes (`--mode async`, Hogwild).

    Written by every worker at once: the parameters and the optimizer's moments. A pull that overlaps another worker's
    push copies some elements from before and some from after it; Hogwild tolerates that (docs/decisions/0002).
    Written by one worker each: its counters of pushes begun, pushes done and environment steps, and of the pushes and
    pulls in which it met somebody else's push. Their sums are the totals: no increment is ever lost, and each process
    can tell whether a push is under way.
    """

    queues = False  # whether the snapshots to evaluate are kept until they have been judged
    incarnation = 0  # of the worker whose process this is: how many it is the successor of
    waited = 0.0  # seconds in which this process waited for other workers, since somebody set them to 0

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, scoreboard: Scoreboard):
        self.optimizer, self._scoreboard = optimizer, scoreboard
        self._parameters = SharedArray(tuple(initial.shape), "float32")
        self._parameters.array[:] = initial.detach().numpy()
        self._begun = SharedArray((scoreboard.workers,), "int64")
        self._done = SharedArray((scoreboard.workers,), "int64")
        self._env_steps = SharedArray((scoreboard.workers,), "int64")
        self._overlapped = SharedArray((scoreboard.workers,), "int64")
        self._torn = SharedArray((scoreboard.workers,), "int64")
        self.barrier = CheckpointBarrier(scoreboard.workers, led=self.queues)

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

    def sha256(self) -> str:
        """Digest of the parameters and the optimizer's moments: equal where two runs have come to the same bit."""
        digest = hashlib.sha256(self._parameters.array.tobytes())
        for _, moment in sorted(self.optimizer.state().items()):
            digest.update(moment.numpy().tobytes())
        return digest.hexdigest()

    # -- training -------------------------------------------------------------------------------------------------

    def pull(self, into: Tensor) -> Pulled:
        """Copy the shared parameters into [P]; return how far training had come just before."""
        updates, env_steps = self.updates, self.env_steps
        np.copyto(into.numpy(), self._parameters.array)
        return Pulled(updates, env_steps, self._begun_by_now() > updates, self._stopped())

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Step the shared optimizer along a gradient [P] that was computed at the pull which returned `pulled`.

        Args:
            env_steps: this worker's environment steps so far.
        Returns: the staleness, updates made by anyone between that pull and this push; None where the step was not
            made because the run is being stopped, or because this process has been given up and replaced.
        """
        if self._given_up(worker_index):
            return None
        before = self.updates
        self._begun.numbers[worker_index] += 1
        self.optimizer.step(self.parameters, gradient, learning_rate, before + 1)
        self._env_steps.numbers[worker_index] = env_steps
        self._overlapped.numbers[worker_index] += self._begun_by_now() > before + 1
        self._torn.numbers[worker_index] += pulled.torn
        self._done.numbers[worker_index] += 1
        return before - pulled.updates

    def settle(self, worker_index: int) -> None:
        """Close the push in the middle of which a worker has died, if it has: it does not count as a step."""
        self._begun.numbers[worker_index] = self._done.numbers[worker_index]

    def _begun_by_now(self) -> int:
        return sum(self._begun.numbers)

    def _stopped(self) -> bool:
        return self._scoreboard.requested() != RUN

    def _given_up(self, worker_index: int) -> bool:
        return self._scoreboard.incarnation(worker_index) != self.incarnation

    # -- evaluating -----------------------------------------------------------------------------------------------

    def enqueue_due(self, worker_index: int, meanwhile: Callable[[], None]) -> None:
        """Before a rollout: have the snapshot that is due queued, where snapshots are queued (`queues`).

        Args:
            meanwhile: called again and again where that has to wait.
        """

    def snapshot(self) -> Snapshot:
        """A copy during which nobody pushed; where no such moment comes for long, one that says that somebody did."""
        (copy, updates, env_steps), consistent = self._undisturbed(self._progress)
        return Snapshot(copy, updates, env_steps, time.monotonic(), consistent)

    def next_snapshot(self, env_steps: int) -> Snapshot | None:
        """The next snapshot to evaluate, once training has come to `env_steps` and made an update; None before."""
        return self.snapshot() if self.env_steps >= env_steps and self.updates else None

    def release(self, judged: int) -> None:
        """Let go of the snapshots before number `judged`: they have been judged, or never will be."""

    @property
    def queue_is_full(self) -> bool:
        """Whether training waits until a snapshot is released."""
        return False

    def _progress(self) -> tuple[Tensor, int, int]:
        return self.parameters.clone(), self.updates, self.env_steps

    def _undisturbed(self, read: Callable[[], T]) -> tuple[T, bool]:
        """What `read` gives at a moment at which nobody pushes, and whether there was one."""
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while time.monotonic() < deadline:
            begun = self._begun_by_now()
            if begun == self.updates:
                result = read()
                if self._begun_by_now() == begun:
                    return result, True
            time.sleep(SNAPSHOT_PAUSE)
        return read(), False

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def capture(self, judged: Callable[[], int] = lambda: 0) -> Capture:
        """A copy of everything here, at a moment at which nobody pushes if there is one.

        Args:
            judged: how many snapshots of the queue have been judged; the others of the capture's moment come along.
        """
        (progress, tensors), consistent = self._undisturbed(lambda: (self._progress(), self._tensors()))
        return Capture(Snapshot(*progress, time.monotonic(), consistent), tensors)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a capture's tensors; where it is of more workers than there are now, worker 0 takes their counts.

        Raises:
            KeyError, RuntimeError, ValueError: they are not of such a store.
        """
        self.roll_back(tensors)
        counters = tensors["counters"].numpy()
        for array, counts in zip(self._counters(), counters, strict=True):
            fold(counts, array.array)
        self._begun.array[:] = self._done.array

    def roll_back(self, tensors: dict[str, Tensor]) -> None:
        """Set parameters and moments back to a capture's, whoever is pushing; the counters go on."""
        for name, vector in self.vectors().items():
            vector.copy_(_fitting(tensors[name], vector))

    def vectors(self) -> dict[str, Tensor]:
        """The shared parameters and moments themselves, by name, [P] each."""
        return {"parameters": self.parameters} | {
            f"moment.{name}": moment for name, moment in self.optimizer.state().items()
        }

    def _tensors(self) -> dict[str, Tensor]:
        copies = {name: vector.clone() for name, vector in self.vectors().items()}
        return copies | {"counters": torch.from_numpy(np.stack([array.array for array in self._counters()]))}

    def _counters(self) -> tuple[SharedArray, ...]:
        return self._done, self._env_steps, self._overlapped, self._torn


class LockedStore(SharedStore):
    """The same, one worker at a time (`--mode locked`).

    The lock is one on a file, which the kernel takes back from a process that dies with it.
    """

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, scoreboard: Scoreboard, lock_path: str):
        super().__init__(initial, optimizer, scoreboard)
        self._lock_path = lock_path
        self._lock: int | None = None  # opened by each process for itself: locks belong to whoever opened the file

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """As `SharedStore.push`, after waiting for one's turn."""
        if self._lock is None:
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        came = time.perf_counter()
        while not try_lock(self._lock):
            self._scoreboard.beat(worker_index)  # whoever has the lock may hang; who waits for it does not
            time.sleep(LOCK_PAUSE)
        self.waited += time.perf_counter() - came
        try:
            return super().push(worker_index, gradient, learning_rate, env_steps, pulled)
        finally:
            unlock(self._lock)


def _fitting(tensor: Tensor, target: Tensor) -> Tensor:
    if tensor.shape != target.shape or tensor.dtype != target.dtype:
        raise ValueError(f"{list(tensor.shape)} of {tensor.dtype} where {list(target.shape)} is needed")
    return tensor
