"""The scoreboard: running totals, signs of life, requests, and what of them a resumed run goes on from."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from shared.scoreboard import (
    CLOSE,
    COLUMNS,
    CRITIC,
    DROPPED,
    FAULTS,
    FINISH,
    PAIRS,
    PHASE_SECONDS,
    ROW,
    RUN,
    STALENESS_BINS,
    STOP,
    SUMS,
    Scoreboard,
)

ADDED = (*SUMS, *CRITIC[:2], *PHASE_SECONDS, "env_steps", "episodes", "return_sum", "cpu_seconds")


def row(**values: float) -> np.ndarray:
    return np.array([values.get(name, 0.0) for name in ROW.names or ()])


def used_scoreboard(workers: int) -> Scoreboard:
    """A scoreboard on which everything has been counted, other numbers everywhere."""
    scoreboard = Scoreboard(workers)
    for worker in range(workers):
        scoreboard.row(worker)[:] = 1000 * (worker + 1) + np.arange(len(ROW.names or ()))
        for count in range(worker + 2):
            scoreboard.count_staleness(worker, count)
            scoreboard.count_dropped(worker, DROPPED[count % len(DROPPED)])
            scoreboard.replace(worker)
    scoreboard.row(0)[(ROW.names or ()).index("mean_return")] = np.nan
    for count, name in enumerate(FAULTS):
        for _ in range(count + 1):
            scoreboard.count(name)
    return scoreboard


def dropped(scoreboard: Scoreboard) -> list[int]:
    return [scoreboard.faults()[name] for name in DROPPED]


def comparable(rows: Any) -> list[dict[str, float | None]]:
    """Rows as plain numbers, without the moments of one sitting; None for what is not known yet."""
    names = [name for name in ROW.names or () if name not in ("started", "heartbeat")]
    return [{name: None if np.isnan(row[name]) else float(row[name]) for name in names} for row in rows]


def test_totals_are_sums_over_rows_and_a_read_is_a_copy() -> None:
    scoreboard = Scoreboard(3)
    for worker in range(3):
        scoreboard.row(worker)[:] = row(env_steps=10**worker)
    rows = scoreboard.read()
    assert rows["env_steps"].sum() == 111
    rows["env_steps"] = 0
    assert scoreboard.read()["env_steps"].sum() == 111


def test_what_is_asked_for_is_told() -> None:
    scoreboard = Scoreboard(1)
    assert scoreboard.requested() == RUN
    scoreboard.request(FINISH)
    assert scoreboard.requested() == FINISH and not scoreboard.stopping()
    for request in (STOP, CLOSE):
        scoreboard.request(request)
        assert scoreboard.requested() == request and scoreboard.stopping()


def test_training_seconds_count_from_the_first_workers_start() -> None:
    scoreboard = Scoreboard(2)
    assert scoreboard.training_seconds(now=50.0) == 0.0
    for worker, started in ((0, 20.0), (1, 10.0)):
        scoreboard.row(worker)[:] = row(started=started)
    assert scoreboard.training_seconds(now=50.0) == 40.0


def test_a_row_is_read_by_the_names_it_was_written_with() -> None:
    scoreboard = Scoreboard(2)
    names = ROW.names or ()
    scoreboard.row(1)[:] = np.arange(len(names))
    assert [scoreboard.read()[1][name] for name in names] == list(range(len(names)))
    assert not scoreboard.read()[0]["env_steps"]


def test_staleness_is_counted_exactly_up_to_the_last_bin() -> None:
    scoreboard = Scoreboard(2)
    for staleness in (0, 3, 3, STALENESS_BINS - 1, 10 * STALENESS_BINS):
        scoreboard.count_staleness(1, staleness)
    counts = scoreboard.staleness_counts()
    assert not counts[0].any()
    assert {int(value): int(counts[1][value]) for value in counts[1].nonzero()[0]} == {
        0: 1,
        3: 2,
        STALENESS_BINS - 1: 2,
    }


def test_signs_of_life_are_counted_for_each_worker_the_monitor_and_the_checkpointer() -> None:
    scoreboard = Scoreboard(2)
    for index in (0, scoreboard.monitor, scoreboard.monitor, *[scoreboard.checkpointer] * 3):
        scoreboard.beat(index)
    assert [scoreboard.beats(index) for index in (0, 1, scoreboard.monitor, scoreboard.checkpointer)] == [1, 0, 2, 3]


def test_a_worker_says_for_itself_whether_it_computes_gradients() -> None:
    scoreboard = Scoreboard(2)
    scoreboard.set_learning(1, True)
    assert [scoreboard.is_learning(worker) for worker in range(2)] == [False, True]
    scoreboard.set_learning(1, False)
    assert not scoreboard.is_learning(1)


def test_saves_are_asked_for_any_number_of_times() -> None:
    scoreboard = Scoreboard(1)
    assert scoreboard.saves_requested() == 0
    scoreboard.request_save()
    scoreboard.request_save()
    assert scoreboard.saves_requested() == 2


def test_a_replaced_worker_has_another_incarnation() -> None:
    scoreboard = Scoreboard(2)
    scoreboard.replace(1)
    scoreboard.replace(1)
    assert [scoreboard.incarnation(index) for index in range(2)] == [0, 2]
    assert scoreboard.faults()["worker_restarts"] == 2


@pytest.mark.parametrize("workers", [3, 5])
def test_a_restored_scoreboard_has_the_same_rows_and_counts(workers: int) -> None:
    before, after = used_scoreboard(3), Scoreboard(workers)
    after.restore(before.state())
    assert comparable(after.read()[:3]) == comparable(before.read())
    assert comparable(after.read()[3:]) == comparable(Scoreboard(workers - 3).read())
    assert np.array_equal(after.staleness_counts()[:3], before.staleness_counts())
    assert not after.staleness_counts()[3:].any()
    assert dropped(after) == dropped(before)
    assert [after.incarnation(index) for index in range(workers)] == [2, 3, 4, 0, 0][:workers]
    assert [after.faults()[name] for name in FAULTS] == [1, 2, 3, 4, 5]


def test_a_state_of_a_version_that_counted_less_is_restored() -> None:
    before, after = used_scoreboard(2), Scoreboard(2)
    place, state = COLUMNS.index("network_seconds"), before.state()
    rows = torch.cat((state["rows"][:, :place], state["rows"][:, place + 1 :]), 1)
    after.restore(state | {"tallies": state["tallies"][:3], "rows": rows})
    assert [after.faults()[name] for name in FAULTS] == [1, 2, 3, 0, 0]
    expected = before.read().copy()
    expected["network_seconds"] = 0
    assert comparable(after.read()) == comparable(expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_with_fewer_workers_no_total_is_lost(workers: int) -> None:
    before, after = used_scoreboard(4), Scoreboard(workers)
    after.restore(before.state())
    for name in ADDED:
        assert after.read()[name].sum() == before.read()[name].sum(), name
    for name in PAIRS:
        exact = [
            sum(Fraction(float(x)) for part in (name, f"{name}_low") for x in scoreboard.read()[part])
            for scoreboard in (before, after)
        ]
        assert exact[0] == exact[1], name
    assert np.array_equal(after.staleness_counts().sum(0), before.staleness_counts().sum(0))
    assert after.read()["staleness_max"].max() == before.read()["staleness_max"].max()
    assert dropped(after) == dropped(before)
    assert after.faults() == before.faults()
    assert comparable(after.read()[1:]) == comparable(before.read()[1:workers])


def test_a_restored_scoreboard_goes_on_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.5  # seconds since boot
    monkeypatch.setattr("shared.scoreboard.time", SimpleNamespace(monotonic=lambda: now))
    before, after = Scoreboard(1), Scoreboard(1)
    before.began = now - 10_000
    before.row(0)[:] = row(started=0.5)
    after.restore(before.state())
    assert after.began == now - 10_000
    assert after.earlier_seconds == 1000
    assert after.training_seconds(now) == after.earlier_seconds  # nobody has started in this sitting
    after.row(0)[:] = row(started=now)
    assert after.training_seconds(now + 5) == pytest.approx(after.earlier_seconds + 5)


def test_a_state_is_a_copy() -> None:
    scoreboard = used_scoreboard(2)
    state = {name: tensor.clone() for name, tensor in scoreboard.state().items()}
    taken = scoreboard.state()
    scoreboard.row(0)[:] = 0
    scoreboard.count_staleness(0, 0)
    scoreboard.count_dropped(1, "rewards")
    scoreboard.replace(0)
    scoreboard.count("rollbacks")
    for name, tensor in taken.items():
        if name != "clock":
            assert torch.equal(tensor.nan_to_num(-1), state[name].nan_to_num(-1)), name


@pytest.mark.parametrize("name", ["rows", "staleness", "dropped", "incarnations", "tallies", "clock"])
def test_what_is_no_state_of_a_scoreboard_is_refused(name: str) -> None:
    state = used_scoreboard(2).state()
    with pytest.raises(ValueError, match=r"."):
        Scoreboard(2).restore(state | {name: torch.zeros(7) if name == "clock" else torch.zeros(2, 7)})
    del state[name]
    with pytest.raises(KeyError):
        Scoreboard(2).restore(state)


@pytest.mark.parametrize("as_in_older_checkpoints", [False, True])
def test_a_workers_own_state_replaces_what_was_there(as_in_older_checkpoints: bool) -> None:
    before, after = used_scoreboard(2), used_scoreboard(2)
    after.count_staleness(0, 200)
    for worker in range(2):
        after.row(worker)[:] = 5
    for worker in range(2):
        state: dict[str, Any] = before.worker_state(worker)
        if as_in_older_checkpoints:  # plain JSON, which has no NaN
            row = [None if np.isnan(value) else value for value in state["row"].tolist()]
            staleness = np.trim_zeros(state["staleness"], "b").tolist()
            state = {"row": row, "staleness": staleness, "dropped": state["dropped"].tolist()}
        after.restore_worker(worker, state)
    assert comparable(after.read()) == comparable(before.read())
    assert np.isnan(after.read()["mean_return"][0])
    assert not after.read()["started"].any()
    assert not after.read()["heartbeat"].any()
    assert np.array_equal(after.staleness_counts(), before.staleness_counts())
    assert dropped(after) == dropped(before)


@pytest.mark.parametrize("change", [{"row": [1.0, 2.0]}, {"staleness": [1] * 1000}, {"dropped": [1, 2]}, {"row": {}}])
def test_what_is_no_workers_state_is_refused(change: dict[str, Any]) -> None:
    scoreboard = Scoreboard(1)
    with pytest.raises((TypeError, ValueError)):
        scoreboard.restore_worker(0, scoreboard.worker_state(0) | change)
