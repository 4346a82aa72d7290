"""Deposits: whole or absent, whenever they are read and whenever their writer dies."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from a3c.config import Config
from a3c.environments import describe
from a3c.rollouts import Collector
from a3c.stopwatch import Stopwatch
from shared.board import Board
from shared.deposits import Deposits
from tests.unit.processes import die, forked, killed, wait_until
from workers.assembly import build_store
from workers.place import Place

LARGE = 300_000


def test_a_deposit_is_what_its_worker_put_last() -> None:
    deposits = Deposits(2, size=10)
    assert deposits.get(0) is None
    deposits.put(0, 3, b"first")
    deposits.put(0, 4, b"last")
    assert (deposits.get(0), deposits.number(0)) == (b"last", 4)
    assert (deposits.get(1), deposits.number(1)) == (None, -1)
    deposits.clear(0)
    assert (deposits.get(0), deposits.number(0)) == (None, -1)


def test_what_is_too_large_leaves_the_slot_empty() -> None:
    deposits = Deposits(2, size=10)
    deposits.put(0, 1, bytes(10))
    assert deposits.get(0) == bytes(10)
    deposits.put(0, 2, bytes(11))
    assert (deposits.get(0), deposits.number(0)) == (None, -1)


def test_a_request_is_answered_when_every_worker_has_answered_it_or_a_later_one() -> None:
    deposits = Deposits(2, size=10)
    assert not deposits.answered(0)
    deposits.put(0, 2, b"")
    assert not deposits.answered(1)
    deposits.put(1, 1, b"")
    assert deposits.answered(1)
    assert not deposits.answered(2)


class DeadlyBytes(bytes):
    """Content in the middle of whose putting the process dies: after its length is written, before its bytes are."""

    asked = 0

    def __len__(self) -> int:
        self.asked += 1
        if self.asked == 3:
            die()
        return super().__len__()


def test_a_worker_that_dies_in_the_middle_of_a_deposit_leaves_none() -> None:
    deposits = Deposits(1, size=10)
    deposits.put(0, 1, b"whole")
    assert killed(deposits.put, 0, 2, DeadlyBytes(b"half"))
    assert (deposits.get(0), deposits.number(0)) == (None, -1)
    assert not deposits.answered(1)
    deposits.put(0, 3, b"successor")
    assert deposits.get(0) == b"successor"


class Watched(Deposits):
    """Counts how often the number of a slot is looked at: more than twice where a read is torn, and tried again."""

    looks = 0

    def number(self, worker_index: int) -> int:
        self.looks += 1
        return super().number(worker_index)


def write_on(deposits: Deposits) -> None:
    number = 0
    while True:
        number += 1
        deposits.put(0, number, bytes([number % 251]) * (LARGE - number % 1000))
        time.sleep(1e-5)


def test_a_deposit_that_is_torn_while_it_is_read_is_never_returned() -> None:
    deposits, seen, torn = Watched(1, size=LARGE), set(), 0

    def enough() -> bool:
        nonlocal torn
        before = deposits.looks
        content = deposits.get(0)
        torn += deposits.looks - before > 2
        if content is not None:
            assert content == content[:1] * len(content)
            seen.add(content[0])
        return torn >= 20 and len(seen) >= 20

    with forked(write_on, deposits):
        wait_until(enough, pause=0)


WIDE = "benchmarks.wide_cartpole:WideCartPole16384-v0"


@pytest.mark.parametrize(("env", "count", "exact"), [(WIDE, 1, True), (WIDE, 40, False), ("CartPole-v1", 256, True)])
def test_what_any_worker_tells_fits_its_deposit(env: str, count: int, exact: bool, tmp_path: Path) -> None:
    """Observations of any size; those too large for a deposit begin new episodes where the run is resumed."""
    config, environment = Config.from_options({"env": env, "envs_per_worker": count}), describe(env)
    board = Board(config.workers)
    store = build_store(config, environment, board, tmp_path / "lock")

    def collector() -> Collector:
        return Collector(environment.make(count), 3, environment.action_count, np.random.default_rng(0))

    first = collector()
    first.collect(lambda _, observations: np.zeros((len(observations), 2), np.float32))
    Place(0, store, board, first, Stopwatch()).leave()
    content = store.deposits.get(0)
    assert content is not None
    second = collector()
    assert second.restore(json.loads(content)["collector"]) == exact
    assert second.env_steps == first.env_steps == 3 * count
