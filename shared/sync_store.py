"""The parameter store whose workers step together (`--mode sync`); a single worker uses it too."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from shared.memory import Notifier, SharedArray
from shared.optimizers import SharedOptimizer
from shared.scoreboard import RUN, Scoreboard
from shared.store import WAIT_SECONDS, Capture, Pulled, SharedStore, Snapshot

if TYPE_CHECKING:
    from shared.statistics import SharedStatistics

QUEUE_SLOTS = 32


class SyncStore(SharedStore):
    """All workers wait, their gradients are averaged in worker order, one step is taken (`--mode sync`, A2C).

    Worker 0 leads: it waits for all gradients, steps, and lets all go on. So one thread of control decides everything
    that depends on order: the snapshots to evaluate, the moment of a checkpoint, and after which step the run ends. A
    run repeats itself bit for bit however the machine schedules it. One worker alone is a special case.
    Written by one worker each: its gradient, and for how many steps it has handed one in. By the monitor: which
    snapshots are released. By worker 0: everything else. A process that waits, waits for a number in shared memory to
    change; notifiers only wake. So a worker that dies leaves nothing behind that its successor cannot read there.

    Nobody can wait in a circle. A step waits for rollouts, which wait for nobody. The queue is waited for between two
    rollouts, where no step is under way: there worker 0 makes the checkpoint's request due and every worker answers it,
    full or not. The monitor, which makes room, and the checkpointer wait for no worker.
    A snapshot is queued every `interval` env steps, from 20 intervals on every twentieth of the steps so far; never
    where that is None. Of a rollout of several minibatches, each is a step; nothing is decided before the last.
    """

    queues = True

    def __init__(
        self,
        initial: Tensor,
        optimizer: SharedOptimizer,
        scoreboard: Scoreboard,
        interval: int | None = None,
        statistics: "SharedStatistics | None" = None,
        minibatches: int = 1,
    ):
        super().__init__(initial, optimizer, scoreboard, statistics)
        size, workers = len(initial), scoreboard.workers
        self._interval, self._minibatches = interval, minibatches
        self._gradients = SharedArray((workers, size), "float32")
        self._handed_in = SharedArray((workers,))  # the number of the step that a gradient is for
        self._totals = SharedArray((2,))  # env steps of all workers as of the last even step, and the last odd
        self._ending = SharedArray((1,))  # the scoreboard's request as of the last step
        self._queue = SharedArray((QUEUE_SLOTS, size), "float32")
        self._queue_moments = SharedArray((QUEUE_SLOTS, 3), "float64")  # updates, env steps, time.monotonic()
        self._queued = SharedArray((1,))  # snapshots so far, the number of the next one
        self._released = SharedArray((1,))  # snapshots that the monitor has released
        self._due = SharedArray((2,))  # env steps at which the next snapshot is queued; updates of the last
        self._due.array[:] = self._after(0), -1
        self._captured_vectors = SharedArray((len(self.vectors()), size), "float32")
        self._captured_counters = SharedArray((len(self._counters), workers))
        self._captured_moment = SharedArray((5,))  # updates, env steps, queued, due
        if statistics is not None:
            self._captured_statistics = SharedArray(statistics.rows().shape, "float64")
        self._notifiers = [Notifier() for _ in range(workers)]

    # -- training -------------------------------------------------------------------------------------------------

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """Hand in a gradient and wait until the step with all gradients has been made. The staleness is always 0."""
        if self._is_replaced(worker_index):
            return None
        step = self.hand_in(worker_index, gradient, env_steps, pulled)
        if worker_index != 0:
            return 0 if self._wait(worker_index, lambda: self.updates >= step) else None
        if not self._wait(0, lambda: min(self._handed_in.numbers) >= step):
            return None
        self._step(learning_rate, step)
        for other in self._notifiers[1:]:
            other.notify()
        return 0

    def hand_in(self, worker_index: int, gradient: Tensor, env_steps: int, pulled: Pulled) -> int:
        """Leave a worker's gradient for the step that follows on its pull; the number of that step."""
        step = pulled.updates + 1
        if self._handed_in.numbers[worker_index] < step:  # else a worker that has died since has: that one counts
            self._gradients.array[worker_index] = gradient.numpy()
            self._env_steps.numbers[worker_index] = env_steps
            self._torn.numbers[worker_index] += pulled.torn
            self._handed_in.numbers[worker_index] = step
        if worker_index != 0:
            self._notifiers[0].notify()
        return step

    def wait_for_step(self, worker_index: int, step: int, seconds: float) -> None:
        """Until a step has been made, for `seconds` at most; in the place of a worker that handed in for it."""
        deadline = time.monotonic() + seconds
        while self.updates < step and (left := deadline - time.monotonic()) > 0 and not self._scoreboard.stopping():
            self._notifiers[worker_index].wait(min(left, WAIT_SECONDS))

    def first(self, pulled: Pulled, minibatches: int) -> int:
        return pulled.updates % minibatches  # a worker that has dropped a rollout, or replaces another one, catches up

    def _fill(self, parameters: Tensor) -> None:
        """The shared parameters have the statistics, as of the last step."""

    def _step(self, learning_rate: float, step: int) -> None:
        """Step along the average of all gradients; all others wait until it counts as done."""
        average = self._gradients.array[0].copy()
        for other in self._gradients.array[1:]:
            average += other
        average /= len(self._gradients.array)
        self._begun.numbers[0] += 1
        self.optimizer.step(self.parameters, torch.from_numpy(average), learning_rate, step)
        self._totals.numbers[step % 2] = sum(self._env_steps.numbers)  # true as soon as the step counts, not before
        super()._fill(self.parameters)
        if step % self._minibatches == 0:
            self._between_steps(step)
        self._done.numbers[0] += 1

    def _between_steps(self, step: int) -> None:
        """What worker 0 decides while all others wait: whether the run ends here, whether a checkpoint is of now."""
        self._ending.numbers[0] = self._scoreboard.requested()
        if self.barrier.is_requested:
            self._keep_capture(step)
            self.barrier.make_due()

    def _stopped(self) -> bool:
        return bool(self._ending.numbers[0] != RUN)

    @property
    def env_steps(self) -> int:
        """Environment steps of all workers as of the last step: the same for all who ask between two steps."""
        return int(self._totals.numbers[self.updates % 2])

    # -- evaluation -----------------------------------------------------------------------------------------------

    def enqueue_due(self, worker_index: int, meanwhile: Callable[[], None]) -> None:
        """Before a rollout: worker 0 queues the snapshot of this moment where one is due; the others wait for that.

        Where the queue is full, all wait here for the monitor, and answer the checkpointer meanwhile.
        """
        if self.enqueuing:
            self._wait(worker_index, lambda: self._enqueued(worker_index, meanwhile))

    @property
    def enqueuing(self) -> bool:
        return self._interval is not None and self.env_steps >= self._due.numbers[0] and not self._stopped()

    def _enqueued(self, worker_index: int, meanwhile: Callable[[], None]) -> bool:
        """Whether the next rollout may begin; worker 0 queues the snapshot where there is room."""
        if worker_index == 0 and self.enqueuing:
            if self.queue_is_full:
                self._between_steps(self.updates)  # nobody has begun another rollout
            else:
                self._enqueue()
                for other in self._notifiers[1:]:
                    other.notify()
        if not self.enqueuing:
            return True
        meanwhile()
        return False

    def _enqueue(self) -> None:
        number = int(self._queued.numbers[0])
        if number >= self._released.numbers[0]:  # else it was evaluated before the run was resumed
            self._queue.array[number % QUEUE_SLOTS] = self._parameters.array
            self._queue_moments.array[number % QUEUE_SLOTS] = self.updates, self.env_steps, time.monotonic()
        self._queued.numbers[0] = number + 1
        self._due.array[:] = self._after(self.env_steps), self.updates

    def _after(self, env_steps: int) -> int:
        """When the snapshot is due that follows on one at `env_steps`."""
        return env_steps + max(self._interval or 0, env_steps // 20)

    def next_snapshot(self, env_steps: int) -> Snapshot | None:
        """The first snapshot in the queue, until it is released; when it is asked for, `env_steps`, does not matter."""
        first = int(self._released.numbers[0])
        if first >= self._queued.numbers[0]:
            return None
        updates, steps, moment = self._queue_moments.array[first % QUEUE_SLOTS]
        copy = torch.from_numpy(self._queue.array[first % QUEUE_SLOTS].copy())
        return Snapshot(copy, int(updates), int(steps), float(moment), consistent=True)

    def release(self, evaluated: int) -> None:
        """Make room in the queue (by the monitor alone)."""
        self._released.numbers[0] = evaluated
        self._notifiers[0].notify()

    @property
    def queue_is_full(self) -> bool:
        """Whether training waits until a snapshot is released."""
        return bool(self._queued.numbers[0] - self._released.numbers[0] >= QUEUE_SLOTS)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def _keep_capture(self, step: int) -> None:
        """Copy this moment, at which every other worker waits, for the checkpointer."""
        self._captured_vectors.array[:] = [vector.numpy() for vector in self.vectors().values()]
        self._captured_counters.array[:] = [array.array for array in self._counters]
        self._captured_counters.array[0, 0] = self._begun.numbers[0]  # the step under way counts as done with this
        if self.statistics is not None:
            self._captured_statistics.array[:] = self.statistics.rows()
        self._captured_moment.array[:] = step, self._totals.numbers[step % 2], *self._queued.numbers, *self._due.numbers

    def capture(self, evaluated: Callable[[], int] = lambda: 0) -> Capture:
        """What was captured when the request was made due: between two steps, whatever has happened since.

        Where all workers have ended, that is the end. Those snapshots that had been queued by then and are still to be
        evaluated come along. The monitor may have come further than the capture, and may come further while its queue
        is copied: what it has evaluated by the end of that is left out, and a resumed run does not queue it again.
        """
        if self.barrier.ended():
            snapshot, tensors = super().capture()
            queued, *due = (*self._queued.numbers, *self._due.numbers)
        else:
            updates, env_steps, queued, *due = self._captured_moment.array.tolist()
            vectors = torch.from_numpy(self._captured_vectors.array.copy())
            tensors = dict(zip(self.vectors(), vectors, strict=True))
            tensors["counters"] = torch.from_numpy(self._captured_counters.array.copy())
            if self.statistics is not None:
                tensors["statistics"] = torch.from_numpy(self._captured_statistics.array.copy())
            snapshot = Snapshot(tensors["parameters"], updates, env_steps, time.monotonic(), consistent=True)
        numbers = np.arange(self._released.numbers[0], queued)
        queue, moments = self._queue.array[numbers % QUEUE_SLOTS], self._queue_moments.array[numbers % QUEUE_SLOTS]
        left = numbers >= (released := evaluated())
        pending = {"pending": torch.from_numpy(queue[left]), "pending_facts": torch.from_numpy(moments[left])}
        counts = {"queue": torch.tensor([released, queued], device="cpu"), "due": torch.tensor(due, device="cpu")}
        return Capture(snapshot, tensors | pending | counts)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """As `SharedStore.restore`, the queue included; one of a store that has none begins with the next snapshot."""
        super().restore(tensors)
        self._totals.numbers[self.updates % 2] = sum(self._env_steps.numbers)
        self._handed_in.array[:] = self.updates
        waiting = tensors.get("pending", self.parameters.new_zeros(0, len(self.parameters)))
        released, queued = tensors.get("queue", torch.tensor([0, len(waiting)], device="cpu")).tolist()
        slots = np.arange(released, released + len(waiting)) % QUEUE_SLOTS
        self._queue.array[slots] = waiting.numpy()
        if len(waiting):
            self._queue_moments.array[slots] = tensors["pending_facts"].numpy()
        self._released.numbers[0], self._queued.numbers[0] = released, queued
        self._due.array[:] = tensors["due"].numpy() if "due" in tensors else (self.env_steps + 1, -1)
