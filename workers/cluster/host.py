"""A node's host: keeps the node's workers and their mirror of the run, and answers the run's orders. No Ray in here."""

import time
from contextlib import suppress
from pathlib import Path

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.mirror_store import MirrorStore, Push
from shared.scoreboard import RUN, Scoreboard
from workers import ExitCode
from workers.children import Children
from workers.cluster.exchange import Job, Orders, Report, Seen
from workers.processes.child import Budget, Child
from workers.processes.hanging import HangWatch

TICK_SECONDS = 0.2  # between two looks at the processes; also the longest that an exchange waits for something to tell
COUNT_SECONDS = 0.1  # between two reports of what workers have counted
STOP_SECONDS = 3.0  # a worker that has not followed a request to stop by then is killed
LOG_BYTES = 2**16  # of each log in a report


class Host:
    """Some workers of a run on a machine that is not the run's; it only answers, so nobody pushes who was given up.

    The workers are those of any run: they pull from a mirror, push into an outbox, and do not notice. One thread calls.

    Args:
        folder: in which the workers' logs go to `logs`, which is there.
    """

    def __init__(self, job: Job, folder: Path):
        config, environment = job.config, job.environment
        self._config, self._folder = config, folder
        self._scoreboard = Scoreboard(config.workers)
        self._store = build_mirror(config, environment, self._scoreboard)
        delay = time.monotonic() - job.clock
        for index, beginning in job.beginnings.items():
            for _ in range(beginning.incarnation):
                self._scoreboard.replace(index)
            self._scoreboard.follow_worker(index, beginning.counted, beginning.versions, delay)
            self._store.begin_at(index, beginning.env_steps, beginning.statistics)
            if beginning.snapshot is not None:
                self._store.barrier.hand_in(index, 0, beginning.snapshot)
        children = Children(config, environment, self._store, self._scoreboard, folder)
        self._workers = {index: children.worker(index) for index in job.beginnings}
        self._hanging = HangWatch(list(self._workers.values()))
        self._budget = Budget(config.supervision.max_restarts)
        self._answered = dict.fromkeys(self._workers, 0)
        self._read: dict[str, int] = {}  # bytes of each log that were reported
        self._ticked = self._counted = time.monotonic()
        self._deadline: float | None = None
        self._stopped = False
        self._events: list[tuple[str, str]] = []
        self._crashes: list[str] = []
        self._failure: tuple[int, str] | None = None

    def exchange(self, orders: Orders) -> Report:
        """Follow the orders; return once there is something to tell, after `TICK_SECONDS` at most."""
        self._follow(orders)
        end = time.monotonic() + TICK_SECONDS
        while True:
            pushes = self._store.collect()
            self._look()
            left = end - time.monotonic()
            if pushes or self._events or self._snapshots_came() or self._is_over or left <= 0:
                return self._report(pushes)
            self._store.wait_for_push(left)

    def close(self) -> None:
        """End all workers; their forkserver ends with this process."""
        for child in self._workers.values():
            child.due = None
            child.kill()
        for child in self._workers.values():
            child.join()

    # -- orders ---------------------------------------------------------------------------------------------------

    def _follow(self, orders: Orders) -> None:
        self._store.barrier.follow(orders.snapshot)
        self._scoreboard.request(orders.request)
        self._stopped = orders.mirrored.stopped or orders.request != RUN
        self._store.mirror(orders.mirrored, orders.settled)
        if self._scoreboard.stopping() and self._deadline is None:
            self._deadline = time.monotonic() + STOP_SECONDS
        for child in self._workers.values():  # none is started before there is something to pull
            if child.process is None and not child.reaped:
                child.start()

    # -- processes ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Reap, replace and watch the processes."""
        for index, child in self._workers.items():
            if not child.is_alive and not child.reaped:
                child.reap()
                if child.exitcode or not self._may_end:
                    self._died(index, child)
            if child.due is not None and time.monotonic() >= child.due:
                if self._may_end:
                    child.due = None
                else:
                    child.start()
                    self._events.append(("restarted", f"{child.name}, pid {child.pid}"))
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            for child in self._workers.values():
                child.due = None
                child.kill()
        if now - self._ticked >= TICK_SECONDS:
            elapsed, self._ticked = now - self._ticked, now
            children = list(self._workers.values())
            for child in children:
                child.measure()
            self._hanging.kill_hung(children, elapsed, self._deadline is not None)

    @property
    def _may_end(self) -> bool:
        return self._stopped or self._store.env_steps >= self._config.max_env_steps

    @property
    def _is_over(self) -> bool:
        return all(child.is_over for child in self._workers.values())

    def _died(self, index: int, child: Child) -> None:
        if self._deadline is not None and child.exitcode <= 0:
            return  # we killed it
        cause, report = child.cause()
        self._events.append(("hung" if child.verdict else "crashed", f"{child.name} {cause}"))
        if report:
            self._crashes.append(report)
        if child.exitcode in (ExitCode.NUMERICS, ExitCode.DISK):
            self._failure = child.exitcode, f"{child.name} {cause}"
        elif self._deadline is None and not self._budget.take():
            spent = f"the budget of {self._budget} within ten minutes is spent (--max-restarts)"
            self._failure = int(ExitCode.WORKER), f"{child.name} {cause}; {spent}"
        elif self._deadline is None:
            self._store.replace(index)
            child.schedule()

    # -- reports --------------------------------------------------------------------------------------------------

    def _snapshots_came(self) -> list[int]:
        answered = self._store.barrier.answered
        return [index for index in self._workers if answered(index) > self._answered[index]]

    def _report(self, pushes: list[Push]) -> Report:
        barrier, snapshots = self._store.barrier, {}
        for index in self._snapshots_came():
            number, content = barrier.answered(index), barrier.snapshot(index)
            if content is not None:
                self._answered[index], snapshots[index] = number, (number, content)
        now, counted = time.monotonic(), {}
        if now - self._counted >= COUNT_SECONDS or self._is_over:
            self._counted = now
            for index in self._workers:
                versions = tuple(self._scoreboard.versions(index).values())
                counted[index] = self._scoreboard.worker_state(index), versions
        seen = {index: self._seen(index, child) for index, child in self._workers.items()} if counted else {}
        events, self._events = self._events, []
        crashes, self._crashes = self._crashes, []
        logs = self._new_in_logs() if counted or events else {}
        return Report(
            pushes, counted, snapshots, seen, events, crashes, logs, now, self._is_over and not pushes, self._failure
        )

    def _seen(self, index: int, child: Child) -> Seen:
        if child.is_alive:
            state = "running" if self._scoreboard.read()["started"][index] else "starting"
        else:
            state = "restarting" if child.due is not None else "dead" if child.reaped and child.exitcode else "stopped"
        return Seen(state, child.pid, child.memory_bytes, self._scoreboard.incarnation(index))

    def _new_in_logs(self) -> dict[str, bytes]:
        """What the logs have grown by, a little at a time."""
        found = {}
        for path in sorted((self._folder / "logs").iterdir()):
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._read.get(path.stem, 0))
                if content := file.read(LOG_BYTES):
                    self._read[path.stem] = file.tell()
                    found[path.stem] = content
        return found


def build_mirror(config: Config, environment: EnvironmentSpec, scoreboard: Scoreboard) -> MirrorStore:
    """A node's store, all zeros until the first orders."""
    from a3c.networks import build, flat_zeros
    from workers.training import build_statistics

    model = build(config, environment)
    statistics = None if model.normalizer is None else build_statistics(config.workers, model.normalizer)
    together = config.mode == "sync"
    return MirrorStore(flat_zeros(model), scoreboard, statistics, together, config.has_slow_copy)
