"""The parameter store: what a worker pulls from and pushes to. The one seam at which the modes differ."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.memory import SharedArray
from shared.optimizers import SharedOptimizer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SNAPSHOT_SECONDS = 0.25  # for a moment at which nobody pushes; a pusher may be off its core for a while
SNAPSHOT_PAUSE = 1e-4  # between two attempts, so that it may have ours
QUEUE_SLOTS = 32
WAIT_SECONDS = 0.05  # between two looks at whether the run is being stopped


class Pulled(NamedTuple):
    """How far training had come when a worker pulled."""

    updates: int  # shared optimizer steps, by anyone
    env_steps: int  # of all workers, as of their last pushes
    torn: bool = False  # a push was under way meanwhile: the copy may mix two generations


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the shared parameters."""

    parameters: Tensor  # [P], the reader's own
    updates: int  # shared optimizer steps it contains
    env_steps: int  # of all workers
    taken: float  # time.monotonic()
    consistent: bool  # no step was under way while it was copied; else up to one step per worker is there in part


class SharedStore:
    """Shared parameters, stepped without a lock by whoever pushes (`--mode async`, Hogwild).

    Written by every worker at once: the parameters and the optimizer's moments. A pull that overlaps another worker's
    push copies some elements from before and some from after it; Hogwild tolerates that (docs/decisions/0002).
    Written by one worker each: its counters of pushes begun, pushes done and environment steps, and of the pushes and
    pulls in which it met somebody else's push. Their sums are the totals: no increment is ever lost, and each process
    can tell whether a push is under way.
    """

    queues = False  # whether the snapshots to evaluate are kept until somebody takes them

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, workers: int):
        self.optimizer = optimizer
        self._parameters = SharedArray(tuple(initial.shape), "float32")
        self._parameters.array[:] = initial.detach().numpy()
        self._begun = SharedArray((workers,), "int64")
        self._done = SharedArray((workers,), "int64")
        self._env_steps = SharedArray((workers,), "int64")
        self._overlapped = SharedArray((workers,), "int64")
        self._torn = SharedArray((workers,), "int64")

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

    def pull(self, into: Tensor) -> Pulled:
        """Copy the shared parameters into [P]; return how far training had come just before."""
        updates, env_steps = self.updates, self.env_steps
        np.copyto(into.numpy(), self._parameters.array)
        return Pulled(updates, env_steps, torn=self._begun_by_now() > updates)

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Step the shared optimizer along a gradient [P] that was computed at the pull which returned `pulled`.

        Args:
            env_steps: this worker's environment steps so far.
        Returns: the staleness, updates made by anyone between that pull and this push; None where the run is being
            stopped and the step was not made.
        """
        before = self.updates
        self._begun.numbers[worker_index] += 1
        self.optimizer.step(self.parameters, gradient, learning_rate, before + 1)
        self._env_steps.numbers[worker_index] = env_steps
        self._overlapped.numbers[worker_index] += self._begun_by_now() > before + 1
        self._torn.numbers[worker_index] += pulled.torn
        self._done.numbers[worker_index] += 1
        return before - pulled.updates

    def _begun_by_now(self) -> int:
        return sum(self._begun.numbers)

    def snapshot(self) -> Snapshot:
        """A copy during which nobody pushed; where no such moment comes for long, one that says that somebody did."""
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while time.monotonic() < deadline:
            begun = self._begun_by_now()
            if begun == self.updates:
                copy, env_steps = self.parameters.clone(), self.env_steps
                if self._begun_by_now() == begun:
                    return Snapshot(copy, begun, env_steps, time.monotonic(), consistent=True)
            time.sleep(SNAPSHOT_PAUSE)
        return Snapshot(self.parameters.clone(), self.updates, self.env_steps, time.monotonic(), consistent=False)

    def due_snapshot(self, env_steps: int) -> Snapshot | None:
        """The next snapshot to evaluate once training has come to `env_steps`; None before."""
        return self.snapshot() if self.env_steps >= env_steps else None

    def last_snapshots(self) -> Iterator[Snapshot]:
        """What is left to evaluate when training has ended."""
        yield self.snapshot()


class LockedStore(SharedStore):
    """The same, one worker at a time (`--mode locked`).

    The lock is one on a file, which the kernel takes back from a process that dies with it.
    """

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, workers: int, lock_path: str):
        super().__init__(initial, optimizer, workers)
        self._lock_path = lock_path
        self._lock: int | None = None  # opened by each process for itself: locks belong to whoever opened the file

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """As `SharedStore.push`, after waiting for one's turn."""
        if self._lock is None:
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            return super().push(worker_index, gradient, learning_rate, env_steps, pulled)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


class SyncStore(SharedStore):
    """All workers wait, their gradients are averaged in worker order, one step is taken (`--mode sync`, A2C).

    Worker 0 leads: it waits for everybody's gradient, steps, and lets everybody go. So one thread of control decides
    everything that depends on order, the snapshots to evaluate included, and a run repeats itself bit for bit however
    the machine schedules it. One worker alone is a special case of this.
    Written by one worker each: its gradient. Written by worker 0: everything else. The queue of snapshots is written
    by worker 0 and emptied by the monitor; where it is full, training waits for the monitor.

    Args:
        interval: environment steps between two snapshots; from 20 intervals on a twentieth of the steps so far.
        stopping: whether the run is being stopped, so that nobody waits for somebody who has left.
    """

    queues = True

    def __init__(
        self, initial: Tensor, optimizer: SharedOptimizer, workers: int, interval: int, stopping: Callable[[], bool]
    ):
        super().__init__(initial, optimizer, workers)
        self._workers, self._interval, self._stopping = workers, interval, stopping
        self._gradients = SharedArray((workers, len(initial)), "float32")
        self._total = SharedArray((1,), "int64")  # env steps of all workers as of the last step
        self._queue = SharedArray((QUEUE_SLOTS, len(initial)), "float32")
        self._queue_facts = SharedArray((QUEUE_SLOTS, 3), "float64")  # updates, env steps, time.monotonic()
        self._queued = SharedArray((1,), "int64")
        self._taken = SharedArray((1,), "int64")
        self._due = 0
        self._arrivals = Pipe(duplex=False)
        self._departures = [Pipe(duplex=False) for _ in range(workers)]

    @property
    def env_steps(self) -> int:
        """Environment steps of all workers as of the last step: the same for whoever asks between two steps."""
        return int(self._total.array[0])

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Hand in a gradient and wait until the step with everybody's has been made. The staleness is always 0."""
        self._gradients.array[worker_index] = gradient.numpy()
        self._env_steps.array[worker_index] = env_steps
        if worker_index != 0:
            self._torn.array[worker_index] += pulled.torn
            self._arrivals[1].send_bytes(b"!")
            return 0 if self._wait_for(self._departures[worker_index][0]) else None
        if pulled.updates == 0:
            self._enqueue()
        if not all(self._wait_for(self._arrivals[0]) for _ in range(self._workers - 1)):
            return None
        average = self._gradients.array[0].copy()
        for other in self._gradients.array[1:]:
            average += other
        average /= self._workers
        super().push(0, torch.from_numpy(average), learning_rate, env_steps, pulled)
        self._total.array[0] = self._env_steps.array.sum()
        if self.env_steps >= self._due:
            self._enqueue()
        for _, departure in self._departures[1:]:
            departure.send_bytes(b"!")
        return 0

    def due_snapshot(self, env_steps: int) -> Snapshot | None:
        """The next snapshot of the queue, in order; which there are does not depend on when somebody asks."""
        taken = int(self._taken.array[0])
        if taken == self._queued.array[0]:
            return None
        slot = taken % QUEUE_SLOTS
        updates, steps, moment = self._queue_facts.array[slot]
        copy = torch.from_numpy(self._queue.array[slot].copy())
        self._taken.array[0] += 1
        return Snapshot(copy, int(updates), int(steps), float(moment), consistent=True)

    def last_snapshots(self) -> Iterator[Snapshot]:
        """The rest of the queue, and the end of training where that is not its last."""
        last = -1
        while (snapshot := self.due_snapshot(0)) is not None:
            last = snapshot.updates
            yield snapshot
        if last != self.updates:
            yield self.snapshot()

    def _enqueue(self) -> None:
        while self._queued.array[0] - self._taken.array[0] == QUEUE_SLOTS:
            if self._stopping():
                return
            time.sleep(WAIT_SECONDS / 10)
        slot = int(self._queued.array[0]) % QUEUE_SLOTS
        self._queue.array[slot] = self._parameters.array
        self._queue_facts.array[slot] = (self.updates, self.env_steps, time.monotonic())
        self._queued.array[0] += 1
        self._due = self.env_steps + max(self._interval, self.env_steps // 20)

    def _wait_for(self, connection: "Connection[bytes, bytes]") -> bool:
        while not connection.poll(WAIT_SECONDS):
            if self._stopping():
                return False
        connection.recv_bytes()
        return True
