"""The supervisor: starts the processes, watches them, replaces them, stops them, and tells how the run ended."""

import signal
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.board import FINISH, RUN, STOP, Board
from workers import actor_learner, exit_codes, monitor
from workers.assembly import build_store
from workers.child import Budget, Child
from workers.drawing import plural
from workers.launch import context
from workers.limits import crowding
from workers.report import Report, View
from workers.resume import Resumed, cut_back
from workers.run_directory import RunDirectory
from workers.signals import Signals
from workers.status import Summary, WorkerStatus

TICK_SECONDS = 0.2  # between two looks at the board
AWAKE_SECONDS = 1.0  # a longer time between two looks is one in which this process did not run, and maybe nobody did
MONITOR_SECONDS = 60.0  # without a sign of life: a disk may be slow
PUSH_LOCK = ".push-lock"  # in the run directory, for --mode locked
STOP_SECONDS = 3.0  # a process that has not followed a request to stop by then is killed
LAST_CHANCE = 1.0  # seconds to show life, for those who may have waited for a process that has been given up


class Supervisor:
    """Owns the processes of one run. Its process is the only one that the terminal's signals reach."""

    def __init__(self, config: Config, environment: EnvironmentSpec, directory: RunDirectory, dashboard: View,
                 signals: Signals, started: float, resumed: Resumed | None = None):  # fmt: skip
        self._config, self._environment = config, environment
        self._directory, self._dashboard = directory, dashboard
        self._board = Board(config.workers)
        self._board.began = started
        self._store = build_store(config, environment, self._board, directory.path / PUSH_LOCK)
        if resumed is not None:
            resumed.restore(self._store, self._board)
            resumed = cut_back(directory.path, resumed)  # now that nothing can be found not to fit
        self._resumed = resumed
        self._report = Report(config, environment, self._board, self._store, directory, dashboard, resumed)
        self._workers = [self._worker(index) for index in range(config.workers)]
        self._monitor = Child("monitor", monitor.main, self._monitor_arguments, self._beats(config.workers),
                              MONITOR_SECONDS, directory.path / "logs" / "monitor.log")  # fmt: skip
        self._messages: Connection | None = None  # from the monitor
        self._sender: Connection | None = None
        self._budget = Budget(config.supervision.max_restarts)
        self._signals = signals
        self._looked = time.monotonic()
        self._longest_pause = 0.0  # without an environment step, that a worker has come back from
        self._reports: set[str] = set()  # of deaths, shown already
        self._stop_deadline: float | None = None  # when a stop has been asked for, by whomever
        self._phase = "starting"
        self._reason = ""
        self.exit_code = 0

    def run(self) -> Summary:
        """Train to the end, whichever it is."""
        try:
            self._start()
            while not all(child.buried and child.due is None for child in self._children()):
                self._wait()
                self._read_messages()
                self._obey()
                self._bury()
                self._revive()
                if time.monotonic() - self._looked >= TICK_SECONDS:
                    self._look()
        finally:
            self._kill(self._children())
        self._read_messages()
        status, reason = self._ending()
        self._report.end(status, self._worker_statuses, self._monitor_cpu_percent())
        summary = self._report.summary(status, reason)
        if self._directory.failure and not self.exit_code:
            self.exit_code = exit_codes.DISK
        return summary

    # -- starting -------------------------------------------------------------------------------------------------

    def _worker(self, index: int) -> Child:
        shared = (self._config, self._environment, self._store, self._board, self._directory.path)
        log = self._directory.path / "logs" / f"worker-{index}.log"
        return Child(f"worker-{index}", actor_learner.main, lambda: (index, self._board.incarnation(index), *shared),
                     self._beats(index), self._config.supervision.heartbeat_timeout, log)  # fmt: skip

    def _beats(self, index: int) -> Any:
        return lambda: self._board.beats(index)

    def _monitor_arguments(self) -> tuple[Any, ...]:
        """Each monitor has a pipe of its own: what a dead one left half said ends with it."""
        self._messages, self._sender = context().Pipe(duplex=False)
        progress = self._report.monitor_progress()
        return (self._config, self._environment, self._store, self._board, self._sender, self._directory.path,
                progress, self._dashboard.terminal)  # fmt: skip

    def _start(self) -> None:
        for child in self._children():
            self._fill(child)
        self._phase = "training"
        kind, what = ("started", "") if self._resumed is None else ("resumed", f"; {self._resumed.words()}")
        self._report.event(
            kind, f"{plural(self._config.workers, 'worker')} and a monitor, seed {self._config.seed}{what}"
        )
        if (line := crowding(self._config)) is not None:
            self._report.event("warning", line)
        self._directory.write_config(self._config, self._environment.facts())

    def _fill(self, child: Child) -> None:
        child.start()
        if self._sender is not None:
            self._sender.close()  # the monitor has its own end now: when that closes, nothing more will come
            self._sender = None

    # -- watching -------------------------------------------------------------------------------------------------

    def _children(self) -> list[Child]:
        return [*self._workers, self._monitor]

    def _wait(self) -> None:
        """Until a process ends, the monitor says something, or it is time for the next look at the board."""
        waited: list[Any] = [child.process.sentinel for child in self._children() if child.process and child.is_alive]
        if self._messages is not None:
            waited.append(self._messages)
        if self._signals.alarm in wait([*waited, self._signals.alarm], timeout=TICK_SECONDS):
            self._signals.acknowledge()

    def _read_messages(self) -> None:
        try:
            while self._messages is not None and self._messages.poll():
                self._report.take(*self._messages.recv())
        except (EOFError, OSError):
            self._messages = None

    def _look(self) -> None:
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for child in self._children():
            if child.usage is not None:
                child.usage.look()
        self._report.look(self._phase, self._worker_statuses, self._monitor_cpu_percent())
        self._listen(min(elapsed, AWAKE_SECONDS))

    def _listen(self, elapsed: float) -> None:
        """Give up whoever has shown no sign of life for too long; one at a time, for others may be waiting for it."""
        alive = [child for child in self._children() if child.is_alive]
        for child in alive:
            pause = child.listen(elapsed)
            if child is not self._monitor:
                self._longest_pause = max(self._longest_pause, pause)
        if self._stop_deadline is not None or not alive:
            return
        late = max(alive, key=lambda child: child.overdue(self._longest_pause))
        if late.overdue(self._longest_pause) > 0:
            late.give_up()
            for child in alive:
                child.silent = min(child.silent, child.timeout - LAST_CHANCE)

    def _monitor_cpu_percent(self) -> float | None:
        return self._monitor.usage.cpu_percent if self._monitor.usage else None

    def _worker_statuses(self) -> list[WorkerStatus]:
        return [self._worker_status(index) for index in range(len(self._workers))]

    def _worker_status(self, index: int) -> WorkerStatus:
        child = self._workers[index]
        if child.is_alive:
            state = "running" if self._report.telemetry.rows["started"][index] else "starting"
        elif child.due is not None:
            state = "restarting"
        else:
            state = "dead" if child.exitcode else "stopped"
        assert child.process is not None and child.usage is not None
        return self._report.telemetry.worker(
            index, child.process.pid, state, child.usage, self._board.incarnation(index)
        )

    # -- replacing ------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Deal with the processes that have ended since the last look."""
        for child in self._children():
            if child.is_alive or child.buried:
                continue
            child.buried = True
            if child is self._monitor:
                self._read_messages()
            if child.exitcode != 0 or not self._may_end():
                self._died(child)
        workers_done = all(child.buried and child.due is None for child in self._workers)
        if workers_done and self._phase == "training" and not self._board.requested():
            self._phase = "verifying"
            self._board.request(FINISH)

    def _may_end(self) -> bool:
        over = self._board.requested() != RUN or self._report.solved is not None
        return over or self._store.env_steps >= self._config.max_env_steps

    def _died(self, child: Child) -> None:
        """Tell what a process died of, and have it replaced; where that cannot help, stop the run."""
        code = child.exitcode
        if code <= 0 and self._stop_deadline is not None:
            return  # killed for not ending when it was asked to
        cause, report = child.cause()
        assert child.process is not None
        self._report.event("hung" if child.verdict else "crashed",
                           f"{child.name}{self._seed_of(child)} {cause} (pid {child.process.pid}, "
                           f"logs/{child.name}.log)")  # fmt: skip
        if report and report not in self._reports:
            self._reports.add(report)
            self._dashboard.traceback(report)
        if code in (exit_codes.NUMERICS, exit_codes.DISK):
            self._fail(code, f"{child.name} {cause}")
        elif self._stop_deadline is not None:
            return
        elif not self._budget.take():
            budget = plural(self._budget.restarts, "restart")
            spent = f"; the budget of {budget} within ten minutes is spent (--max-restarts)"
            self._fail(exit_codes.WORKER, f"{child.name} {cause}{spent}")
        else:
            self._give_place(child)

    def _seed_of(self, child: Child) -> str:
        """The seed of a worker's generators; where it is a successor, its number is a part of it."""
        if child is self._monitor:
            return ""
        index = self._workers.index(child)
        succession = [self._board.incarnation(index)] if self._board.incarnation(index) else []
        return f" (seed {'/'.join(map(str, [self._config.seed, index, *succession]))})"

    def _give_place(self, child: Child) -> None:
        """Make a dead process's place ready for its successor, so that nobody waits for the dead one."""
        if child is self._monitor:
            self._board.count("monitor_restarts")
        else:
            index = self._workers.index(child)
            self._store.settle(index)
            self._store.deposits.clear(index)
            self._board.replace(index)
        child.schedule()

    def _revive(self) -> None:
        """Start those processes whose time has come."""
        for child in self._children():
            if child.due is None or time.monotonic() < child.due:
                continue
            if self._may_end() and child is not self._monitor:
                child.due = None
                continue
            self._fill(child)
            assert child.process is not None
            self._report.event("restarted", f"{child.name}{self._seed_of(child)}, pid {child.process.pid}; "
                               f"{self._budget.taken} of {self._budget.restarts} restarts")  # fmt: skip

    def _fail(self, code: int, reason: str) -> None:
        self.exit_code, self._reason = code, reason
        if self._stop_deadline is None:
            self._stop()

    # -- stopping -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Follow the user's signals, and end those that do not follow a request to stop."""
        seen = self._signals.seen
        if seen and self._stop_deadline is None:
            name = signal.Signals(seen[0]).name
            self._reason = f"interrupted by {name}"
            self._report.event("interrupted", f"{name}: saving a checkpoint; once more to leave at once")
            self._stop()
        elif self._report.solved and self._stop_deadline is None:
            self._stop()  # the monitor has saved everything
        if len(seen) > 1 or (self._stop_deadline is not None and time.monotonic() > self._stop_deadline):
            self._kill(self._children())

    def _stop(self) -> None:
        self._phase = "stopping"
        self._stop_deadline = time.monotonic() + STOP_SECONDS
        self._board.request(STOP)
        for child in self._children():
            child.due = None

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            child.due = None
            child.kill()
        for child in children:
            if child.process is not None:
                child.process.join()

    def _ending(self) -> tuple[str, str]:
        """The run's status and why; sets the exit code that belongs to it."""
        solved = self._report.solved
        if solved is not None:
            self.exit_code = 0
            return "solved", f"reached {solved.mean:.1f} over {solved.episodes} episodes with fresh seeds"
        if self.exit_code:
            return "failed", self._reason
        if self._signals.seen:
            self.exit_code = 128 + self._signals.seen[0]
            return "interrupted", self._reason
        return "budget_exhausted", f"the budget of {self._config.max_env_steps:,} env steps is spent"
