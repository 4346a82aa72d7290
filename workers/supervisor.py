"""The supervisor: starts the processes of a run, watches them, replaces them, stops them."""

import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from shared.scoreboard import CLOSE, FINISH, RUN, STOP
from workers import exit_codes
from workers.processes.child import LOST, Budget, Child
from workers.processes.signals import Signals
from workers.runs.evaluations import SharedRun
from workers.runs.log import RunLog
from workers.runs.records import Summary, WorkerStatus

TICK_SECONDS = 0.2  # between two ticks: telemetry, signs of life
AWAKE_SECONDS = 1.0  # a longer time between two ticks is one in which this process did not run, and maybe no other
STOP_SECONDS = 3.0  # a process that has not followed a request to stop by then is killed
SAVE_SECONDS = 300.0  # for one save: a disk may be slow
LAST_CHANCE = 1.0  # seconds to show life, for those that may have waited for a process that was killed
CLOSING_RESTARTS = 3  # of a checkpointer that dies while it saves the end


class Supervisor:
    """Owns the processes of one run. Its process is the only one that the terminal's signals reach.

    A run goes through the scoreboard's requests: RUN, until every worker has ended or a stop is due; FINISH, for the
    monitor's last evaluations, or STOP, for an end within seconds; CLOSE, for the checkpointer's last save.
    """

    def __init__(
        self,
        run: SharedRun,
        log: RunLog,
        signals: Signals,
        workers: Sequence[Child],
        monitor: Child | None,
        checkpointer: Child,
    ):
        self._config, _, self._store, self._scoreboard, _, self._notifier, _ = run
        self._log, self._signals = log, signals
        self._workers, self._monitor, self._checkpointer = list(workers), monitor, checkpointer
        self._actors = [*workers, *([monitor] if monitor else [])]  # which run environments
        self._children = [*self._actors, checkpointer]
        self._budget = Budget(self._config.supervision.max_restarts)
        self._saves = signals.saves
        self._ticked = time.monotonic()
        self._longest_pause = 0.0  # without an environment step, that a worker has come back from
        self._reports: set[str] = set()  # crash reports that were shown
        self._lost = 0  # children that died with their forkserver
        self._closing_restarts = 0
        self._deadlines: dict[Child, float] = {}  # of those that were asked to end
        self._phase = "starting"
        self._reason = ""
        self.exit_code = 0

    def run(self, announce: Callable[[], None]) -> Summary:
        """Train to the end, whichever it is; `announce` is called when the processes have been started."""
        self._signals.suspending = self._signal_all
        try:
            for child in self._children:
                child.start()
            self._phase = "training"
            announce()
            while not all(child.is_over for child in self._children):
                self._wait()
                self._read_messages()
                self._follow_signals()
                self._kill([child for child, deadline in self._deadlines.items() if time.monotonic() > deadline])
                self._reap()
                self._advance()
                self._respawn()
                if time.monotonic() - self._ticked >= TICK_SECONDS:
                    self._tick()
        finally:
            self._signals.suspending = lambda number: None
            self._kill(self._children)
        self._read_messages()
        status, reason = self._ending()
        self._log.update(status, self._worker_statuses, self._monitor.cpu_percent if self._monitor else None, True)
        return self._log.summary(status, reason, self.exit_code)

    # -- watching -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a process ends, a message or a signal comes, or it is time for the next tick."""
        waited: list[Any] = [child.process.sentinel for child in self._children if child.process and child.is_alive]
        waited += [child.messages for child in self._children if child.messages is not None]
        if self._signals.alarm in wait([*waited, self._signals.alarm], timeout=TICK_SECONDS):
            self._signals.acknowledge()

    def _read_messages(self) -> None:
        for child in self._children:
            for kind, data in child.receive():
                self._log.receive(kind, data)

    def _tick(self) -> None:
        now = time.monotonic()
        elapsed, self._ticked = now - self._ticked, now
        for child in self._children:
            child.measure()
        self._log.update(self._phase, self._worker_statuses, self._monitor.cpu_percent if self._monitor else None)
        self._kill_hung(min(elapsed, AWAKE_SECONDS))

    def _kill_hung(self, elapsed: float) -> None:
        """Kill the process that is longest overdue; one at a time, for others may be waiting for it."""
        alive = [child for child in self._children if child.is_alive]
        for child in alive:
            pause = child.listen(elapsed)
            if child in self._workers:
                self._longest_pause = max(self._longest_pause, pause)
        if self._phase == "stopping" or not alive:
            return
        late = max(alive, key=lambda child: child.overdue(self._longest_pause))
        if late.overdue(self._longest_pause) <= 0:
            return
        if late.computes():
            late.silent -= LAST_CHANCE
            return
        late.kill_hung(self._longest_pause)
        for child in alive:
            child.silent = min(child.silent, max(child.patience.step - LAST_CHANCE, 0.0))

    def _worker_statuses(self) -> list[WorkerStatus]:
        return [self._worker_status(index, child) for index, child in enumerate(self._workers)]

    def _worker_status(self, index: int, child: Child) -> WorkerStatus:
        telemetry, restarts = self._log.telemetry, self._scoreboard.incarnation(index)
        if child.is_alive:
            state = "running" if telemetry.rows["started"][index] else "starting"
        elif child.due is not None:
            state = "restarting"
        else:
            state = "dead" if child.exitcode else "stopped"
        return telemetry.worker(index, child.pid, state, child.memory_bytes, restarts)

    # -- replacing ------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Collect the processes that have ended since the last time."""
        for child in self._children:
            if not child.is_alive and not child.reaped:
                child.reap()
                self._read_messages()
                if child.exitcode != 0 or not self._may_end(child):
                    self._died(child)

    def _may_end(self, child: Child) -> bool:
        request = self._scoreboard.requested()
        if child is self._checkpointer:
            return request == CLOSE
        spent = self._store.env_steps >= self._config.max_env_steps
        return request != RUN or self._log.solved is not None or spent

    def _died(self, child: Child) -> None:
        """Report what a process died of and have it replaced; where that cannot help, stop the run."""
        deadline = self._deadlines.get(child)
        if child.exitcode <= 0 and deadline and (time.monotonic() > deadline or len(self._signals.seen) > 1):
            return  # we killed it: it did not end when it was asked to
        cause, report = child.cause()
        lost = self._is_lost(child)
        if not lost:
            pid = f"pid {child.pid}, " if child.pid else ""
            line = f"{child.name}{self._seed_of(child)} {cause} ({pid}logs/{child.name}.log)"
            self._log.event("hung" if child.verdict else "crashed", line)
        if report and report not in self._reports:
            self._reports.add(report)
            self._log.crash(report)
        if child.exitcode in (exit_codes.NUMERICS, exit_codes.DISK):
            self._fail(child.exitcode, f"{child.name} {cause}")
        else:
            self._replace(child, cause, lost)

    def _is_lost(self, child: Child) -> bool:
        """Whether a process's forkserver died, and others with it: reported once, and one restart for all of them."""
        if child.exitcode != LOST or child.process is None:
            return False
        self._lost += 1
        if self._lost % len(self._children) == 1:
            self._log.event("crashed", "Python's forkserver died; its processes are replaced")
            return False
        return True

    def _seed_of(self, child: Child) -> str:
        """The seed of a worker's generators; where it is a successor, its number is a part of it."""
        if child not in self._workers:
            return ""
        index = self._workers.index(child)
        succession = [self._scoreboard.incarnation(index)] if self._scoreboard.incarnation(index) else []
        return f" (seed {'/'.join(map(str, [self._config.seed, index, *succession]))})"

    def _replace(self, child: Child, cause: str, lost: bool) -> None:
        """Have a successor started, where one can help and the budget allows it."""
        ending = child in self._deadlines
        if child is self._checkpointer:
            self._scoreboard.count("checkpointer_restarts")
            self._closing_restarts += ending
            if self._closing_restarts > CLOSING_RESTARTS:
                self._fail(exit_codes.WORKER, f"{child.name} {cause}; the last checkpoint is not saved")
                return
        elif child is self._monitor:  # however often it dies, training continues: its successors rest longer and longer
            self._scoreboard.count("monitor_restarts")
            if ending:
                return
        elif ending:
            return
        elif not lost and not self._budget.take():
            spent = f"the budget of {self._budget} within ten minutes is spent (--max-restarts)"
            self._fail(exit_codes.WORKER, f"{child.name} {cause}; {spent}")
            return
        else:
            index = self._workers.index(child)
            self._store.close_push(index)  # so that no other worker waits for it
            self._store.barrier.forget(index)
            self._scoreboard.replace(index)
        child.schedule()

    def _respawn(self) -> None:
        """Start those processes whose time has come; a forkserver that has died takes its time to be there again."""
        for child in [self._checkpointer, *self._actors]:
            if child.due is None or time.monotonic() < child.due:
                continue
            if self._signals.seen and self._phase != "stopping":
                return  # first things first
            if child in self._workers and self._may_end(child):
                child.due = None
                continue
            child.start()
            if child.pid is not None:
                restarts = f"; {self._budget.taken} of {self._budget}" if child in self._workers else ""
                self._log.event("restarted", f"{child.name}{self._seed_of(child)}, pid {child.pid}{restarts}")

    # -- stopping -------------------------------------------------------------------------------------------------

    def _follow_signals(self) -> None:
        """Save, stop, or leave at once, as the user asks; stop a run that is solved."""
        seen = self._signals.seen
        if self._signals.saves != self._saves:
            self._saves = self._signals.saves
            self._log.event("saving", "a checkpoint, since SIGUSR1 asks for it")
            self._scoreboard.request_save()
            self._notifier.notify()
        if seen and self._phase != "stopping":
            name = signal.Signals(seen[0]).name
            self._reason = f"interrupted by {name}"
            self._log.event("interrupted", f"{name}: saving a checkpoint; once more to leave at once")
            self._stop()
        elif self._log.solved and self._phase != "stopping":
            self._stop()
        if len(seen) > 1:
            self._kill(self._children)

    def _advance(self) -> None:
        """When all workers have ended the monitor finishes, and when that has too the checkpointer closes."""
        if all(child.is_over for child in self._workers) and self._scoreboard.requested() == RUN:
            self._phase = "verifying"
            self._request(FINISH)
        if all(child.is_over for child in self._actors) and self._scoreboard.requested() in (FINISH, STOP):
            self._request(CLOSE)
            self._deadlines[self._checkpointer] = time.monotonic() + SAVE_SECONDS
            if self._checkpointer.is_over and len(self._signals.seen) < 2:
                self._checkpointer.start()

    def _request(self, what: int) -> None:
        self._scoreboard.request(what)
        self._notifier.notify()

    def _fail(self, code: int, reason: str) -> None:
        if not self.exit_code:
            self.exit_code, self._reason = code, reason
        if self._phase != "stopping":
            self._stop()

    def _stop(self) -> None:
        self._phase = "stopping"
        if self._scoreboard.requested() != CLOSE:
            self._request(STOP)
        for child in self._actors:
            self._deadlines[child] = time.monotonic() + STOP_SECONDS
            child.due = None

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            child.signal(number)

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            child.due = None
            child.kill()
        for child in children:
            child.join()

    def _ending(self) -> tuple[str, str]:
        """The run's status and why; sets the exit code that belongs to it."""
        solved = self._log.solved
        if solved is not None and self.exit_code != exit_codes.DISK:
            self.exit_code = 0
            return "solved", f"reached {solved.mean:.1f} over {solved.episodes} episodes with fresh seeds"
        if self.exit_code:
            return "failed", self._reason
        if self._signals.seen:
            self.exit_code = 128 + self._signals.seen[0]
            return "interrupted", self._reason
        return "budget_exhausted", f"the budget of {self._config.max_env_steps:,} env steps is spent"
