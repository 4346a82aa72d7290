"""One of a run's processes and its successors, as the supervisor sees them."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from workers import ExitCode
from workers.processes.entry import crash_report
from workers.processes.start import context, forkserver_log, start_process

PATIENCE = 5  # times the longest pause that any worker has come back from is not too long for another
RESTART_SECONDS = 600.0  # over which restarts are counted
FIRST_DELAY, LONGEST_DELAY = 0.25, 8.0  # before a process that shows no sign of life is restarted
DUMP_SECONDS = 0.2  # for a process that hangs to log where
START_ATTEMPTS = 3  # a forkserver may die while it starts a process
LOST = 255  # the exit code of a process whose forkserver died: nobody knows how it ended, or whether it has
LARGEST_LOG, KEPT_LOG = 16 * 2**20, 2**20  # bytes of a log at which its beginning is dropped, and of what stays
USAGE_SECONDS = 1.0  # between two readings of a process's CPU time and memory


class Patience(NamedTuple):
    """Seconds without a sign of life that are allowed."""

    start: float  # until the first: imports, environments that are made and reset
    step: float  # between two


@dataclass(eq=False)
class Child:
    """One of the run's processes, and the one that replaces it."""

    name: str
    target: Callable[..., None]
    arguments: Callable[[Connection], tuple[Any, ...]]  # of the next process's target; given the pipe for its messages
    pulse: Callable[[], int]  # a number that changes as long as the process does its work
    patience: Patience
    log: Path
    computing: Callable[[], bool] = lambda: False  # whether it waits for nobody, so that CPU time is a sign of life
    needs_main: bool = False  # its arguments refer to what the user's script defines
    early: int = 0  # signs of life while it gets ready, as for every environment made: it has not lived by that

    def __post_init__(self) -> None:
        self._stillborn = 0  # processes in a row that have shown no sign of life
        self._clear()

    def _clear(self) -> None:
        """Forget the process before."""
        self.process: BaseProcess | None = None  # the present one
        self.messages: Connection | None = None  # from it; it has the other end
        self.due: float | None = None  # when the next process is to be started, a time.monotonic(); None: never
        self.verdict = ""  # why we killed it
        self.silent = 0.0  # seconds without a sign of life
        self.cpu_percent: float | None = None  # of one core, over the last second
        self.memory_bytes: int | None = None
        self.reaped = False
        self._unstartable = ""  # why there is no present process
        self._handle: psutil.Process | None = None  # of the present process, which its number alone is not
        self._lived = False  # whether it has shown a sign of life
        self._seen_computing: float | None = None  # its CPU seconds when it was silent and last asked about
        self._measured = time.monotonic(), 0.0  # and its CPU seconds then
        self._beats = self._first_beats = self.pulse()
        self._log_start, self._server_log_start = _size(self.log), _size(forkserver_log())

    # -- starting -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process; where that cannot be done it counts as one that has died."""
        self._clear()
        self.messages, sender = context().Pipe(duplex=False)
        for _ in range(START_ATTEMPTS):
            process = context().Process(target=self.target, args=self.arguments(sender), name=self.name)
            self._beats = self._first_beats = self.pulse()
            try:
                start_process(process, self.needs_main)
            except (OSError, EOFError) as error:
                self._unstartable = f"could not be started: {error.__class__.__name__}: {error}"
            else:
                self.process, self._unstartable = process, ""
                with suppress(psutil.Error):
                    self._handle = psutil.Process(process.pid)
                break
        sender.close()  # the process has its own end now: when that closes, nothing more will come

    def schedule(self) -> None:
        """Have a successor started: at once, or later and later where none shows a sign of life."""
        self._stillborn += not self._lived
        delay = min(FIRST_DELAY * 2 ** (self._stillborn - 1), LONGEST_DELAY)
        self.due = time.monotonic() + delay * bool(self._stillborn)

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
        """Count silence; return the seconds of it that a new sign of life has ended, 0 where there is none."""
        beats = self.pulse()
        if beats == self._beats:
            self.silent += elapsed
            return 0.0
        # The time up to a first sign says how long starting takes, not how long a step may.
        pause = self.silent if self._lived else 0.0
        self._beats, self._seen_computing, self.silent = beats, None, 0.0
        if beats - self._first_beats > self.early:
            self._lived, self._stillborn = True, 0
        return pause

    def overdue(self, longest_pause: float) -> float:
        """Seconds by which a sign of life is late, given the longest pause that any worker came back from."""
        return self.silent - self._allowed(longest_pause)

    def computes(self) -> bool:
        """Whether an overdue process only takes long to compute: seen twice in a row, its CPU time has grown."""
        before = self._seen_computing
        if self.computing() and self._handle is not None:
            with suppress(psutil.Error):
                self._seen_computing = _cpu_seconds(self._handle)
                return before is None or self._seen_computing > before
        return False

    def kill_hung(self, longest_pause: float) -> None:
        """Kill a process that hangs, after it has logged where."""
        assert self.pid is not None
        what = "environment step" if self._lived else "first environment step"
        allowed = self._allowed(longest_pause)
        self.verdict = f"hung: no {what} for {self.silent:.0f} s, {allowed:.3g} s are allowed (--heartbeat-timeout)"
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
        time.sleep(DUMP_SECONDS)
        self.kill()

    def measure(self) -> None:
        """Refresh CPU share and memory once a second; drop the beginning of a log that an environment has filled."""
        (since, before), now = self._measured, time.monotonic()
        if self._handle is not None and (self.memory_bytes is None or now - since >= USAGE_SECONDS):
            with suppress(psutil.Error):  # a process that is gone keeps its last figures
                cpu_seconds, self.memory_bytes = _cpu_seconds(self._handle), int(self._handle.memory_info().rss)
                self.cpu_percent = 100 * (cpu_seconds - before) / max(now - since, 0.01)
                self._measured = now, cpu_seconds
        if _size(self.log) > LARGEST_LOG:
            with suppress(OSError):
                with open(self.log, "r+b") as file:  # what is appended meanwhile may be lost
                    file.seek(-KEPT_LOG, os.SEEK_END)
                    end = file.read()
                    file.seek(0)
                    file.write(b"(the beginning of this log was dropped)\n" + end)
                    file.truncate()
                self._log_start = 0

    def _allowed(self, longest_pause: float) -> float:
        return max(self.patience.step, PATIENCE * longest_pause) if self._lived else self.patience.start

    # -- ending ---------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Signal the process and whatever its environment has started."""
        if self.pid is not None and self.is_alive:
            with suppress(ProcessLookupError, PermissionError):
                leads = os.getpgid(self.pid) == self.pid  # else it is still in the group of its forkserver
                (os.killpg if leads else os.kill)(self.pid, number)

    def kill(self) -> None:
        """End the process, whatever it does, and what its environment has started, also outside its group."""
        with suppress(psutil.Error):
            for process in self._handle.children(recursive=True) if self._handle and self.is_alive else ():
                with suppress(psutil.Error):
                    process.kill()
        self.signal(signal.SIGKILL)

    def reap(self) -> None:
        """Collect the ended process: what is left of it or of its environment ends too."""
        self.reaped = True
        if self.pid is None:
            return
        with suppress(psutil.Error):
            if self.exitcode == LOST and self._handle is not None:
                self._handle.kill()  # its forkserver died, and it has not noticed
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end of the process."""
        if self.process is not None:
            self.process.join(seconds)

    def cause(self) -> tuple[str, str]:
        """What the process has died of: in one line, and its crash report where it left one."""
        code, report = self.exitcode, crash_report(self.log, self._log_start)
        if self.verdict or self._unstartable:
            return self.verdict or self._unstartable, report if self.verdict else ""
        if code < 0:
            return f"died: killed by {signal.Signals(-code).name}", report
        report = report or crash_report(forkserver_log(), self._server_log_start)
        if code in (ExitCode.NUMERICS, ExitCode.DISK):  # our own error, whose message says it all
            return report.splitlines()[-1].partition(": ")[2] if report else "died", ""
        if report:
            *before, last = report.splitlines()
            said = f"{before[-1]}, {last}" if before and last.startswith(("in step of ", "in reset of ")) else last
            return f"died: {said}", report
        return ("died with its forkserver" if code == LOST else f"died: exit code {code} without a crash report"), ""


class Budget:
    """How many restarts there may be within ten minutes."""

    def __init__(self, restarts: int):
        self.restarts, self.times = restarts, list[float]()

    def take(self) -> bool:
        """Take one; False where none is left."""
        now = time.monotonic()
        self.times = [then for then in self.times if now - then <= RESTART_SECONDS]
        left = len(self.times) < self.restarts
        self.times += [now] * left
        return left

    def __str__(self) -> str:
        return f"{self.restarts:,} restart{'s' * (self.restarts != 1)}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _cpu_seconds(handle: psutil.Process) -> float:
    times = handle.cpu_times()
    return float(times.user + times.system)
