"""The parameter store whose workers push one at a time (`--mode locked`)."""

import fcntl
import time
from contextlib import suppress
from typing import Any

from torch import Tensor

from shared.memory import NamelessFile
from shared.store import Pulled, SharedStore

LOCK_PAUSE = 5e-5  # between two attempts to get the lock: a push holds it for about as long


class LockedStore(SharedStore):
    """As `SharedStore`, but a push waits for its turn.

    The lock is a record lock on a file in memory: the kernel takes it back from a process that dies with it. OSError
    where this system has none.
    """

    def __init__(self, *parts: Any):
        super().__init__(*parts)
        self._lock = NamelessFile(0)
        fcntl.lockf(self._lock.descriptor, fcntl.LOCK_UN)

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        began = time.perf_counter()
        while True:
            with suppress(BlockingIOError, PermissionError):  # POSIX lets a system answer either
                fcntl.lockf(self._lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            self._scoreboard.beat(worker_index)  # the worker that has the lock may hang; this one does not
            time.sleep(LOCK_PAUSE)
        self.waited += time.perf_counter() - began
        try:
            return super().push(worker_index, gradient, learning_rate, env_steps, pulled)
        finally:
            fcntl.lockf(self._lock.descriptor, fcntl.LOCK_UN)
