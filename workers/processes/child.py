"""One of a run's processes and its successors, as the supervisor sees them."""

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from workers import exit_codes
from workers.processes import entry
from workers.processes.start import context, forkserver_log, new_process, start_process
from workers.processes.usage import Usage

PATIENCE = 5  # times the longest pause that anybody has come back from is not too long for anybody else
RESTART_SECONDS = 600.0  # over which restarts are counted
FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0  # before a process that shows no sign of life is started once more
DUMP_SECONDS = 0.2  # for a process that hangs to write down where
START_ATTEMPTS = 3  # a forkserver may die while it starts a process
LOST = 255  # the exit code of a process whose forkserver died: nobody knows how it ended, or whether it has
LARGEST_LOG, KEPT_LOG = 16 * 2**20, 2**20  # bytes of a log at which its beginning is dropped, and of what stays


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a sign of life that are allowed.

    Attributes:
        start: until the first: imports, environments that are made and reset.
        step: between two.
        option: what the user can change to allow more.
    """

    start: float
    step: float
    option: str = "--heartbeat-timeout"


class Child:
    """One of the run's processes, and the one that replaces it.

    Args:
        arguments: of the target, for the process that is started next; given the pipe for its messages.
        pulse: a number that changes as long as the process does its work.
        computing: whether the process does something that waits for nobody, so that CPU time is a sign of life.
        early: signs of life that it shows while it gets ready, as for every environment made: it has not lived by that.
        needs_main: its arguments refer to what the user's script defines.
    """

    def __init__(
        self,
        name: str,
        target: Callable[..., None],
        arguments: Callable[[Connection], tuple[Any, ...]],
        pulse: Callable[[], int],
        patience: Patience,
        log: Path,
        computing: Callable[[], bool] = lambda: False,
        needs_main: bool = False,
        early: int = 0,
    ):
        self.name, self.patience = name, patience
        self._target, self._arguments, self._pulse, self._log = target, arguments, pulse, log
        self._computing, self._needs_main, self._early = computing, needs_main, early
        self.process: BaseProcess | None = None
        self.messages: Connection | None = None  # from the present process, which has the other end
        self.usage: Usage | None = None
        self.due: float | None = None  # when the next process is to be started, a time.monotonic(); None: never
        self.reaped = False  # whether the end of the present process has been dealt with
        self.verdict: str | None = None  # what it was killed for, by us
        self.silent = 0.0  # seconds without a sign of life
        self._unstartable: str | None = None  # why there is no present process
        self._identity: psutil.Process | None = None  # of the present process, which its number alone is not
        self._beats = self._first_beats = pulse()
        self._lived = False  # whether the present process has shown a sign of life
        self._stillborn = 0  # processes in a row that have not
        self._cpu_seconds: float | None = None  # when a silent process was last found computing
        self._log_start = self._server_log_start = 0

    # -- starting -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process; where that cannot be done it counts as one that has died."""
        self.due, self.reaped, self.verdict, self.process = None, False, None, None
        self.silent, self._lived, self._cpu_seconds = 0.0, False, None
        self._log_start, self._server_log_start = _size(self._log), _size(forkserver_log())
        self.messages, sender = context().Pipe(duplex=False)
        for _ in range(START_ATTEMPTS):
            process = new_process(self._target, self._arguments(sender), self.name, self._needs_main)
            self._beats = self._first_beats = self._pulse()
            try:
                start_process(process)
            except (OSError, EOFError) as error:
                self._unstartable = f"could not be started: {error.__class__.__name__}: {error}"
            else:
                self.process, self._unstartable = process, None
                break
        sender.close()  # the process has its own end now: when that closes, nothing more will come
        if self.process is not None:
            assert self.process.pid is not None
            self.usage = Usage(self.process.pid)
            with contextlib.suppress(psutil.Error):
                self._identity = psutil.Process(self.process.pid)

    def schedule(self, delay: float | None = None) -> None:
        """Have a successor started; at once, or later and later where none shows a sign of life."""
        self._stillborn += not self._lived
        if delay is None:
            delay = min(FIRST_DELAY * 2 ** (self._stillborn - 1), LONGEST_DELAY) if self._stillborn else 0.0
        self.due = time.monotonic() + delay

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def is_over(self) -> bool:
        """Whether there is neither a process nor to be one."""
        return self.reaped and self.due is None

    @property
    def exitcode(self) -> int:
        return LOST if self.process is None else self.process.exitcode or 0

    def receive(self) -> Iterator[tuple[str, Any]]:
        """The messages that have come."""
        try:
            while self.messages is not None and self.messages.poll():
                yield self.messages.recv()
        except (EOFError, OSError):
            self.messages = None

    # -- watching -------------------------------------------------------------------------------------------------

    def listen(self, elapsed: float) -> float:
        """Look for a sign of life; return the seconds of silence that a new one has ended, 0 where there is none."""
        beats = self._pulse()
        if beats == self._beats:
            self.silent += elapsed
            return 0.0
        # The time up to a first sign says how long starting takes, not how long a step may.
        pause = self.silent if self._lived else 0.0
        self._beats, self._cpu_seconds, self.silent = beats, None, 0.0
        if beats - self._first_beats > self._early:
            self._lived, self._stillborn = True, 0
        return pause

    def overdue(self, longest_pause: float) -> float:
        """Seconds by which a sign of life is late, given the longest pause that anybody came back from."""
        return self.silent - self._allowed(longest_pause)

    def computes(self) -> bool:
        """Whether an overdue process only takes long to compute: seen twice in a row, its CPU time has grown."""
        if not self._computing() or self.pid is None:
            return False
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return False
        before, self._cpu_seconds = self._cpu_seconds, times.user + times.system
        return before is None or self._cpu_seconds > before

    def give_up(self, longest_pause: float) -> None:
        """End a process that hangs, having it write to its log where it does."""
        assert self.pid is not None
        what = "environment step" if self._lived else "first environment step"
        allowed = self._allowed(longest_pause)
        self.verdict = f"hung: no {what} for {self.silent:.0f} s, {allowed:.3g} s are allowed ({self.patience.option})"
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
            time.sleep(DUMP_SECONDS)
        self.kill()

    def bound_log(self) -> None:
        """Drop the beginning of a log that an environment has filled."""
        if _size(self._log) > LARGEST_LOG:
            with contextlib.suppress(OSError):
                _keep_end(self._log)
                self._log_start = 0

    def _allowed(self, longest_pause: float) -> float:
        return max(self.patience.step, PATIENCE * longest_pause) if self._lived else self.patience.start

    # -- ending ---------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal the process and whatever its environment has started."""
        if self.pid is None or not self.is_alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number) if _leads_group(self.pid) else os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process, whatever it does, and what its environment has started: as far as that can be found."""
        if self.process is None:
            return
        if sys.platform == "win32":
            self.process.kill()
            return
        for process in self._descendants():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.signal(signal.SIGKILL)

    def reap(self) -> None:
        """Deal with the end of the process: what is left of it or its environment ends too."""
        self.reaped = True
        if sys.platform == "win32" or self.pid is None:
            return
        if self.exitcode == LOST and self._still_runs():  # its forkserver died, and it has not noticed
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end of the process."""
        if self.process is not None:
            self.process.join(seconds)

    def cause(self) -> tuple[str, str]:
        """What the process has died of: in one line, and its traceback or crash report where it left one."""
        report = entry.last_words(self._log, self._log_start)
        if self.verdict is not None:
            return self.verdict, report
        if self._unstartable is not None:
            return self._unstartable, ""
        code = self.exitcode
        if code < 0:
            return f"died: killed by {signal.Signals(-code).name}", report
        if not report and (log := forkserver_log()) is not None:
            report = entry.last_words(log, self._server_log_start)
        if code in (exit_codes.NUMERICS, exit_codes.DISK):  # our own words, which say it all
            return report.splitlines()[-1].partition(": ")[2] if report else "died", ""
        if report:
            return f"died: {report.splitlines()[-1]}", report
        return ("died with its forkserver" if code == LOST else f"died: exit code {code} without a word"), ""

    def _descendants(self) -> list[psutil.Process]:
        """What the process has started, also where that has left its group."""
        try:
            return psutil.Process(self.pid).children(recursive=True) if self.is_alive else []
        except psutil.Error:
            return []

    def _still_runs(self) -> bool:
        return self._identity is not None and self._identity.is_running()


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


def _leads_group(pid: int) -> bool:
    """Whether a process has made its own group yet: before, it is in that of its forkserver."""
    return sys.platform != "win32" and os.getpgid(pid) == pid


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _keep_end(path: Path) -> None:
    """Shorten a file to its end; what is appended meanwhile may be lost."""
    with open(path, "r+b") as file:
        file.seek(-KEPT_LOG, os.SEEK_END)
        end = file.read()
        file.seek(0)
        file.write(b"(the beginning of this log was dropped)\n" + end)
        file.truncate()
