"""A worker's link to its run: what it counts, what it takes over, what it hands in, and when it gives up."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from a3c.config import Config, NumericsError
from a3c.learners import RolloutStatistics
from a3c.objectives import LossTerms
from a3c.rollouts import Collector, Stopwatch
from shared.scoreboard import PHASE_SECONDS, STOP, Scoreboard
from shared.store import Pulled, StaleGradientError
from tests.unit.scripted_environments import Walk, scripted
from workers import link as module
from workers.link import DROP_SECONDS, DROPS_IN_A_ROW, SharedMemoryLink
from workers.training import build_store
from workers.worker_state import pack, unpack

ENVIRONMENT = scripted(Walk)
STATISTICS = RolloutStatistics(LossTerms(0.5, 2.0, 0.25), (10, 5.0, (1.0,), (2.0,), (3.0,), (4.0,)))


class Worker:
    """A worker that has joined, in a time of its own."""

    def __init__(self, run: "Run"):
        self.run, self.watch = run, Stopwatch()
        self.collector = Collector(ENVIRONMENT.make(2), 5, np.random.default_rng(0))
        self.link = SharedMemoryLink(1, run.store, run.scoreboard)
        self.link.log_update = lambda: run.logged.append(run.store.updates)
        self.link.join(self.collector, self.watch)
        self.parameters = torch.zeros(len(run.store.parameters))

    def update(self, norm: float = 1.0) -> Pulled:
        pulled = self.link.pull(self.parameters)
        self.collector.collect(lambda t, observations, out: out.fill(0))
        self.watch.lap("env")
        staleness = self.link.push(self.parameters, 0.1, pulled)
        assert staleness is not None
        self.link.publish(STATISTICS, norm, staleness, 0.1, pulled.updates, pulled.updates)
        return pulled


class Run:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        self.config = Config.from_options({"workers": 2, "hidden_sizes": (4,)})
        self.scoreboard, self.logged = Scoreboard(2), list[int]()
        self.store = build_store(self.config, ENVIRONMENT, self.scoreboard)
        self.clock = SimpleNamespace(now=100.0, cpu=1.0)
        clock = SimpleNamespace(monotonic=lambda: self.clock.now, process_time=lambda: self.clock.cpu)
        monkeypatch.setattr(module, "time", clock)

    @property
    def row(self) -> np.ndarray:
        return self.scoreboard.read()[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def test_updates_are_counted_in_the_workers_row(run: Run) -> None:
    worker = Worker(run)
    for norm in (1.0, 2.5):
        run.clock.now += 10
        run.clock.cpu += 3
        worker.update(norm)
    row, collector = run.row, worker.collector
    assert (row["updates"], row["gradient_norm"], row["policy_loss"], row["policy_loss_square"]) == (2, 3.5, 1.0, 0.5)
    assert (row["env_steps"], row["episodes"]) == (collector.env_steps, collector.episodes)
    assert row["return_sum"] == collector.return_sum
    assert row["mean_return"] == pytest.approx(collector.return_sum / collector.episodes)
    assert (row["started"], row["heartbeat"], row["cpu_seconds"]) == (100, 120, 7)
    assert row["env_seconds"] == worker.watch.seconds["env"] > 0
    assert run.scoreboard.staleness_counts()[1, 0] == 2
    assert run.logged == [1, 2]
    assert not run.scoreboard.read()[0]["updates"]


def test_a_successor_counts_on_from_what_was_pushed_and_begins_new_episodes(run: Run) -> None:
    first = Worker(run)
    for _ in range(3):
        first.update()
    pulled = first.link.pull(first.parameters)
    first.collector.env_steps += 7
    first.link.push(first.parameters, 0.1, pulled)  # and dies before it publishes
    before = run.row.copy()
    second = Worker(run)
    assert (second.collector.env_steps, second.collector.episodes) == (run.store.env_steps_of(1), before["episodes"])
    assert second.collector.return_sum == before["return_sum"]
    assert run.row["env_steps"] == before["env_steps"] + 7
    assert [second.watch.seconds[name.removesuffix("_seconds")] for name in PHASE_SECONDS] == [
        before[name] for name in PHASE_SECONDS
    ]
    second.update()
    assert run.row["updates"] == before["updates"] + 1
    assert run.row["started"] == before["started"]


def test_a_pull_hands_in_what_is_due_and_notes_that_no_gradients_are_computed(run: Run) -> None:
    worker = Worker(run)
    worker.update()
    worker.link.start_learning()
    assert run.scoreboard.is_learning(1)
    run.store.barrier.request()
    worker.link.pull(worker.parameters)
    assert run.store.barrier.due(1) == 0
    content = run.store.barrier.snapshot(1)
    assert content is not None
    state, counted = unpack(content), run.scoreboard.worker_state(1)
    assert pack(state["collector"]) == pack(worker.collector.state())
    assert state["board"].keys() == counted.keys()
    assert all(np.array_equal(state["board"][name], counted[name], equal_nan=True) for name in counted)
    assert not run.scoreboard.is_learning(1)


def test_a_worker_that_is_given_up_or_stopped_is_told_so(run: Run) -> None:
    worker = Worker(run)
    pulled = worker.update()
    run.scoreboard.replace(1)
    assert worker.link.push(worker.parameters, 0.1, pulled) is None
    run.scoreboard.request(STOP)
    assert worker.link.pull(worker.parameters).stopped


def test_seconds_of_waiting_are_booked_once(run: Run) -> None:
    worker = Worker(run)
    seconds = worker.watch.seconds
    seconds["push"], run.store.waited = 2.0, 1.5
    for _ in range(2):
        worker.link.book_waiting("push")
    assert (seconds["push"], seconds["idle"]) == (0.5, 1.5)


@pytest.mark.parametrize(("fault", "begins_anew"), [("observations", True), ("rewards", True), ("gradients", False)])
def test_a_dropped_rollout_is_counted_and_spoilt_episodes_begin_anew(run: Run, fault: str, begins_anew: bool) -> None:
    worker = Worker(run)
    worker.update()
    running = worker.collector.state()["running_returns"]
    assert any(running)
    worker.link.drop(fault)
    assert run.scoreboard.faults()[fault] == 1
    assert worker.collector.state()["running_returns"] == ([0.0] * 2 if begins_anew else running)


def test_the_env_steps_of_a_gradient_that_was_too_stale_count_in_the_store_and_in_the_row(run: Run) -> None:
    worker = Worker(run)
    worker.update()
    pulled = worker.link.pull(worker.parameters)
    worker.collector.collect(lambda t, observations, out: out.fill(0))
    run.store.max_staleness = 0
    run.store.push(0, worker.parameters, 0.1, 0, run.store.pull(worker.parameters))  # another worker's
    with pytest.raises(StaleGradientError):
        worker.link.push(worker.parameters, 0.1, pulled)
    worker.link.drop("stale_gradients")
    assert run.row["env_steps"] == run.store.env_steps == worker.collector.env_steps
    assert run.row["updates"] == 1
    assert run.store.updates == 2


def test_a_worker_that_has_long_had_nothing_finite_ends(run: Run) -> None:
    worker = Worker(run)
    for _ in range(2 * DROPS_IN_A_ROW):  # many, but all at once
        worker.link.drop("gradients")
    run.clock.now += DROP_SECONDS + 1
    with pytest.raises(NumericsError, match=f"{2 * DROPS_IN_A_ROW + 1} rollouts in a row had gradients that are not"):
        worker.link.drop("gradients")


def test_drops_between_which_there_are_updates_do_not_end_a_worker(run: Run) -> None:
    worker = Worker(run)
    for _ in range(3):
        for _ in range(DROPS_IN_A_ROW - 1):
            run.clock.now += 1
            worker.link.drop("rewards")
        worker.update()
    assert run.scoreboard.faults()["rewards"] == 3 * (DROPS_IN_A_ROW - 1)
