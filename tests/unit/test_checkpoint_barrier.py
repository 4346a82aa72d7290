"""The checkpoint barrier: what is due and what is complete, whoever hands in and whoever dies."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a3c.config import Config
from a3c.environments import describe
from a3c.rollouts import Collector, Stopwatch
from shared.checkpoint_barrier import LAST, CheckpointBarrier
from shared.scoreboard import Scoreboard
from tests.unit.processes import die, killed
from workers.link import SharedMemoryLink
from workers.training import build_store
from workers.worker_state import pack

WORKERS = 3


def due(barrier: CheckpointBarrier) -> list[int]:
    return [barrier.due(worker) for worker in range(WORKERS)]


def answer(barrier: CheckpointBarrier, *workers: int) -> None:
    """Workers hand in what is due."""
    for worker in workers:
        barrier.hand_in(worker, barrier.due(worker), f"of {worker}".encode())


def test_without_a_leader_a_snapshot_is_due_as_soon_as_it_is_requested() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    assert due(barrier) == [0, 0, 0]
    barrier.request()
    assert due(barrier) == [1, 1, 1]
    assert not barrier.is_requested


def test_where_a_leader_makes_it_due_nothing_is_due_before() -> None:
    barrier = CheckpointBarrier(WORKERS, led=True)
    barrier.request()
    assert (due(barrier), barrier.is_requested) == ([0, 0, 0], True)
    barrier.make_due()
    assert (due(barrier), barrier.is_requested) == ([1, 1, 1], False)


def test_a_snapshot_is_due_once_for_each_request() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    barrier.request()
    answer(barrier, 1)
    assert due(barrier) == [1, 0, 1]
    barrier.request()
    assert due(barrier) == [2, 2, 2]  # who has missed a request answers the last one alone


def test_a_request_is_complete_when_every_worker_has_answered_it() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    barrier.request()
    answer(barrier, 0, 2)
    assert not barrier.complete()
    answer(barrier, 1)
    assert barrier.complete()
    barrier.request()
    assert not barrier.complete()


def test_a_request_that_its_leader_has_not_made_due_is_not_complete_though_all_have_answered_the_one_before() -> None:
    barrier = CheckpointBarrier(WORKERS, led=True)
    barrier.request()
    barrier.make_due()
    answer(barrier, *range(WORKERS))
    assert barrier.complete()
    barrier.request()
    assert not barrier.complete()


def test_a_last_snapshot_answers_every_request_and_all_of_them_are_the_end() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    for worker in (0, 1):
        barrier.hand_in(worker, LAST, b"last")
    barrier.request()
    barrier.request()
    assert due(barrier) == [0, 0, 2]
    answer(barrier, 2)
    assert (barrier.complete(), barrier.ended()) == (True, False)
    barrier.hand_in(2, LAST, b"last")
    assert (barrier.complete(), barrier.ended()) == (True, True)


def test_a_snapshot_of_an_earlier_sitting_is_there_but_answers_nothing() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    for worker in range(WORKERS):
        barrier.hand_in(worker, 0, b"restored")
    assert barrier.snapshot(1) == b"restored"
    barrier.request()
    assert (due(barrier), barrier.complete()) == ([1, 1, 1], False)


def test_a_dead_workers_snapshot_is_forgotten_and_its_successors_is_due() -> None:
    barrier = CheckpointBarrier(WORKERS, led=False)
    barrier.request()
    answer(barrier, *range(WORKERS))
    barrier.forget(1)
    assert (barrier.snapshot(1), barrier.complete()) == (None, False)
    assert due(barrier) == [0, 1, 0]
    answer(barrier, 1)
    assert (barrier.snapshot(1), barrier.complete()) == (b"of 1", True)


def test_the_end_of_a_worker_stays_though_it_dies_while_it_closes_its_environments() -> None:
    barrier = CheckpointBarrier(1, led=True)
    barrier.hand_in(0, LAST, b"last")
    barrier.forget(0)
    assert barrier.ended()
    assert barrier.snapshot(0) == b"last"


STEPS = st.tuples(st.sampled_from(["request", "make due", "hand in", "forget", "leave"]), st.integers(0, WORKERS - 1))


@given(st.booleans(), st.lists(STEPS, max_size=30))
def test_it_is_complete_exactly_when_all_have_handed_in_since_it_was_due(
    led: bool, steps: list[tuple[str, int]]
) -> None:
    barrier = CheckpointBarrier(WORKERS, led)
    is_due, answered, left = False, set[int](), set[int]()
    for what, worker in [("request", 0), *steps, ("request", 0), ("make due", 0)]:
        if what == "request":
            barrier.request()
            is_due, answered = not led, set(left)
        elif what == "make due" and barrier.is_requested:
            barrier.make_due()
            is_due, answered = True, set(left)
        elif what == "hand in" and barrier.due(worker):
            answer(barrier, worker)
            answered.add(worker)
        elif what == "leave":
            barrier.hand_in(worker, LAST, b"last")
            left.add(worker)
            answered.add(worker)
        elif what == "forget":
            barrier.forget(worker)
            answered -= {worker} - left
        assert barrier.complete() == (is_due and len(answered) == WORKERS)
        assert barrier.ended() == (len(left) == WORKERS)
    assert [worker for worker in range(WORKERS) if not barrier.due(worker)] == sorted(left)


# -- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_a_worker_that_dies_while_it_hands_in_has_answered_nothing(half: bool) -> None:
    barrier = CheckpointBarrier(1, led=False)
    barrier.hand_in(0, 0, b"before")
    barrier.request()

    def hand_in_and_die() -> None:
        put = barrier._snapshots.put

        def dying(index: int, content: bytes) -> None:
            if half:  # the snapshot is there, and its number is not
                put(index, content)
            die()

        barrier._snapshots.put = dying  # type: ignore[method-assign]
        barrier.hand_in(0, 1, b"of the dead")

    assert killed(hand_in_and_die)
    assert not barrier.complete()
    barrier.forget(0)
    assert barrier.snapshot(0) is None
    answer(barrier, 0)
    assert (barrier.snapshot(0), barrier.complete()) == (b"of 0", True)


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_a_snapshot_may_be_of_any_size() -> None:
    barrier, snapshots = CheckpointBarrier(WORKERS, led=False), [os.urandom(size) for size in (5_000_000, 0, 7)]
    for worker, snapshot in enumerate(snapshots):
        barrier.hand_in(worker, 1, snapshot)
    assert [barrier.snapshot(worker) for worker in range(WORKERS)] == snapshots


WIDE = "benchmarks.wide_cartpole:WideCartPole16384-v0"


@pytest.mark.parametrize(("env", "count"), [(WIDE, 40), ("CartPole-v1", 256)])
def test_a_workers_episodes_are_handed_in_and_taken_over_however_wide_and_many(
    env: str, count: int, tmp_path: Path
) -> None:
    config, environment = Config.from_options({"env": env, "envs_per_worker": count}), describe(env)
    scoreboard = Scoreboard(config.workers)
    store = build_store(config, environment, scoreboard)

    def joined() -> tuple[SharedMemoryLink, Collector]:
        link = SharedMemoryLink(0, store, scoreboard)
        collector = Collector(environment.make(count), 3, np.random.default_rng(0))
        link.join(collector, Stopwatch())
        return link, collector

    link, first = joined()
    first.collect(lambda t, observations, out: out.fill(0))
    link.leave()
    _, second = joined()
    assert pack(second.state()) == pack(first.state())
    assert second.env_steps == 3 * count
    assert scoreboard.faults()["episodes"] == 0
