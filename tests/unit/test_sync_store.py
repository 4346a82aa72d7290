"""The store whose workers wait for each other: deaths at every point, its queue, its captures; and its bells."""

import time
from collections.abc import Callable

import pytest
import torch

from shared import sync_store
from shared.bell import Bell
from shared.board import STOP, Board
from shared.store import LAST, Pulled
from shared.sync_store import QUEUE_SLOTS, SyncStore
from tests.unit.processes import SECONDS, die, exit_code, forked, killed, wait_until

SIZE, WORKERS, STEPS, DEADLY_STEP = 10, 3, 12, 5
AVERAGE = (1 + 2 + 3) / WORKERS  # of what the workers push, see `work`


class PlainSGD:
    """theta <- theta - gradient, and one moment that counts the steps."""

    def __init__(self) -> None:
        self.moment = torch.zeros(SIZE).share_memory_()  # type: ignore[no-untyped-call]

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        parameters -= gradient
        self.moment += 1

    def state(self) -> dict[str, torch.Tensor]:
        return {"count": self.moment}


def store_of(workers: int, interval: int = 10**9, board: Board | None = None) -> SyncStore:
    return SyncStore(torch.zeros(SIZE), PlainSGD(), board or Board(workers), interval, deposit_size=9)


def step_alone(store: SyncStore, count: int, env_steps: int = 10) -> None:
    """Steps of a store with one worker, `env_steps` each."""
    local = torch.zeros(SIZE)
    for _ in range(count):
        pulled = store.pull(local)
        assert store.push(0, torch.ones(SIZE), 1.0, pulled.env_steps + env_steps, pulled) == 0


# -- deaths -----------------------------------------------------------------------------------------------------------


class Deadly:
    """Ends its process at a chosen point of the fifth step, in the first process of a worker."""

    def __init__(self, worker: int, point: str):
        self._worker, self._point = worker, point

    def pass_by(self, store: SyncStore, worker: int, point: str, step: int) -> None:
        if (worker, point, step, store.incarnation) == (self._worker, self._point, DEADLY_STEP, 0):
            die()


class DeadlyStore(SyncStore):
    """A store with points to die at, as each worker comes by them."""

    deadly = Deadly(-1, "never")

    def push(
        self, worker_index: int, gradient: torch.Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        self.deadly.pass_by(self, worker_index, "before handing in", pulled.updates + 1)
        return super().push(worker_index, gradient, learning_rate, env_steps, pulled)

    def _wait(self, worker_index: int, condition: Callable[[], bool]) -> bool:
        self.deadly.pass_by(self, worker_index, "after handing in", self._handed_in.numbers[worker_index])
        return super()._wait(worker_index, condition)

    def _step(self, learning_rate: float, step: int) -> None:
        self.deadly.pass_by(self, 0, "before the step", step)
        super()._step(learning_rate, step)
        self.deadly.pass_by(self, 0, "before anybody is told", step)


class DeadlySGD(PlainSGD):
    """The leader dies after the step is made and before it counts as done."""

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        super().step(parameters, gradient, learning_rate, count)
        store.deadly.pass_by(store, 0, "between step and done", count)


store: DeadlyStore


def work(worker: int, incarnation: int, unwanted: bool = False) -> None:
    """Push until there have been enough steps; a worker's gradients are its number, but for an `unwanted` first one."""
    store.incarnation = incarnation
    local, env_steps = torch.zeros(SIZE), store.env_steps_of(worker)
    while (pulled := store.pull(local)).updates < STEPS:
        env_steps += 10
        gradient = torch.full((SIZE,), 1000.0 if unwanted else worker + 1.0)
        unwanted = False
        assert store.push(worker, gradient, 1.0, env_steps, pulled) == 0


@pytest.mark.parametrize(
    ("worker", "point", "done", "steps_made"),
    [
        (1, "before handing in", DEADLY_STEP - 1, STEPS),
        (2, "after handing in", DEADLY_STEP, STEPS),
        (0, "before handing in", DEADLY_STEP - 1, STEPS),
        (0, "after handing in", DEADLY_STEP - 1, STEPS),
        (0, "before the step", DEADLY_STEP - 1, STEPS),
        (0, "between step and done", DEADLY_STEP - 1, STEPS + 1),  # it is made again, along the same gradients
        (0, "before anybody is told", DEADLY_STEP, STEPS),
    ],
)
def test_a_worker_may_die_at_any_point_and_its_successor_goes_on(
    worker: int, point: str, done: int, steps_made: int
) -> None:
    global store
    board = Board(WORKERS)
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), board, interval=10**9)
    store.deadly = Deadly(worker, point)
    others = [index for index in range(WORKERS) if index != worker]
    with forked(work, others[0], 0) as first, forked(work, others[1], 0) as second:
        assert killed(work, worker, 0)
        wait_until(lambda: store.updates == done)
        board.replace(worker)
        store.settle(worker)
        # Where the dead worker's gradient waits already, that of its successor's first rollout is not wanted.
        unwanted = point != "before handing in" and done < DEADLY_STEP
        with forked(work, worker, 1, unwanted) as successor:
            assert [exit_code(process) for process in (first, second, successor)] == [0, 0, 0]
    assert store.updates == STEPS
    assert store.parameters.tolist() == [-AVERAGE * steps_made] * SIZE
    assert store.env_steps == 10 * (WORKERS * STEPS + unwanted)
    assert store.snapshot().consistent


def test_who_waits_for_a_dead_worker_shows_that_it_lives_and_leaves_when_it_is_given_up() -> None:
    board = Board(2)
    waiting = store_of(2, board=board)

    def push_late() -> None:
        pulled = waiting.pull(torch.zeros(SIZE))
        assert waiting.push(1, torch.ones(SIZE), 1.0, 10, pulled) is None

    with forked(push_late) as process:
        wait_until(lambda: board.beats(1) > 3)
        board.replace(1)
        assert exit_code(process) == 0
    assert waiting.updates == 0


# -- the queue --------------------------------------------------------------------------------------------------------


def taken(store: SyncStore) -> list[tuple[int, int, float]]:
    """All that is in the queue: updates, env steps, and what the parameters were."""
    facts = []
    while (snapshot := store.due_snapshot(0)) is not None:
        assert snapshot.consistent
        facts.append((snapshot.updates, snapshot.env_steps, float(snapshot.parameters[0])))
    return facts


def test_where_the_queue_is_full_training_waits_for_the_monitor_and_no_snapshot_is_lost() -> None:
    board, steps = Board(1), 2 * QUEUE_SLOTS + 5
    full = store_of(1, interval=1, board=board)
    seen = []
    with forked(step_alone, full, steps, 1) as process:
        wait_until(lambda: board.beats(0) > 3)  # it waits
        assert full.updates == QUEUE_SLOTS - 1  # the queue begins with the parameters before the first step
        while full.updates < steps:
            seen += taken(full)
        assert exit_code(process) == 0
    seen += taken(full)
    due, wanted = 0, []
    for count in range(steps + 1):
        if count >= due:
            wanted.append((count, count, -float(count)))
            due = count + max(1, count // 20)
    assert seen == wanted


def test_a_full_queue_does_not_keep_a_run_from_stopping() -> None:
    board = Board(1)
    full = store_of(1, interval=1, board=board)

    def step_until_stopped() -> None:
        local = torch.zeros(SIZE)
        while not (pulled := full.pull(local)).stopped:
            full.push(0, torch.ones(SIZE), 1.0, pulled.env_steps + 1, pulled)

    with forked(step_until_stopped) as process:
        wait_until(lambda: board.beats(0) > 3)
        board.request(STOP)
        assert exit_code(process) == 0


@pytest.mark.parametrize(("steps", "left"), [(4, []), (5, [5])])
def test_the_end_of_training_is_evaluated_once_also_where_the_run_is_resumed_there(steps: int, left: list[int]) -> None:
    ended, resumed = store_of(1, interval=20), store_of(1, interval=20)
    step_alone(ended, steps)
    assert [updates for updates, _, _ in taken(ended)] == [0, 2, 4]
    ended.deposits.put(0, LAST, b"end")
    resumed.restore(ended.capture().tensors)
    for store in (ended, resumed):
        assert [snapshot.updates for snapshot in store.last_snapshots()] == left


# -- captures ---------------------------------------------------------------------------------------------------------


def test_a_capture_is_of_the_step_that_follows_its_request_whatever_comes_after() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 3)
    assert store.deposit_due(0) == 0
    store.request_capture()
    assert (store.deposit_due(0), store.capturing()) == (0, False)
    step_alone(store, 1)
    assert (store.deposit_due(0), store.capturing(), store.captured()) == (1, True, False)
    store.deposits.put(0, 1, b"me")
    assert (store.deposit_due(0), store.captured()) == (0, True)
    step_alone(store, 3)
    capture = store.capture()
    assert (capture.snapshot.updates, capture.snapshot.env_steps, capture.snapshot.consistent) == (4, 40, True)
    assert capture.snapshot.parameters.tolist() == [-4] * SIZE
    assert capture.tensors["parameters"].tolist() == [-4] * SIZE
    assert capture.tensors["moment.count"].tolist() == [4] * SIZE
    assert capture.tensors["pending_facts"][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_capture_at_the_end_is_of_the_end() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 3)
    store.deposits.put(0, LAST, b"end")
    capture = store.capture()
    assert (capture.snapshot.updates, capture.snapshot.env_steps) == (3, 30)
    assert capture.tensors["parameters"].tolist() == [-3] * SIZE
    assert capture.tensors["pending_facts"][:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("steps_before", [3, QUEUE_SLOTS + 5])  # also where the queue has gone round
def test_a_restored_store_evaluates_and_steps_what_would_have_come_without_a_break(steps_before: int) -> None:
    before, after = store_of(1, interval=30), store_of(1, interval=30)
    for _ in range(steps_before):
        step_alone(before, 4)
        taken(before)
    step_alone(before, 20)  # which leave snapshots in the queue
    before.request_capture()
    step_alone(before, 1)
    tensors = before.capture().tensors
    assert len(tensors["pending"]) >= 2
    after.restore(tensors)
    assert (after.updates, after.env_steps) == (before.updates, before.env_steps)
    for store in (before, after):
        step_alone(store, 20)
    assert taken(after) == taken(before)
    assert after.sha256() == before.sha256()


def test_what_has_been_taken_by_then_is_not_pending() -> None:
    store = store_of(1, interval=10)
    store.request_capture()
    step_alone(store, 3)
    assert store.due_snapshot(0) is not None
    assert store.capture().tensors["pending_facts"][:, 0].tolist() == [1]  # of 0 and 1, queued before the capture


def test_several_workers_go_on_from_a_capture() -> None:
    global store
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Board(WORKERS), interval=10**9)
    store.request_capture()
    run_all()
    tensors = store.capture().tensors  # of the first step
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Board(WORKERS), interval=10**9)
    store.restore(tensors)
    assert (store.updates, store.env_steps) == (1, 10 * WORKERS)
    run_all()
    assert (store.updates, store.env_steps) == (STEPS, 10 * WORKERS * STEPS)
    assert store.parameters.tolist() == [-AVERAGE * STEPS] * SIZE


def test_bells_suffice_to_wake_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    global store
    monkeypatch.setattr(sync_store, "WAIT_SECONDS", 10.0 * SECONDS)
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Board(WORKERS), interval=10**9)
    run_all()
    assert store.updates == STEPS


def run_all() -> None:
    with forked(work, 0, 0) as first, forked(work, 1, 0) as second, forked(work, 2, 0) as third:
        assert [exit_code(process) for process in (first, second, third)] == [0, 0, 0]


# -- bells ------------------------------------------------------------------------------------------------------------


def test_a_ring_before_the_wait_ends_it_at_once() -> None:
    bell, began = Bell(), time.monotonic()
    bell.ring()
    bell.wait(2 * SECONDS)
    assert time.monotonic() - began < SECONDS


def test_a_ring_wakes_a_process_that_waits() -> None:
    bell = Bell()
    with forked(bell.wait, 10 * SECONDS) as process:
        bell.ring()
        assert exit_code(process) == 0


def test_nobody_waits_for_longer_than_wanted() -> None:
    bell, began = Bell(), time.monotonic()
    bell.wait(0.01)
    assert time.monotonic() - began >= 0.01


def test_a_bell_that_nobody_listens_to_does_not_hold_up_who_rings_it() -> None:
    bell, began = Bell(), time.monotonic()
    for _ in range(100_000):
        bell.ring()
    bell.wait(2 * SECONDS)
    assert time.monotonic() - began < SECONDS
