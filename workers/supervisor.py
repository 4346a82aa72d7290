"""The supervisor: starts the processes of a run, watches them, replaces them, stops them."""

import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from shared.scoreboard import CLOSE, FINISH, RUN, STOP
from workers import ExitCode
from workers.actor_learner import seeds
from workers.processes.child import LOST, Budget, Child
from workers.processes.hanging import HangWatch
from workers.processes.signals import Signals
from workers.runs.evaluations import SharedRun
from workers.runs.log import RunLog
from workers.runs.records import Summary, WorkerStatus

if TYPE_CHECKING:
    from workers.cluster.roster import Roster

TICK_SECONDS = 0.2  # between two ticks: telemetry, signs of life
STOP_SECONDS = 3.0  # a process that has not followed a request to stop by then is killed
GATE_STOP_SECONDS = 10.0  # the same of a gate, which waits for other nodes
SAVE_SECONDS = 300.0  # for one save: a disk may be slow
CLOSING_RESTARTS = 3  # of a checkpointer that dies while it saves the end


class Supervisor:
    """Owns the processes of one run. Its process is the only one that the terminal's signals reach.

    A run goes through the scoreboard's requests: RUN, until every worker has ended or a stop is due; FINISH, for the
    monitor's last evaluations, or STOP, for an end within seconds; CLOSE, for the checkpointer's last save.
    """

    exit_code = 0

    def __init__(
        self,
        run: SharedRun,
        log: RunLog,
        signals: Signals,
        workers: Sequence[Child],
        monitor: Child | None,
        checkpointer: Child,
        gate: Child | None = None,
        roster: "Roster | None" = None,
    ):
        self._config, _, self._store, self._scoreboard, _, self._notifier, _ = run
        self._log, self._signals = log, signals
        self._workers, self._monitor, self._checkpointer = workers, monitor, checkpointer
        self._gate, self._roster = gate, roster  # to the workers of other nodes, where the run is on a cluster
        self._learning = [*workers, *filter(None, [gate])]
        self._actors = [*self._learning, *filter(None, [monitor])]
        self._children = [*self._actors, checkpointer]
        self._budget = Budget(self._config.supervision.max_restarts)
        self._saves = signals.saves
        self._ticked = time.monotonic()
        self._hanging = HangWatch(workers)
        self._reports: set[str] = set()  # crash reports that were shown
        self._lost = self._closing_restarts = 0  # children that died with their forkserver; of the checkpointer's
        self._deadlines: dict[Child, float] = {}  # of those that were asked to end
        self._phase, self._reason = "starting", ""

    def start(self) -> None:
        """Start the processes."""
        self._signals.suspending = self._signal
        for child in self._children:
            if child.process is None:
                child.start()
        self._phase = "training"

    def run(self) -> Summary:
        """Train to the end, whichever it is."""
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
        status, reason = self._ending()
        self._log.update(status, self._worker_statuses, self._monitor.cpu_percent if self._monitor else None, True)
        return self._log.summary(status, reason, self.exit_code)

    def close(self) -> None:
        """Kill the processes that an error has left."""
        self._signals.suspending = lambda number: None
        self._kill(self._children)

    # -- watching -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until a process ends, a message or a signal comes, or it is time for the next tick."""
        waited: list[Any] = [child.process.sentinel for child in self._children if child.process and child.is_alive]
        waited += [child.messages for child in self._children if child.messages is not None]
        if self._signals.alarm in wait([*waited, self._signals.alarm], timeout=TICK_SECONDS):
            self._signals.alarm.recv_bytes()

    def _read_messages(self) -> None:
        for child in self._children:
            for kind, data in child.receive():
                if kind == "failed":  # on another node
                    self._fail(*data)
                elif kind == "crash":
                    self._log.crash(data)
                else:
                    self._log.receive(kind, data)

    def _tick(self) -> None:
        now = time.monotonic()
        elapsed, self._ticked = now - self._ticked, now
        for child in self._children:
            child.measure()
        self._log.update(self._phase, self._worker_statuses, self._monitor.cpu_percent if self._monitor else None)
        self._hanging.kill_hung(self._children, elapsed, self._phase == "stopping")

    def _worker_statuses(self) -> list[WorkerStatus]:
        telemetry, statuses = self._log.telemetry, []
        for index, child in enumerate(self._workers):
            if child.is_alive:
                state = "running" if telemetry.rows["started"][index] else "starting"
            else:
                state = "restarting" if child.due is not None else "dead" if child.exitcode else "stopped"
            restarts = self._scoreboard.incarnation(index)
            statuses.append(telemetry.worker(index, child.pid, state, child.memory_bytes, restarts))
        if self._roster is not None:
            for index in range(len(statuses), self._config.workers):
                state, pid, memory = self._roster.seen(index)
                restarts, node = self._scoreboard.incarnation(index), self._roster.node(index)
                statuses.append(telemetry.worker(index, pid, state, memory, restarts, node))
        return statuses

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
        return request != RUN or self._log.solved is not None or self._store.env_steps >= self._config.max_env_steps

    def _died(self, child: Child) -> None:
        """Report what a process died of and have it replaced; where that cannot help, stop the run."""
        deadline = self._deadlines.get(child)
        if child.exitcode <= 0 and deadline and (time.monotonic() > deadline or len(self._signals.seen) > 1):
            return  # we killed it: it did not end when it was asked to
        cause, report = child.cause()
        lost = False
        if child.exitcode == LOST and child.process:  # and others with it: reported once, one restart for all of them
            lost = self._lost % len(self._children) > 0
            self._lost += 1
        if not lost:
            line = f"{self._label(child)} {cause} ({f'pid {child.pid}, ' * bool(child.pid)}logs/{child.name}.log)"
            self._log.event("hung" if child.verdict else "crashed", line)
        if report and report not in self._reports:
            self._reports.add(report)
            self._log.crash(report)
        if child.exitcode in (ExitCode.NUMERICS, ExitCode.DISK):
            self._fail(child.exitcode, f"{child.name} {cause}")
        else:
            self._replace(child, cause, lost)

    def _label(self, child: Child) -> str:
        """A process's name; a worker's with the seed of its generators."""
        if child not in self._workers:
            return child.name
        index = self._workers.index(child)
        seed = seeds(self._config.seed, index, self._scoreboard.incarnation(index))
        return f"{child.name} (seed {'/'.join(map(str, seed))})"

    def _replace(self, child: Child, cause: str, lost: bool) -> None:
        """Have a successor started, where one can help and the budget allows it."""
        ending = child in self._deadlines
        if child is self._checkpointer:
            self._scoreboard.count("checkpointer_restarts")
            self._closing_restarts += ending
            if self._closing_restarts > CLOSING_RESTARTS:
                self._fail(ExitCode.WORKER, f"{child.name} {cause}; the last checkpoint is not saved")
                return
        elif child is self._monitor:  # however often it dies, training continues: its successors rest longer and longer
            self._scoreboard.count("monitor_restarts")
        elif not ending and not lost and child is not self._gate and not self._budget.take():
            spent = f"the budget of {self._budget} within ten minutes is spent (--max-restarts)"
            self._fail(ExitCode.WORKER, f"{child.name} {cause}; {spent}")
            return
        elif not ending:
            remote = range(len(self._workers), self._config.workers)
            for index in remote if child is self._gate else [self._workers.index(child)]:
                self._store.replace(index)
            if child is self._gate and self._roster is not None:
                self._roster.lose(remote)
        if not ending or child is self._checkpointer:
            child.schedule()

    def _respawn(self) -> None:
        """Start those processes whose time has come; a forkserver that has died takes its time to be there again."""
        for child in [self._checkpointer, *self._actors]:
            if child.due is None or time.monotonic() < child.due:
                continue
            if self._signals.seen and self._phase != "stopping":
                return  # first things first
            if child in self._learning and self._may_end(child):
                child.due = None
                continue
            child.start()
            if child.pid is not None:
                restarts = f"; {len(self._budget.times)} of {self._budget}" if child in self._workers else ""
                self._log.event("restarted", f"{self._label(child)}, pid {child.pid}{restarts}")

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
        if seen or self._log.solved:
            self._stop()
        if len(seen) > 1:
            self._kill(self._children)

    def _advance(self) -> None:
        """When all workers have ended the monitor finishes, and when that has too the checkpointer closes."""
        if all(child.is_over for child in self._learning) and self._scoreboard.requested() == RUN:
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
        self._stop()

    def _stop(self) -> None:
        if self._phase == "stopping":
            return
        self._phase = "stopping"
        if self._scoreboard.requested() != CLOSE:
            self._request(STOP)
        for child in self._actors:
            self._deadlines[child] = time.monotonic() + (GATE_STOP_SECONDS if child is self._gate else STOP_SECONDS)
            child.due = None

    def _signal(self, number: int) -> None:
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
        if solved is not None and self.exit_code != ExitCode.DISK:
            self.exit_code = 0
            return "solved", f"reached {solved.mean:.1f} over {solved.episodes} episodes with fresh seeds"
        if self.exit_code:
            return "failed", self._reason
        if self._signals.seen:
            self.exit_code = 128 + self._signals.seen[0]
            return "interrupted", self._reason
        return "budget_exhausted", f"the budget of {self._config.max_env_steps:,} env steps is spent"
