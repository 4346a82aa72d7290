"""The gate: the one process of a run that knows Ray. A thread per node asks its host, and applies what it answers."""

import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from a3c.config import ConfigError
from shared.scoreboard import RUN
from workers.cluster import ray_cluster
from workers.cluster.node import Node
from workers.cluster.placement import placed
from workers.cluster.ray_cluster import ClusterNode
from workers.cluster.roster import Roster
from workers.runs.evaluations import SharedRun

BEAT_SECONDS = 0.1
POLL_SECONDS = 0.02  # between two looks at whether the run has ended before a host was there
FROZEN_SECONDS = 8.0  # without an answer of a host, which answers several times a second: then it is given up
START_SECONDS = 120.0  # for a host to be there: imports, on a machine that may be slow
PAUSE_SECONDS = 1.0  # between two attempts to place a host
Placed = tuple[ClusterNode, Any]  # a node of the cluster, and a host there


class Gate:
    """Since it asks and hosts only answer, a host that was given up cannot push; what a lost answer held is lost."""

    def __init__(self, run: SharedRun, roster: Roster, messages: Connection):
        self._run, self._roster, self._messages = run, roster, messages
        self._sending, self._pushing, self._placing = threading.Lock(), threading.Lock(), threading.Lock()
        self._taken = set[str]()  # the ids of the cluster's nodes that have a host of the run
        self._checked: dict[str, Placed] = {}  # the first hosts, by the names of their nodes

    def work(self, address: str, modules: tuple[str, ...]) -> None:
        """Everything."""
        try:
            ray_cluster.join(address, self._run.config.workers, modules)
            found = ray_cluster.nodes()
            places = self._places(found)
            if not self._roster.local:
                for place, (name, indices) in zip(found, places, strict=True):
                    self._checked[name] = place, ray_cluster.place(place, len(indices))
                self._taken.update(place.id for place in found)
                ray_cluster.check(list(self._checked.values()), modules)
                names = {index: name for name, indices in places for index in indices}
                self._roster.plan(places[0][1].start, names)
            where = [f"n{number} is {name}, with {who(indices)}" for number, (name, indices) in enumerate(places, 1)]
            self._send(("cluster", "; ".join(where)))
        except ConfigError as error:
            if self._roster.local:  # this process replaces another one, and will be replaced
                raise
            self._send(("refused", str(error)))
            return
        lock, send = self._pushing, self._send
        nodes = [Node(self._run, name, indices, self._roster, lock, send) for name, indices in places]
        threads = [threading.Thread(target=self._serve, args=(node,), daemon=True) for node in nodes]
        for thread in threads:
            thread.start()
        board = self._run.scoreboard
        for thread in threads:
            while thread.is_alive():
                board.beat(board.gate)
                thread.join(BEAT_SECONDS)
        ray_cluster.leave()

    def _places(self, found: list[ClusterNode]) -> list[tuple[str, range]]:
        """The names of the nodes and the workers of each: as they were, where this process replaces another one."""
        workers, local = self._run.config.workers, self._roster.local
        if local:
            names = [self._roster.node(index) for index in range(local, workers)]
            firsts = {name: local + names.index(name) for name in names}
            return [(name, range(first, first + names.count(name))) for name, first in firsts.items()]
        if not found:
            raise ConfigError("cluster: it has no node with a CPU")
        ranges = placed(workers, [node.cpus for node in found])
        return list(zip([node.name for node in found], ranges[1:], strict=True))

    def _send(self, message: tuple[str, Any]) -> None:
        with self._sending:
            self._messages.send(message)

    # -- a node's thread ------------------------------------------------------------------------------------------

    def _serve(self, node: Node) -> None:
        """Have a host for a node's workers, another one where it is lost, until they have ended."""
        while not self._ends():
            if (placed := self._checked.pop(node.name, None) or self._place(node)) is None:
                time.sleep(PAUSE_SECONDS)
                continue
            place, host = placed
            try:
                if self._exchange(node, host):
                    return
            except RayError as error:
                why = "does not answer" if isinstance(error, GetTimeoutError) else error.__class__.__name__
                self._send(("node-lost", f"{node.name}, with {who(node.workers)}: {why}"))
                node.lost()
            finally:
                with self._placing:
                    self._taken.discard(place.id)
                ray.kill(host)

    def _exchange(self, node: Node, host: Any) -> bool:
        """Exchange until the node's workers have ended; those that have not started when the run ends never do."""
        deadline = time.monotonic() + START_SECONDS
        if not self._comes(begun := host.begin.remote(node.job()), deadline):
            return True
        ray.get(begun)
        if not self._comes(first := host.exchange.remote(node.orders()), deadline):
            return True
        report = ray.get(first)
        while True:
            node.apply(report)
            if report.over:
                ray.get(host.close.remote(), timeout=FROZEN_SECONDS)
                return True
            report = ray.get(host.exchange.remote(node.orders()), timeout=FROZEN_SECONDS)

    def _comes(self, answer: Any, deadline: float) -> bool:
        """Wait for an answer of a host that is starting; False where the run ends before that."""
        while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
            if self._ends():
                return False
            if time.monotonic() > deadline:
                raise GetTimeoutError
        return True

    def _place(self, node: Node) -> Placed | None:
        """A host on the cluster's node of that name, or another one that is free; None where there is no room."""
        with self._placing:
            free = [place for place in ray_cluster.nodes() if place.id not in self._taken]
            room = [place for place in free if place.cpus >= len(node.workers)]
            found = next((place for place in room if place.name == node.name), room[0] if room else None)
            if found is None:
                return None
            self._taken.add(found.id)
            return found, ray_cluster.place(found, len(node.workers))

    def _ends(self) -> bool:
        run = self._run
        return run.scoreboard.requested() != RUN or run.store.env_steps >= run.config.max_env_steps


def who(workers: range) -> str:
    """workers 2, 3."""
    return f"worker{'s' * (len(workers) > 1)} {', '.join(map(str, workers))}"
