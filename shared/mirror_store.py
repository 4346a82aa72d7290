"""The parameter store of a node's workers, whose run is on another machine: a mirror of it, and an outbox."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.memory import Notifier, SharedArray
from shared.optimizers import SLOW, SharedSGD
from shared.scoreboard import Scoreboard
from shared.store import COPY_PAUSE, Pulled, SharedStore, StaleGradientError

if TYPE_CHECKING:
    from shared.statistics import SharedStatistics

ENDED, STALE = -2, -1  # outcomes of pushes that were not applied; others are their staleness


class Mirrored(NamedTuple):
    """What workers see of a run."""

    parameters: NDArray[np.float32] | None  # [P], the statistics of all workers among them; None: as before
    slow: NDArray[np.float32] | None  # the slow copy of the parameters, where there is one
    updates: int
    env_steps: int
    torn: bool  # whether a push was under way meanwhile
    stopped: bool  # whether a worker that pulls is to end
    enqueuing: bool = False  # whether a snapshot is to be queued before anybody begins a rollout


class Push(NamedTuple):
    """A gradient in the outbox."""

    worker_index: int
    incarnation: int
    number: int  # counts the pushes of a worker
    gradient: NDArray[np.float32]  # [P]
    learning_rate: float
    env_steps: int  # of the worker
    updates: int  # when the parameters were pulled that it is a gradient of
    torn: bool
    statistics: NDArray[np.float64] | None  # the worker's row of running statistics


class MirrorStore(SharedStore):
    """Workers pull from a copy of the run's parameters, and push into an outbox; then they wait for the outcome.

    Written by the node's host: the mirror, and the outcome of each push. By one worker each: its place in the outbox,
    and the number of its latest push there. The mirror has a version, odd while it is written: nobody pulls a half.

    Args:
        together: whether all workers of the run step together (`--mode sync`).
    """

    waits_in = "network"

    def __init__(
        self,
        initial: Tensor,
        scoreboard: Scoreboard,
        statistics: "SharedStatistics | None" = None,
        together: bool = False,
        slow: bool = False,
    ):
        super().__init__(initial, SharedSGD(), scoreboard, statistics)
        workers, self._together = scoreboard.workers, together
        if slow:
            self.optimizer.moments[SLOW] = SharedArray((len(initial),), "float32")
        self._version = SharedArray((1,))
        self._now = SharedArray((5,))  # updates, env steps, torn, stopped, enqueuing
        self._gradients = SharedArray((workers, len(initial)), "float32")
        self._facts = SharedArray((workers, 5), "float64")  # incarnation, learning rate, env steps, updates, torn
        self._pushed, self._settled, self._outcomes = (SharedArray((workers,)) for _ in range(3))
        self._taken = [0] * workers  # the number of the latest push that the host has collected
        self._notifiers, self._host = [Notifier() for _ in range(workers)], Notifier()

    # -- by workers -----------------------------------------------------------------------------------------------

    def pull(self, into: Tensor) -> Pulled:
        while True:
            version = self._version.numbers[0]
            np.copyto(into.numpy(), self._parameters.array)
            updates, env_steps, torn, stopped, _ = self._now.numbers
            if version % 2 == 0 and self._version.numbers[0] == version:
                return Pulled(updates, env_steps, bool(torn), bool(stopped))
            time.sleep(COPY_PAUSE)

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        if self._is_replaced(worker_index):
            return None
        number = self._pushed.numbers[worker_index] + 1
        self._gradients.array[worker_index] = gradient.numpy()
        self._facts.array[worker_index] = self.incarnation, learning_rate, env_steps, pulled.updates, pulled.torn
        self._pushed.numbers[worker_index] = number
        self._host.notify()
        if not self._wait(worker_index, lambda: self._settled.numbers[worker_index] >= number):
            return None
        outcome = self._outcomes.numbers[worker_index]
        if outcome == STALE:
            raise StaleGradientError
        return None if outcome == ENDED else outcome

    def first(self, pulled: Pulled, minibatches: int) -> int:
        return pulled.updates % minibatches if self._together else 0

    def enqueue_due(self, worker_index: int, meanwhile: Callable[[], None]) -> None:
        def enqueued() -> bool:
            if enqueuing := self._now.numbers[-1]:
                meanwhile()
            return not enqueuing

        self._wait(worker_index, enqueued)

    @property
    def updates(self) -> int:
        return int(self._now.numbers[0])

    @property
    def env_steps(self) -> int:
        return int(self._now.numbers[1])

    # -- by their host --------------------------------------------------------------------------------------------

    def mirror(self, seen: Mirrored, settled: dict[int, tuple[int, int]]) -> None:
        """Show what workers are to see from now on, and settle pushes: a worker's index, their number, the outcome."""
        self._version.numbers[0] += 1
        if seen.parameters is not None:
            self._parameters.array[:] = seen.parameters
        if seen.slow is not None:
            self.optimizer.moments[SLOW].array[:] = seen.slow
        self._now.array[:] = seen[2:]
        self._version.numbers[0] += 1
        for worker_index, (number, outcome) in settled.items():
            self._outcomes.numbers[worker_index] = outcome
            self._settled.numbers[worker_index] = number
        for notifier in self._notifiers:
            notifier.notify()

    def begin_at(self, worker_index: int, env_steps: int, statistics: NDArray[np.float64] | None) -> None:
        """Have a worker begin where the one before it was, on whatever node."""
        self._env_steps.numbers[worker_index] = env_steps
        if self.statistics is not None and statistics is not None:
            self.statistics.write(worker_index, statistics)

    def collect(self) -> list[Push]:
        """The pushes that have come since the last call."""
        found = []
        for worker_index, number in enumerate(self._pushed.array.tolist()):
            if number > self._taken[worker_index]:
                self._taken[worker_index] = number
                incarnation, rate, env_steps, updates, torn = self._facts.array[worker_index].tolist()
                row = None if self.statistics is None else self.statistics.row(worker_index)
                gradient: Any = self._gradients.array[worker_index].copy()
                facts = int(env_steps), int(updates), bool(torn)
                found.append(Push(worker_index, int(incarnation), number, gradient, rate, *facts, row))
                self._env_steps.numbers[worker_index] = int(env_steps)
        return found

    def wait_for_push(self, seconds: float) -> None:
        """Until a worker pushes, for `seconds` at most."""
        self._host.wait(seconds)
