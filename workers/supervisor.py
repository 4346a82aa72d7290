"""The supervisor: starts the processes, watches them, replaces them, stops them, and tells how the run ended."""

import signal
import time
from multiprocessing.connection import wait
from typing import Any

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.evaluation import batch_size
from shared.notifier import Notifier
from shared.scoreboard import CLOSE, FINISH, RUN, STOP, Scoreboard
from workers import actor_learner, checkpointer, exit_codes, monitor
from workers.assembly import build_store
from workers.console.drawing import plural
from workers.processes.child import LOST, Budget, Child, Patience
from workers.processes.limits import crowding
from workers.processes.signals import Signals
from workers.runs.directory import RunDirectory
from workers.runs.evaluations import Evaluations
from workers.runs.log import Report, View
from workers.runs.records import Summary, WorkerStatus
from workers.runs.resume import Resumed, cut_back

TICK_SECONDS = 0.2  # between two looks at the scoreboard
AWAKE_SECONDS = 1.0  # a longer time between two looks is one in which this process did not run, and maybe nobody did
START_SECONDS = 60.0  # for imports, and for environments to be made and reset
PATIENCE = 5  # times what an environment has shown to take is not too long
SAVE_SECONDS = 300.0  # for one save: a disk may be slow
PUSH_LOCK = ".push-lock"  # in the run directory, for --mode locked
STOP_SECONDS = 3.0  # a process that has not followed a request to stop by then is killed
LAST_CHANCE = 1.0  # seconds to show life, for those who may have waited for a process that has been given up
CLOSING_RESTARTS = 3  # of a checkpointer that dies while it saves the end


class Supervisor:
    """Owns the processes of one run. Its process is the only one that the terminal's signals reach."""

    def __init__(
        self,
        config: Config,
        environment: EnvironmentSpec,
        directory: RunDirectory,
        dashboard: View,
        signals: Signals,
        started: float,
        resumed: Resumed | None = None,
    ):
        self._config, self._environment = config, environment
        self._directory, self._dashboard = directory, dashboard
        self._scoreboard = Scoreboard(config.workers)
        self._scoreboard.began = started
        self._store = build_store(config, environment, self._scoreboard, directory.path / PUSH_LOCK)
        if resumed is not None:
            resumed.restore(self._store, self._scoreboard)
            resumed = cut_back(directory.path, resumed)  # now that nothing can be found not to fit
        self._resumed = resumed
        self._report = Report(config, environment, self._scoreboard, self._store, directory, dashboard, resumed)
        self._evaluations = Evaluations(self._report.progress)
        self._notifier = Notifier()  # wakes the checkpointer
        self._workers = [self._worker(index) for index in range(config.workers)]
        self._monitor = self._new_monitor() if config.evaluation.eval_episodes else None
        self._checkpointer = self._new_checkpointer()
        self._budget = Budget(config.supervision.max_restarts)
        self._signals = signals
        self._saves = signals.saves
        self._looked = time.monotonic()
        self._longest_pause = 0.0  # without an environment step, that a worker has come back from
        self._reports: set[str] = set()  # of deaths, shown already
        self._forkserver_losses = 0  # of children with the forkserver that died, and one death in the budget
        self._closing_restarts = 0
        self._stop_deadline: float | None = None  # when a stop has been asked for, by whomever
        self._close_deadline: float | None = None
        self._phase = "starting"
        self._reason = ""
        self.exit_code = 0

    def run(self) -> Summary:
        """Train to the end, whichever it is."""
        self._signals.suspending = self._signal_all
        try:
            self._start()
            while not all(child.is_over for child in self._children()):
                self._wait()
                self._read_messages()
                self._obey()
                self._reap()
                self._advance()
                self._revive()
                if time.monotonic() - self._looked >= TICK_SECONDS:
                    self._look()
        finally:
            self._signals.suspending = lambda number: None
            self._kill(self._children())
        self._read_messages()
        status, reason = self._ending()
        self._report.end(status, self._worker_statuses, self._monitor_cpu_percent())
        summary = self._report.summary(status, reason, self.exit_code)
        if self._directory.failure and not self.exit_code:
            self.exit_code = exit_codes.DISK
        return summary

    # -- starting -------------------------------------------------------------------------------------------------

    def _worker(self, index: int) -> Child:
        shared = (self._config, self._environment, self._store, self._scoreboard, self._directory.path)
        return Child(
            f"worker-{index}",
            actor_learner.main,
            lambda _messages: (index, self._scoreboard.incarnation(index), *shared),
            lambda: self._scoreboard.beats(index),
            self._patience(self._config.envs_per_worker, self._config.env_latency_ms / 1000),
            self._log(f"worker-{index}"),
            lambda: self._scoreboard.is_learning(index),
            self._environment.needs_main,
            early=self._config.envs_per_worker,
        )

    def _new_monitor(self) -> Child:
        shared = (self._config, self._environment, self._store, self._scoreboard, self._evaluations, self._notifier)
        options = self._config.evaluation
        patience = self._patience(batch_size(self._environment, options.eval_episodes, options.eval_envs), 0.0)
        return Child(
            "monitor",
            monitor.main,
            lambda messages: (*shared, messages, self._directory.path),
            lambda: self._scoreboard.beats(self._scoreboard.monitor),
            Patience(patience.start, max(patience.step, START_SECONDS), patience.option),
            self._log("monitor"),
            needs_main=self._environment.needs_main,
        )

    def _new_checkpointer(self) -> Child:
        shared = (self._config, self._environment, self._store, self._scoreboard, self._evaluations, self._notifier)
        return Child(
            "checkpointer",
            checkpointer.main,
            lambda messages: (*shared, messages, self._directory.path, self._dashboard.terminal),
            lambda: self._scoreboard.beats(self._scoreboard.checkpointer),
            Patience(START_SECONDS, SAVE_SECONDS),
            self._log("checkpointer"),
            needs_main=self._environment.needs_main,
        )

    def _patience(self, environments: int, latency: float) -> Patience:
        """With a process that steps so many environments, given what a single one has shown to take."""
        pace = self._environment.pace
        step = max(pace.make_seconds, pace.reset_seconds, environments * (pace.step_seconds + latency))
        start = START_SECONDS + PATIENCE * step
        return Patience(start, max(self._config.supervision.heartbeat_timeout, PATIENCE * step))

    def _log(self, name: str) -> Any:
        return self._directory.path / "logs" / f"{name}.log"

    def _start(self) -> None:
        for child in self._children():
            child.start()
        self._phase = "training"
        kind, what = ("started", "") if self._resumed is None else ("resumed", f"; {self._resumed.words()}")
        others = " and a monitor" if self._monitor else ", no evaluations"
        self._report.event(kind, f"{plural(self._config.workers, 'worker')}{others}, seed {self._config.seed}{what}")
        if (line := crowding(self._config)) is not None:
            self._report.event("warning", line)
        self._directory.write_config(self._config, self._environment.facts())

    # -- watching -------------------------------------------------------------------------------------------------

    def _players(self) -> list[Child]:
        """Those who run environments."""
        return [*self._workers, *([self._monitor] if self._monitor else [])]

    def _children(self) -> list[Child]:
        return [*self._players(), self._checkpointer]

    def _wait(self) -> None:
        """Until a process ends, somebody says something, or it is time for the next look at the board."""
        waited: list[Any] = [child.process.sentinel for child in self._children() if child.process and child.is_alive]
        waited += [child.messages for child in self._children() if child.messages is not None]
        if self._signals.alarm in wait([*waited, self._signals.alarm], timeout=TICK_SECONDS):
            self._signals.acknowledge()

    def _read_messages(self) -> None:
        for child in self._children():
            for kind, data in child.receive():
                self._report.take(kind, data)

    def _look(self) -> None:
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for child in self._children():
            child.bound_log()
            if child.usage is not None:
                child.usage.look()
        self._report.look(self._phase, self._worker_statuses, self._monitor_cpu_percent())
        self._listen(min(elapsed, AWAKE_SECONDS))

    def _listen(self, elapsed: float) -> None:
        """Give up whoever has shown no sign of life for too long; one at a time, for others may be waiting for it."""
        alive = [child for child in self._children() if child.is_alive]
        for child in alive:
            pause = child.listen(elapsed)
            if child in self._workers:
                self._longest_pause = max(self._longest_pause, pause)
        if self._stop_deadline is not None or not alive:
            return
        late = max(alive, key=lambda child: child.overdue(self._longest_pause))
        if late.overdue(self._longest_pause) <= 0:
            return
        if late.computes():
            late.silent -= LAST_CHANCE
            return
        late.give_up(self._longest_pause)
        for child in alive:
            child.silent = min(child.silent, max(child.patience.step - LAST_CHANCE, 0.0))

    def _monitor_cpu_percent(self) -> float | None:
        return self._monitor.usage.cpu_percent if self._monitor and self._monitor.usage else None

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
        return self._report.telemetry.worker(index, child.pid, state, child.usage, self._scoreboard.incarnation(index))

    # -- replacing ------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Deal with the processes that have ended since the last look."""
        for child in self._children():
            if child.is_alive or child.reaped:
                continue
            child.reap()
            self._read_messages()
            if child.exitcode != 0 or not self._may_end(child):
                self._died(child)

    def _may_end(self, child: Child) -> bool:
        request = self._scoreboard.requested()
        if child is self._checkpointer:
            return request == CLOSE
        return request != RUN or self._report.solved is not None or self._budget_is_spent()

    def _budget_is_spent(self) -> bool:
        return self._store.env_steps >= self._config.max_env_steps

    def _died(self, child: Child) -> None:
        """Tell what a process died of, and have it replaced; where that cannot help, stop the run."""
        if child.exitcode <= 0 and self._was_killed(child):
            return
        cause, report = child.cause()
        lost = self._is_lost(child)
        if not lost:
            pid = f"pid {child.pid}, " if child.pid else ""
            self._report.event(
                "hung" if child.verdict else "crashed",
                f"{child.name}{self._seed_of(child)} {cause} ({pid}logs/{child.name}.log)",
            )
        if report and report not in self._reports:
            self._reports.add(report)
            self._dashboard.traceback(report)
        if child.exitcode in (exit_codes.NUMERICS, exit_codes.DISK):
            self._fail(child.exitcode, f"{child.name} {cause}")
        elif child is self._monitor:
            self._replace_monitor(child)
        elif child is self._checkpointer:
            self._replace_checkpointer(child, cause)
        elif self._stop_deadline is None:
            self._replace_worker(child, cause, free=lost)

    def _was_killed(self, child: Child) -> bool:
        """Whether this was our doing: it did not end when it was asked to."""
        deadline = self._close_deadline if child is self._checkpointer else self._stop_deadline
        return deadline is not None and (time.monotonic() > deadline or len(self._signals.seen) > 1)

    def _is_lost(self, child: Child) -> bool:
        """Whether a process's forkserver died, and others with it: told once, and one restart for all of them."""
        if child.exitcode != LOST or child.process is None:
            return False
        self._forkserver_losses += 1
        if self._forkserver_losses % len(self._children()) == 1:
            self._report.event("crashed", "Python's forkserver died; its processes are replaced")
            return False
        return True

    def _seed_of(self, child: Child) -> str:
        """The seed of a worker's generators; where it is a successor, its number is a part of it."""
        if child not in self._workers:
            return ""
        index = self._workers.index(child)
        succession = [self._scoreboard.incarnation(index)] if self._scoreboard.incarnation(index) else []
        return f" (seed {'/'.join(map(str, [self._config.seed, index, *succession]))})"

    def _replace_worker(self, child: Child, cause: str, free: bool) -> None:
        """Clear up after a dead worker, so that nobody waits for it, and have another one started."""
        if not free and not self._budget.take():
            budget = plural(self._budget.restarts, "restart")
            spent = f"; the budget of {budget} within ten minutes is spent (--max-restarts)"
            self._fail(exit_codes.WORKER, f"{child.name} {cause}{spent}")
            return
        index = self._workers.index(child)
        self._store.close_push(index)
        self._store.barrier.forget(index)
        self._scoreboard.replace(index)
        child.schedule()

    def _replace_monitor(self, child: Child) -> None:
        """However often it dies, training goes on; its successor leaves evaluations alone for longer and longer."""
        self._scoreboard.count("monitor_restarts")
        if self._stop_deadline is None:
            child.schedule()

    def _replace_checkpointer(self, child: Child, cause: str) -> None:
        self._scoreboard.count("checkpointer_restarts")
        if self._close_deadline is None:
            child.schedule()
        elif self._closing_restarts < CLOSING_RESTARTS:
            self._closing_restarts += 1
            child.schedule()
        elif not self.exit_code:
            self._fail(exit_codes.WORKER, f"{child.name} {cause}; the last checkpoint is not saved")

    def _revive(self) -> None:
        """Start those processes whose time has come; a forkserver that has died takes its time to be there again."""
        for child in [self._checkpointer, *self._players()]:
            if child.due is None or time.monotonic() < child.due:
                continue
            if self._signals.seen and self._stop_deadline is None:
                return  # first things first
            if child in self._workers and self._may_end(child):
                child.due = None
                continue
            child.start()
            if child.pid is not None:
                taken = f"; {self._budget.taken} of {plural(self._budget.restarts, 'restart')}"
                self._report.event(
                    "restarted",
                    f"{child.name}{self._seed_of(child)}, pid {child.pid}{taken if child in self._workers else ''}",
                )

    def _fail(self, code: int, reason: str) -> None:
        if not self.exit_code:
            self.exit_code, self._reason = code, reason
        if self._stop_deadline is None:
            self._stop()

    # -- stopping -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Follow the user's signals, and end those that do not follow a request to stop."""
        seen = self._signals.seen
        if self._signals.saves != self._saves:
            self._saves = self._signals.saves
            self._report.event("saving", "a checkpoint, since SIGUSR1 asks for it")
            self._scoreboard.request_save()
            self._notifier.notify()
        if seen and self._stop_deadline is None:
            name = signal.Signals(seen[0]).name
            self._reason = f"interrupted by {name}"
            self._report.event("interrupted", f"{name}: saving a checkpoint; once more to leave at once")
            self._stop()
        elif self._report.solved and self._stop_deadline is None:
            self._stop()
        if len(seen) > 1:
            self._kill(self._children())
        if self._stop_deadline is not None and time.monotonic() > self._stop_deadline:
            self._kill(self._players())
        if self._close_deadline is not None and time.monotonic() > self._close_deadline:
            self._kill([self._checkpointer])

    def _advance(self) -> None:
        """When all workers have ended the monitor finishes, and when that has too the checkpointer closes."""
        request = self._scoreboard.requested()
        if all(child.is_over for child in self._workers) and request == RUN:
            self._phase = "verifying"
            self._scoreboard.request(FINISH)
            self._notifier.notify()
        if all(child.is_over for child in self._players()) and request in (FINISH, STOP):
            self._scoreboard.request(CLOSE)
            self._notifier.notify()
            self._close_deadline = time.monotonic() + SAVE_SECONDS
            if self._checkpointer.is_over and len(self._signals.seen) < 2:
                self._checkpointer.start()

    def _stop(self) -> None:
        self._phase = "stopping"
        self._stop_deadline = time.monotonic() + STOP_SECONDS
        if self._scoreboard.requested() != CLOSE:
            self._scoreboard.request(STOP)
            self._notifier.notify()
        for child in self._players():
            child.due = None

    def _signal_all(self, number: int) -> None:
        for child in self._children():
            child.signal(number)

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            child.due = None
            child.kill()
        for child in children:
            child.join()

    def _ending(self) -> tuple[str, str]:
        """The run's status and why; sets the exit code that belongs to it."""
        solved = self._report.solved
        if solved is not None and self.exit_code != exit_codes.DISK:
            self.exit_code = 0
            return "solved", f"reached {solved.mean:.1f} over {solved.episodes} episodes with fresh seeds"
        if self.exit_code:
            return "failed", self._reason
        if self._signals.seen:
            self.exit_code = 128 + self._signals.seen[0]
            return "interrupted", self._reason
        return "budget_exhausted", f"the budget of {self._config.max_env_steps:,} env steps is spent"
