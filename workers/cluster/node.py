"""A node as the run's machine sees it: its reports are applied to the run, its orders say what the run is now."""

import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from a3c.networks import build, flat_zeros
from shared.mirror_store import ENDED, STALE, Mirrored, Push
from shared.optimizers import SLOW
from shared.store import Pulled, StaleGradientError
from shared.sync_store import SyncStore
from workers.cluster.exchange import Beginning, Job, Orders, Report
from workers.cluster.roster import Roster
from workers.runs.evaluations import SharedRun

STEP_SECONDS = 0.2  # that a node whose workers have all handed in waits for the step at most
Send = Callable[[tuple[str, Any]], None]


class Node:
    """Applies one node's reports to the run's store and scoreboard, in the place of its workers.

    Args:
        lock: held for a push, by the node that pushes: the threads of one process are one to a record lock.
        send: to the supervisor.
    """

    def __init__(self, run: SharedRun, name: str, workers: range, roster: Roster, lock: threading.Lock, send: Send):
        self._run, self.name, self.workers, self._send = run, name, workers, send
        self._roster, self._lock = roster, lock
        self._store, self._scoreboard = run.store, run.scoreboard
        self._parameters, self._slow = flat_zeros(build(run.config, run.environment)), None
        if SLOW in self._store.optimizer.moments:
            self._slow = torch.zeros_like(self._parameters)
        self._sent = -1  # updates of the parameters that were sent last
        self._settled: dict[int, tuple[int, int]] = {}
        self._handed_in: dict[int, tuple[int, int]] = {}  # in `sync`, by worker index: number of the push, step

    def job(self) -> Job:
        """The node's part of the run, from where its workers are now."""
        self._sent = -1
        self._settled, self._handed_in = {}, {}
        beginnings = {index: self._beginning(index) for index in self.workers}
        return Job(self._run.config, self._run.environment, beginnings, time.monotonic())

    def _beginning(self, index: int) -> Beginning:
        store, board, statistics = self._store, self._scoreboard, self._store.statistics
        row = None if statistics is None else statistics.row(index)
        versions, snapshot = tuple(board.versions(index).values()), store.barrier.snapshot(index)
        counted = board.worker_state(index)
        return Beginning(board.incarnation(index), counted, versions, store.env_steps_of(index), row, snapshot)

    def orders(self) -> Orders:
        """What the node's workers are to see now, and what has become of their pushes."""
        store = self._store
        pulled, parameters, slow = store.pull(self._parameters), None, None
        if pulled.updates != self._sent:
            self._sent, parameters = pulled.updates, self._parameters.numpy().copy()
            if self._slow is not None:
                store.pull_slow(self._slow, self._parameters)
                slow = self._slow.numpy().copy()
        for index, (number, step) in list(self._handed_in.items()):
            if pulled.updates >= step:
                self._settled[index] = number, 0
                del self._handed_in[index]
        settled, self._settled = self._settled, {}
        facts = pulled.updates, pulled.env_steps, pulled.torn, pulled.stopped, store.enqueuing
        mirrored = Mirrored(parameters, slow, *facts)
        return Orders(mirrored, settled, self._scoreboard.requested(), store.barrier.latest_due)

    def apply(self, report: Report) -> None:
        """Take over what the node's workers have done; in `sync`, wait for a step that waits for nobody here."""
        for index, seen in report.seen.items():
            self._replace(index, seen.incarnation)
            self._roster.note(index, seen)
        for push in report.pushes:
            self._push(push)
        seconds = time.monotonic() - report.clock
        for index, (counted, versions) in report.counted.items():
            self._scoreboard.follow_worker(index, counted, versions, seconds)
            self._scoreboard.beat(index)
        for index, (number, content) in report.snapshots.items():
            self._store.barrier.hand_in(index, number, content)
        for kind, line in report.events:
            self._send((kind, f"{line} on {self.name}"))
        for crash in report.crashes:
            self._send(("crash", crash))
        for name, content in report.logs.items():
            with (self._run.run_dir / "logs" / f"{name}.log").open("ab") as file:
                file.write(content)
        if report.failure is not None:
            self._send(("failed", report.failure))
        if self._handed_in and len(self._handed_in) == len(self.workers) and isinstance(self._store, SyncStore):
            index, (_, step) = next(iter(self._handed_in.items()))
            self._store.wait_for_step(index, step, STEP_SECONDS)

    def _replace(self, index: int, incarnation: int) -> None:
        """Note that the host has replaced a worker, where it is news."""
        while self._scoreboard.incarnation(index) < incarnation:
            self._store.replace(index)

    def lost(self) -> None:
        """The node has gone: its workers are replaced when there is one again."""
        for index in self.workers:
            self._store.replace(index)
        self._roster.lose(self.workers)

    def _push(self, push: Push) -> None:
        store, index = self._store, push.worker_index
        self._replace(index, push.incarnation)
        if push.incarnation != self._scoreboard.incarnation(index):
            self._settled[index] = push.number, ENDED
            return
        if store.statistics is not None and push.statistics is not None:
            store.statistics.write(index, push.statistics)
        gradient, pulled = torch.from_numpy(push.gradient.copy()), Pulled(push.updates, 0, push.torn)
        if isinstance(store, SyncStore):
            self._handed_in[index] = push.number, store.hand_in(index, gradient, push.env_steps, pulled)
            return
        with self._lock:
            store.incarnation = push.incarnation
            try:
                outcome = store.push(index, gradient, push.learning_rate, push.env_steps, pulled)
            except StaleGradientError:
                outcome = STALE
        self._settled[index] = push.number, ENDED if outcome is None else outcome
