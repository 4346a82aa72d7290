"""One of a run's processes and its successors, as the supervisor sees them."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workers import border
from workers.launch import context, inherited
from workers.usage import Usage

START_SECONDS = 60.0  # without a first sign of life: for its imports, and for its environments to be made and reset
PATIENCE = 5  # times the longest pause that anybody has come back from is not too long for anybody else
RESTART_SECONDS = 600.0  # over which restarts are counted
FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0  # before a process that shows no sign of life is started once more
DUMP_SECONDS = 0.2  # for a process that hangs to write down where


class Child:
    """A place among the processes, and who fills it.

    Args:
        arguments: of the target, for the process that is started next.
        pulse: a number that changes as long as the process does its work.
        timeout: seconds without a change after which it is taken to hang.
    """

    def __init__(self, name: str, target: Callable[..., None], arguments: Callable[[], tuple[Any, ...]],
                 pulse: Callable[[], int], timeout: float, log: Path):  # fmt: skip
        self.name, self.timeout = name, timeout
        self._target, self._arguments, self._pulse, self._log = target, arguments, pulse, log
        self.process: BaseProcess | None = None
        self.usage: Usage | None = None
        self.due: float | None = None  # when the next process is to be started, a time.monotonic(); None: never
        self.buried = False  # whether the end of the present process has been dealt with
        self.verdict: str | None = None  # what it was killed for, by us
        self.silent = 0.0  # seconds without a sign of life
        self._beats = pulse()
        self._lived = False  # whether the present process has shown one
        self._stillborn = 0  # processes in a row that have not
        self._log_start = 0

    def start(self) -> None:
        """Fill the place."""
        self.process = context().Process(target=self._target, args=self._arguments(), name=self.name)  # type: ignore[attr-defined]
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self.silent, self._lived, self._beats = 0.0, False, self._pulse()
        with inherited():
            self.process.start()
        assert self.process.pid is not None
        self.usage = Usage(self.process.pid)
        self.due, self.buried, self.verdict = None, False, None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def exitcode(self) -> int:
        assert self.process is not None
        return self.process.exitcode or 0

    def listen(self, elapsed: float) -> float:
        """Look for a sign of life; return the seconds of silence that a new one has ended, 0 where there is none."""
        beats = self._pulse()
        if beats == self._beats:
            self.silent += elapsed
            return 0.0
        # The time up to a first sign says how long starting takes, not how long a step may.
        pause = self.silent if self._lived else 0.0
        self._beats, self._lived, self._stillborn, self.silent = beats, True, 0, 0.0
        return pause

    def overdue(self, longest_pause: float) -> float:
        """Seconds by which a sign of life is late, given the longest pause that anybody came back from."""
        allowed = max(self.timeout, PATIENCE * longest_pause) if self._lived else max(self.timeout, START_SECONDS)
        return self.silent - allowed

    def give_up(self) -> None:
        """End a process that hangs, having it write to its log where it does."""
        assert self.process is not None and self.process.pid is not None
        what = "environment step" if self._lived else "first environment step"
        self.verdict = f"hung: no {what} for {self.silent:.0f} s"
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGUSR1)
            time.sleep(DUMP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()

    def cause(self) -> tuple[str, str]:
        """What the process has died of: in one line, and its traceback or crash report where it left one."""
        report = border.last_words(self._log, self._log_start)
        if self.verdict is not None:
            return self.verdict, report
        code = self.exitcode
        if code < 0:
            return f"died: killed by {signal.Signals(-code).name}", report
        return f"died: {report.splitlines()[-1] if report else f'exit code {code} without a word'}", report

    def schedule(self) -> float:
        """Have a successor started; at once, or later and later where none shows a sign of life. Return the delay."""
        self._stillborn += not self._lived
        delay = min(FIRST_DELAY * 2 ** (self._stillborn - 1), LONGEST_DELAY) if self._stillborn else 0.0
        self.due = time.monotonic() + delay
        return delay


class Budget:
    """How many restarts there may be within ten minutes."""

    def __init__(self, restarts: int):
        self.restarts = restarts
        self._taken: deque[float] = deque()

    def take(self) -> bool:
        """Take one; False where none is left."""
        now = time.monotonic()
        while self._taken and now - self._taken[0] > RESTART_SECONDS:
            self._taken.popleft()
        if len(self._taken) >= self.restarts:
            return False
        self._taken.append(now)
        return True

    @property
    def taken(self) -> int:
        return len(self._taken)
