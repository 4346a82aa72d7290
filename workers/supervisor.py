"""The supervisor: starts the processes, watches them, stops them, and tells how the run ended."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.board import FINISH, RUN, STOP, SUPERVISOR, Board
from workers import actor_learner, border, exit_codes, monitor
from workers.assembly import build_store
from workers.drawing import plural
from workers.launch import context, inherited
from workers.report import Report, View
from workers.run_directory import RunDirectory
from workers.status import Summary, WorkerStatus
from workers.usage import Usage

TICK_SECONDS = 0.2  # between two looks at the board
PUSH_LOCK = ".push-lock"  # in the run directory, for --mode locked
STOP_SECONDS = 3.0  # a process that has not followed a request to stop by then is killed


class Supervisor:
    """Owns the processes of one run. Its process is the only one that the terminal's signals reach."""

    def __init__(self, config: Config, environment: EnvironmentSpec, directory: RunDirectory, dashboard: View,
                 started: float):  # fmt: skip
        self._config, self._environment = config, environment
        self._directory, self._dashboard = directory, dashboard
        self._board = Board(config.workers)
        self._store = build_store(config, environment, self._board, directory.path / PUSH_LOCK)
        self._report = Report(config, environment, self._board, self._store, directory, dashboard, started)
        self._workers: list[BaseProcess] = []
        self._monitor: BaseProcess | None = None
        self._messages: Connection | None = None  # from the monitor
        self._usage: dict[str, Usage] = {}
        self._buried: set[str] = set()  # names of the processes whose end has been dealt with
        self._signals: list[int] = []
        self._alarm, self._bell = context().Pipe(duplex=False)  # wakes the wait below when a signal has come
        self._looked = 0.0
        self._stop_deadline: float | None = None  # when a stop has been asked for, by whomever
        self._phase = "starting"
        self._reason = ""
        self.exit_code = 0

    def run(self) -> Summary:
        """Train to the end, whichever it is."""
        with self._listening_to_signals():
            try:
                self._start()
                while self._alive():
                    self._wait()
                    self._read_messages()
                    self._obey()
                    self._bury()
                    if time.monotonic() - self._looked >= TICK_SECONDS:
                        self._look()
            finally:
                self._kill(self._processes())
        self._read_messages()
        status, reason = self._ending()
        self._report.end(status, self._worker_statuses, self._usage["monitor"].cpu_percent)
        return self._report.summary(status, reason)

    # -- starting -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._messages, sender = context().Pipe(duplex=False)
        shared, path = (self._config, self._environment, self._store, self._board), self._directory.path
        for index in range(self._config.workers):
            self._workers.append(self._spawn(f"worker-{index}", actor_learner.main, (index, *shared, path)))
        self._monitor = self._spawn("monitor", monitor.main, (*shared, sender, path))
        sender.close()  # the monitor has its own end now: when that closes, nothing more will come
        self._phase = "training"
        self._report.event(
            "started", f"{plural(self._config.workers, 'worker')} and a monitor, seed {self._config.seed}"
        )
        self._directory.write_config(self._config, self._environment.facts())

    def _spawn(self, name: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
        process: BaseProcess = context().Process(target=target, args=arguments, name=name)  # type: ignore[attr-defined]
        with inherited():
            process.start()
        assert process.pid is not None
        self._usage[name] = Usage(process.pid)
        return process

    # -- watching -------------------------------------------------------------------------------------------------

    def _processes(self) -> list[BaseProcess]:
        return [*self._workers, *([self._monitor] if self._monitor else [])]

    def _alive(self) -> list[BaseProcess]:
        return [process for process in self._processes() if process.is_alive()]

    def _wait(self) -> None:
        """Until a process ends, the monitor says something, or it is time for the next look at the board."""
        waited: list[Any] = [process.sentinel for process in self._alive()]
        if self._messages is not None:
            waited.append(self._messages)
        if self._alarm in wait([*waited, self._alarm], timeout=TICK_SECONDS):
            self._alarm.recv_bytes()

    def _read_messages(self) -> None:
        try:
            while self._messages is not None and self._messages.poll():
                self._report.take(*self._messages.recv())
        except EOFError:
            self._messages = None

    def _bury(self) -> None:
        """Deal with the processes that have ended since the last look."""
        for process in self._processes():
            if process.is_alive() or process.name in self._buried:
                continue
            self._buried.add(process.name)
            if process.exitcode != 0 or not self._may_end():
                self._crashed(process)
        workers_done = all(worker.name in self._buried for worker in self._workers)
        if workers_done and self._phase == "training" and not self._board.requested():
            self._phase = "verifying"
            self._board.request(SUPERVISOR, FINISH)

    def _may_end(self) -> bool:
        return self._board.requested() != RUN or self._store.env_steps >= self._config.max_env_steps

    def _crashed(self, process: BaseProcess) -> None:
        """Tell what a process died of, and stop the run. (The place where restarts will be decided.)"""
        code = process.exitcode or 0
        if code <= 0 and self._stop_deadline is not None:
            return  # killed for not ending when it was asked to
        report = border.last_words(self._directory.path / "logs" / f"{process.name}.log")
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code} without a word"
        cause = report.splitlines()[-1] if report and code >= 0 else ended
        known = (exit_codes.NUMERICS, exit_codes.DISK)
        self.exit_code = code if code in known else exit_codes.WORKER
        self._reason = f"{process.name} died: {cause}"
        self._report.event("crashed", f"{self._reason} (logs/{process.name}.log)")
        if report:
            self._dashboard.traceback(report)
        if self._stop_deadline is None:
            self._stop()

    def _look(self) -> None:
        self._looked = time.monotonic()
        for usage in self._usage.values():
            usage.look()
        self._report.look(self._phase, self._worker_statuses, self._usage["monitor"].cpu_percent)

    def _worker_statuses(self) -> list[WorkerStatus]:
        return [self._worker_status(index) for index in range(len(self._workers))]

    def _worker_status(self, index: int) -> WorkerStatus:
        process = self._workers[index]
        if process.is_alive():
            state = "running" if self._report.telemetry.rows["started"][index] else "starting"
        else:
            state = "dead" if process.exitcode else "stopped"
        return self._report.telemetry.worker(index, process.pid, state, self._usage[process.name])

    # -- stopping -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Follow the user's signals, and end those that do not follow a request to stop."""
        if self._signals and self._stop_deadline is None:
            name = signal.Signals(self._signals[0]).name
            self._reason = f"interrupted by {name}"
            self._report.event("interrupted", f"{name}: saving a checkpoint; once more to leave at once")
            self._stop()
        elif self._stop_deadline is None and self._board.requested() == STOP:  # solved, says the monitor
            self._stop_deadline = time.monotonic() + STOP_SECONDS
        if len(self._signals) > 1:
            self._kill(self._processes())
        elif self._stop_deadline is not None and time.monotonic() > self._stop_deadline:
            # Where it is solved, the monitor has the time it needs to save; on a signal, the user decides.
            self._kill(self._processes() if self._board.requested_by(SUPERVISOR) else self._workers)

    def _stop(self) -> None:
        self._phase = "stopping"
        self._stop_deadline = time.monotonic() + STOP_SECONDS
        self._board.request(SUPERVISOR, STOP)

    def _kill(self, processes: list[BaseProcess]) -> None:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()

    def _ending(self) -> tuple[str, str]:
        """The run's status and why; sets the exit code that belongs to it."""
        solved = self._report.solved
        if solved is not None:
            self.exit_code = 0
            return "solved", f"reached {solved.mean:.1f} over {solved.episodes} episodes with fresh seeds"
        if self.exit_code:
            return "failed", self._reason
        if self._signals:
            self.exit_code = 128 + self._signals[0]
            return "interrupted", self._reason
        return "budget_exhausted", f"the budget of {self._config.max_env_steps:,} env steps is spent"

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        """Collect the signals that ask for an end; where train() was called from another thread there are none.

        A signal that was ignored when the program was started (`nohup`, a script's `&`) stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        numbers = [getattr(signal, name) for name in names]
        listened = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in listened}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        self._bell.send_bytes(b"!")
