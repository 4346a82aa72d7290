"""A node's host and the run's machine: real workers train through a mirror, and what they push is applied once."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from a3c.config import Config, ConfigError
from a3c.environments import describe
from shared.memory import Notifier
from shared.mirror_store import Mirrored, MirrorStore
from shared.scoreboard import STOP, Scoreboard
from shared.store import SharedStore
from workers.cluster.exchange import Report
from workers.cluster.host import Host
from workers.cluster.node import Node
from workers.cluster.placement import placed
from workers.cluster.roster import Roster
from workers.processes.start import start_forkserver
from workers.runs.evaluations import Evaluations, Progress, SharedRun
from workers.training import build_store
from workers.worker_state import unpack


class Counting:
    """An optimizer whose steps can be counted: each adds one to every parameter."""

    moments: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def step(self, parameters: Tensor, *_: Any) -> None:
        parameters += 1


class Machine:
    """A run's machine whose workers are all on one node; the node's host is in this process."""

    def __init__(self, path: Path, **options: Any):
        self.config = Config.from_options({"workers": 2, "eval_episodes": 0, "max_env_steps": 10_000, **options})
        environment = describe("CartPole-v1", None)
        self.board = Scoreboard(2)
        self.store: SharedStore = build_store(self.config, environment, self.board, lambda size: Counting())
        self.initial = self.store.parameters.clone()
        self.path = path
        (path / "logs").mkdir()
        run = SharedRun(self.config, environment, self.store, self.board, Evaluations(Progress()), Notifier(), path)
        self.sent: list[tuple[str, Any]] = []
        self.roster, self.applied = Roster(2), 0
        self.node = Node(run, "far", range(2), self.roster, threading.Lock(), self.sent.append)
        self.host = self.new_host()

    def new_host(self) -> Host:
        start_forkserver()
        folder = Path(tempfile.mkdtemp(dir=self.path))
        (folder / "logs").mkdir()
        return Host(self.node.job(), folder)

    def exchange(self) -> Report:
        report: Report = self.host.exchange(self.node.orders())
        self.applied += len(report.pushes)
        self.node.apply(report)
        return report

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert not self.exchange().over, "the node's workers have ended"

    def finish(self) -> None:
        while not self.exchange().over:
            pass

    def steps(self) -> float:
        """How many steps the parameters have made: a whole number, since each is the same."""
        return float((self.store.parameters - self.initial).mean())

    def close(self) -> None:
        self.host.close()


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with closing(Machine(tmp_path, **getattr(request, "param", {}))) as machine:
        yield machine


@pytest.mark.parametrize("machine", [{"mode": "async"}, {"mode": "locked"}], indirect=True, ids=["async", "locked"])
def test_each_push_of_a_node_is_applied_once_and_counted(machine: Machine) -> None:
    machine.finish()
    rows = machine.board.read()
    assert machine.steps() == pytest.approx(machine.store.updates, rel=1e-4)
    assert machine.store.updates == machine.applied == rows["updates"].sum() == machine.board.staleness_counts().sum()
    assert machine.store.env_steps == rows["env_steps"].sum() >= 10_000
    assert machine.board.faults()["worker_restarts"] == 0
    assert machine.store.barrier.ended()
    assert machine.roster.seen(1)[0] == "stopped"


@pytest.mark.parametrize("machine", [{"max_env_steps": 60_000}], indirect=True)  # more than one makes meanwhile
def test_a_worker_that_is_killed_is_replaced_and_its_counts_go_on(machine: Machine) -> None:
    machine.until(lambda: machine.store.env_steps > 3000 and machine.roster.seen(0)[0] == "running")
    before, pid = machine.board.read()["env_steps"][0], machine.roster.seen(0)[1]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    machine.until(lambda: machine.board.incarnation(0) == 1)
    machine.finish()
    assert [kind for kind, _ in machine.sent] == ["crashed", "restarted"]
    assert "killed by SIGKILL on far" in machine.sent[0][1]
    assert machine.steps() == pytest.approx(machine.store.updates, rel=1e-4)
    assert machine.store.updates == machine.applied
    assert machine.board.read()["env_steps"][0] > before


def test_what_a_lost_host_had_not_told_is_lost_and_nothing_is_applied_twice(machine: Machine) -> None:
    machine.until(lambda: machine.store.env_steps > 3000)
    machine.host.exchange(machine.node.orders())  # the answer never comes
    machine.host.close()
    machine.node.lost()
    assert machine.roster.seen(0)[0] == "lost"
    machine.host = machine.new_host()
    machine.finish()
    assert machine.steps() == pytest.approx(machine.store.updates, rel=1e-4)
    assert machine.store.updates == machine.applied
    assert machine.store.env_steps >= 10_000
    assert machine.board.faults()["worker_restarts"] == 2


@pytest.mark.parametrize("machine", [{"max_staleness": 0}], indirect=True)
def test_a_gradient_that_is_too_old_for_the_run_is_refused_on_its_machine(machine: Machine) -> None:
    machine.finish()
    counts = machine.board.staleness_counts().sum(0)
    refused = machine.board.faults()["stale_gradients"]
    assert refused > 0
    assert machine.applied == machine.store.updates + refused
    assert counts[1:].sum() == 0


def test_a_checkpoint_has_the_snapshots_of_a_nodes_workers_and_another_node_goes_on_from_them(machine: Machine) -> None:
    machine.until(lambda: machine.store.env_steps > 5000)
    machine.store.barrier.request()
    machine.until(machine.store.barrier.complete)
    snapshot = machine.store.barrier.snapshot(1)
    assert snapshot is not None
    episodes = unpack(snapshot)["collector"]["episodes"]
    assert episodes > 0
    machine.host.close()
    machine.host = machine.new_host()
    machine.finish()
    assert machine.board.read()["episodes"][1] > episodes
    assert machine.board.faults()["episodes"] == 0  # those under way were brought back


def test_a_stop_ends_a_nodes_workers(machine: Machine) -> None:
    machine.until(lambda: machine.store.env_steps > 2000)
    machine.board.request(STOP)
    machine.finish()
    assert machine.store.env_steps < 10_000
    assert machine.store.barrier.ended()


def test_a_worker_never_pulls_half_a_mirror() -> None:
    store = MirrorStore(torch.zeros(200_000), Scoreboard(1))
    ended = threading.Event()

    def host() -> None:
        for number in range(1, 400):
            store.mirror(Mirrored(np.full(200_000, number, np.float32), None, number, number, False, False), {})
        ended.set()

    thread, into, seen = threading.Thread(target=host), torch.zeros(200_000), set[int]()
    thread.start()
    while not ended.is_set():
        pulled = store.pull(into)
        assert into.min() == into.max() == pulled.updates
        seen.add(pulled.updates)
    thread.join()
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("workers", "rooms", "counts"),
    [(6, [2, 2], [2, 2, 2]), (16, [8, 8, 8], [4, 4, 4, 4]), (7, [1, 8], [3, 1, 3]), (4, [4], [2, 2])],
)
def test_workers_are_spread_evenly_where_there_is_room(workers: int, rooms: list[int], counts: list[int]) -> None:
    ranges = placed(workers, rooms)
    assert [len(each) for each in ranges] == counts
    assert [index for each in ranges for index in each] == list(range(workers))


def test_too_few_workers_for_the_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="cluster: 2 workers are too few for 2 nodes"):
        placed(2, [4, 4])
