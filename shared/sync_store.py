"""The parameter store whose workers wait for each other (`--mode sync`), and which a single worker uses too."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shared.bell import Bell
from shared.board import RUN, Board
from shared.memory import SharedArray
from shared.optimizers import SharedOptimizer
from shared.store import Capture, Pulled, SharedStore, Snapshot

QUEUE_SLOTS = 32
WAIT_SECONDS = 0.05  # between two looks at whether the run is being stopped
GRACE_SECONDS = 1.0  # for the last step to be made by all when the run is being stopped


class SyncStore(SharedStore):
    """All workers wait, their gradients are averaged in worker order, one step is taken (`--mode sync`, A2C).

    Worker 0 leads: it waits for everybody's gradient, steps, and lets everybody go. So one thread of control decides
    everything that depends on order: the snapshots to evaluate, the moment of a capture, and after which step the run
    ends. A run repeats itself bit for bit however the machine schedules it. One worker alone is a special case.
    Written by one worker each: its gradient, and for how many steps it has handed one in. Written by worker 0:
    everything else. The queue of snapshots is written by worker 0 and emptied by the monitor; where it is full,
    training waits for the monitor. Whoever waits, waits for a number in shared memory to change; bells only wake. So a
    worker that dies leaves nothing behind that its successor cannot read there.

    Args:
        interval: environment steps between two snapshots; from 20 intervals on a twentieth of the steps so far.
    """

    queues = True

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, board: Board, interval: int,
                 deposit_size: int = 0):  # fmt: skip
        super().__init__(initial, optimizer, board, deposit_size)
        size, vectors = len(initial), len(self.vectors())
        self._interval = interval
        self._gradients = SharedArray((board.workers, size), "float32")
        self._handed_in = SharedArray((board.workers,), "int64")  # the number of the step that a gradient is for
        self._total = SharedArray((1,), "int64")  # env steps of all workers as of the last step
        self._ending = SharedArray((1,), "int64")  # the board's request as of the last step
        self._queue = SharedArray((QUEUE_SLOTS, size), "float32")
        self._queue_facts = SharedArray((QUEUE_SLOTS, 3), "float64")  # updates, env steps, time.monotonic()
        self._queued = SharedArray((1,), "int64")
        self._taken = SharedArray((1,), "int64")
        self._due = SharedArray((2,), "int64")  # env steps at which the next snapshot is queued; updates of the last
        self._due.numbers[1] = -1
        self._captured = SharedArray((1,), "int64")  # the number of the capture below
        self._captured_vectors = SharedArray((vectors, size), "float32")
        self._captured_counters = SharedArray((len(self._counters()), board.workers), "int64")
        self._captured_facts = SharedArray((5,), "float64")  # updates, env steps, queued, due
        self._bells = [Bell() for _ in range(board.workers)]

    @property
    def env_steps(self) -> int:
        """Environment steps of all workers as of the last step: the same for whoever asks between two steps."""
        return int(self._total.numbers[0])

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Hand in a gradient and wait until the step with everybody's has been made. The staleness is always 0."""
        if self._given_up(worker_index):
            return None
        step = pulled.updates + 1
        if self._handed_in.numbers[worker_index] < step:  # else a worker that has died since has: that one counts
            self._gradients.array[worker_index] = gradient.numpy()
            self._env_steps.numbers[worker_index] = env_steps
            self._torn.numbers[worker_index] += pulled.torn
            self._handed_in.numbers[worker_index] = step
        if worker_index != 0:
            self._bells[0].ring()
            return 0 if self._wait(worker_index, lambda: self.updates >= step) else None
        if self._due.numbers[0] == 0:
            self._enqueue(0, pulled.updates)
        if not self._wait(0, lambda: min(self._handed_in.numbers) >= step):
            return None
        self._step(learning_rate, step)
        for bell in self._bells[1:]:
            bell.ring()
        return 0

    def _step(self, learning_rate: float, step: int) -> None:
        """Step along everybody's gradient; all others wait until it counts as done."""
        average = self._gradients.array[0].copy()
        for other in self._gradients.array[1:]:
            average += other
        average /= len(self._gradients.array)
        self._begun.numbers[0] += 1
        self.optimizer.step(self.parameters, torch.from_numpy(average), learning_rate, step)
        self._total.numbers[0] = sum(self._env_steps.numbers)
        if self.env_steps >= self._due.numbers[0]:
            self._enqueue(0, step)
        if self._wanted.numbers[0] > self._captured.numbers[0]:
            self._keep(step)
        self._ending.numbers[0] = self._board.requested()
        self._done.numbers[0] += 1

    def _stopped(self) -> bool:
        return bool(self._ending.numbers[0] != RUN)

    def _wait(self, worker_index: int, condition: Callable[[], bool]) -> bool:
        """Until a condition holds; False where the run is stopped, or this process given up, before it does."""
        deadline: float | None = None
        came = time.perf_counter()
        while not condition():
            if self._board.stopping():
                deadline = deadline or time.monotonic() + GRACE_SECONDS
            if self._given_up(worker_index) or (deadline is not None and time.monotonic() > deadline):
                return False
            self._board.beat(worker_index)
            self._bells[worker_index].wait(WAIT_SECONDS)
        self.waited = time.perf_counter() - came
        return True

    # -- evaluating -----------------------------------------------------------------------------------------------

    def due_snapshot(self, env_steps: int) -> Snapshot | None:
        """The next snapshot of the queue, in order; which there are does not depend on when somebody asks."""
        taken = int(self._taken.numbers[0])
        if taken == self._queued.numbers[0]:
            return None
        slot = taken % QUEUE_SLOTS
        updates, steps, moment = self._queue_facts.array[slot]
        copy = torch.from_numpy(self._queue.array[slot].copy())
        self._taken.numbers[0] += 1
        return Snapshot(copy, int(updates), int(steps), float(moment), consistent=True)

    def last_snapshots(self) -> Iterator[Snapshot]:
        """The rest of the queue, and the end of training where that is not its last."""
        while (snapshot := self.due_snapshot(0)) is not None:
            yield snapshot
        if self._due.numbers[1] != self.updates:
            yield self.snapshot()

    def _enqueue(self, worker_index: int, updates: int) -> None:
        if not self._wait(worker_index, lambda: self._queued.numbers[0] - self._taken.numbers[0] < QUEUE_SLOTS):
            return
        slot = int(self._queued.numbers[0]) % QUEUE_SLOTS
        self._queue.array[slot] = self._parameters.array
        self._queue_facts.array[slot] = (updates, self.env_steps, time.monotonic())
        self._queued.numbers[0] += 1
        self._due.array[:] = self.env_steps + max(self._interval, self.env_steps // 20), updates

    # -- keeping --------------------------------------------------------------------------------------------------

    def deposit_due(self, worker_index: int) -> int:
        """As of the step after which worker 0 has made the capture: so all deposits are of the same step."""
        captured = int(self._captured.numbers[0])
        return captured if captured > max(self.deposits.number(worker_index), 0) else 0

    def capturing(self) -> bool:
        """As `SharedStore.capturing`: worker 0 makes it between two steps, and only then do workers deposit."""
        return bool(self._captured.numbers[0] == self._wanted.numbers[0])

    def captured(self) -> bool:
        """Whether the capture that was wanted is there with every worker's deposit."""
        return self.capturing() and super().captured()

    def capture(self) -> Capture:
        """What was captured for the deposits that there are: between two steps, whatever has happened since."""
        if self.ended():
            return self._with_queue(super().capture(), int(self._queued.numbers[0]), self._due.numbers[:])
        updates, env_steps, queued, *due = (int(fact) for fact in self._captured_facts.array)
        vectors = dict(zip(self.vectors(), torch.from_numpy(self._captured_vectors.array.copy()), strict=True))
        counters = {"counters": torch.from_numpy(self._captured_counters.array.copy())}
        snapshot = Snapshot(vectors["parameters"], updates, env_steps, time.monotonic(), consistent=True)
        return self._with_queue(Capture(snapshot, vectors | counters), queued, due)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """As `SharedStore.restore`, the queue included; one of a store that has none begins with the next snapshot."""
        super().restore(tensors)
        self._total.numbers[0] = sum(self._env_steps.numbers)
        self._handed_in.array[:] = self.updates
        waiting = tensors.get("pending", torch.zeros(0, len(self.parameters)))
        self._queue.array[: len(waiting)] = waiting.numpy()
        if len(waiting):
            self._queue_facts.array[: len(waiting)] = tensors["pending_facts"].numpy()
        self._queued.numbers[0] = len(waiting)
        self._due.array[:] = tensors["due"].numpy() if "due" in tensors else (self.env_steps + 1, -1)

    def _keep(self, step: int) -> None:
        """Capture this moment, at which every other worker waits."""
        self._captured_vectors.array[:] = [vector.numpy() for vector in self.vectors().values()]
        self._captured_counters.array[:] = [array.array for array in self._counters()]
        self._captured_counters.array[0, 0] = step  # counts as done as soon as this is
        self._captured_facts.array[:] = step, self.env_steps, self._queued.numbers[0], *self._due.numbers
        self._captured.numbers[0] = self._wanted.numbers[0]

    def _with_queue(self, capture: Capture, queued: int, due: Sequence[int]) -> Capture:
        """The capture with those snapshots that had been queued by then and are still to be evaluated."""
        slots = np.arange(self._taken.numbers[0], queued) % QUEUE_SLOTS
        queue = {
            "pending": torch.from_numpy(self._queue.array[slots]),
            "pending_facts": torch.from_numpy(self._queue_facts.array[slots]),
            "due": torch.tensor(list(due)),
        }
        return Capture(capture.snapshot, capture.tensors | queue)
