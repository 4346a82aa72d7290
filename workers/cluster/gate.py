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
FROZEN_SECONDS = 8.0  # without an answer of a host, which answers several times a second: then it is given up
START_SECONDS = 120.0  # for a host to be there: imports, on a machine that may be slow
PAUSE_SECONDS = 1.0  # between two attempts to place a host


class Gate:
    """Since it asks and hosts only answer, a host that was given up cannot push; what a lost answer held is lost."""

    def __init__(self, run: SharedRun, roster: Roster, messages: Connection):
        self._run, self._roster, self._messages = run, roster, messages
        self._sending, self._pushing, self._placing = threading.Lock(), threading.Lock(), threading.Lock()
        self._taken: dict[str, Node] = {}  # by the id of the cluster's node

    def work(self, address: str, modules: tuple[str, ...]) -> None:
        """Everything."""
        try:
            ray_cluster.join(address, self._run.config.workers, modules)
            found = ray_cluster.nodes()
            places = self._places(found)
            if not self._roster.local:
                ray_cluster.check(found, modules)
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
        while any(thread.is_alive() for thread in threads):
            board.beat(board.gate)
            time.sleep(BEAT_SECONDS)
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
            if (place := self._place(node)) is None:
                time.sleep(PAUSE_SECONDS)
                continue
            host = ray_cluster.place(place, node.job())
            try:
                if self._exchange(node, host):
                    return
            except RayError as error:
                why = "does not answer" if isinstance(error, GetTimeoutError) else error.__class__.__name__
                self._send(("node-lost", f"{node.name}, with {who(node.workers)}: {why}"))
                node.lost()
            finally:
                with self._placing:
                    self._taken.pop(place.id, None)
                ray.kill(host)

    def _exchange(self, node: Node, host: Any) -> bool:
        """Exchange until the node's workers have ended; a host that is not there yet when the run ends has none."""
        deadline = time.monotonic() + START_SECONDS
        first = host.exchange.remote(node.orders())
        while not ray.wait([first], timeout=BEAT_SECONDS)[0]:
            if self._ends():
                return True
            if time.monotonic() > deadline:
                raise GetTimeoutError
        report = ray.get(first)
        while True:
            node.apply(report)
            if report.over:
                ray.get(host.close.remote(), timeout=FROZEN_SECONDS)
                return True
            report = ray.get(host.exchange.remote(node.orders()), timeout=FROZEN_SECONDS)

    def _place(self, node: Node) -> ClusterNode | None:
        """The cluster's node of that name, or another one that is free, with room; None where there is none."""
        with self._placing:
            free = [place for place in ray_cluster.nodes() if place.id not in self._taken]
            room = [place for place in free if place.cpus >= len(node.workers)]
            found = next((place for place in room if place.name == node.name), room[0] if room else None)
            if found is not None:
                self._taken[found.id] = node
            return found

    def _ends(self) -> bool:
        run = self._run
        return run.scoreboard.requested() != RUN or run.store.env_steps >= run.config.max_env_steps


def who(workers: range) -> str:
    """workers 2, 3."""
    return f"worker{'s' * (len(workers) > 1)} {', '.join(map(str, workers))}"
