"""The store whose workers wait for each other: deaths at every line, its queue, its captures; and its notifiers."""

import dis
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import store as store_module
from shared import sync_store
from shared.checkpoint_barrier import LAST, CheckpointBarrier
from shared.memory import Notifier, SharedArray, Slots
from shared.scoreboard import FINISH, STOP, Scoreboard
from shared.statistics import SharedStatistics
from shared.store import Pulled
from shared.sync_store import QUEUE_SLOTS, SyncStore
from tests.unit.processes import SECONDS, die, exit_code, forked, killed, wait_until

SIZE, WORKERS, STEPS, DEADLY_STEP = 10, 3, 12, 5
AVERAGE = (1 + 2 + 3) / WORKERS  # of what the workers push, see `work`


class PlainSGD:
    """theta <- theta - gradient, and one moment that counts the steps."""

    def __init__(self) -> None:
        self.moments = {"count": SharedArray((SIZE,), "float32")}

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        parameters -= gradient
        self.moments["count"].array += 1


def store_of(workers: int, interval: int = 10**9, scoreboard: Scoreboard | None = None) -> SyncStore:
    return SyncStore(torch.zeros(SIZE), PlainSGD(), scoreboard or Scoreboard(workers), interval)


def hand_in_due(store: SyncStore, worker: int) -> None:
    if number := store.barrier.due(worker):
        store.barrier.hand_in(worker, number, b"snapshot")


def pull(store: SyncStore, worker: int) -> Pulled:
    """As a worker does it between two rollouts."""
    store.enqueue_due(worker, lambda: hand_in_due(store, worker))
    hand_in_due(store, worker)
    return store.pull(torch.zeros(SIZE))


def step_alone(store: SyncStore, count: int, env_steps: int = 10) -> None:
    """Steps of a store with one worker, `env_steps` each, and what comes before the next rollout."""
    for _ in range(count):
        pulled = pull(store, 0)
        assert store.push(0, torch.ones(SIZE), 1.0, pulled.env_steps + env_steps, pulled) == 0
    pull(store, 0)


Facts = tuple[int, int, float]  # of a snapshot: updates, env steps, and what the parameters were


def facts(snapshot: Any) -> Facts:
    assert snapshot.consistent
    return snapshot.updates, snapshot.env_steps, float(snapshot.parameters[0])


def taken(store: SyncStore, evaluated: int = 0) -> list[Facts]:
    """All that is in the queue from snapshot number `evaluated` on, which is then released."""
    seen = []
    while (snapshot := store.next_snapshot(0)) is not None:
        seen.append(facts(snapshot))
        store.release(evaluated + len(seen))
    return seen


def due_snapshots(interval: int, steps: int, env_steps: int) -> list[Facts]:
    """What is queued in so many steps of one worker."""
    wanted, due = list[Facts](), interval
    for count in range(steps + 1):
        if count * env_steps >= due:
            wanted.append((count, count * env_steps, -float(count)))
            due = count * env_steps + max(interval, count * env_steps // 20)
    return wanted


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
def test_a_dead_workers_gradient_counts_where_it_was_handed_in_and_its_successor_goes_on(
    worker: int, point: str, done: int, steps_made: int
) -> None:
    global store
    scoreboard = Scoreboard(WORKERS)
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), scoreboard, interval=10**9)
    store.deadly = Deadly(worker, point)
    others = [index for index in range(WORKERS) if index != worker]
    with forked(work, others[0], 0) as first, forked(work, others[1], 0) as second:
        assert killed(work, worker, 0)
        wait_until(lambda: store.updates == done)
        scoreboard.replace(worker)
        store.close_push(worker)
        # Where the dead worker's gradient waits already, that of its successor's first rollout is not wanted.
        unwanted = point != "before handing in" and done < DEADLY_STEP
        with forked(work, worker, 1, unwanted) as successor:
            assert [exit_code(process) for process in (first, second, successor)] == [0, 0, 0]
    assert store.updates == STEPS
    assert store.parameters.tolist() == [-AVERAGE * steps_made] * SIZE
    assert store.env_steps == 10 * (WORKERS * STEPS + unwanted)
    assert store.snapshot().consistent


def test_who_waits_for_a_dead_worker_shows_that_it_lives_and_leaves_when_it_is_replaced() -> None:
    scoreboard = Scoreboard(2)
    waiting = store_of(2, scoreboard=scoreboard)

    def push_late() -> None:
        pulled = waiting.pull(torch.zeros(SIZE))
        assert waiting.push(1, torch.ones(SIZE), 1.0, 10, pulled) is None

    with forked(push_late) as process:
        wait_until(lambda: scoreboard.beats(1) > 3)
        scoreboard.replace(1)
        assert exit_code(process) == 0
    assert waiting.updates == 0


# -- deaths at every line, while the queue is full and checkpoints are requested --------------------------------------

LED = (
    SyncStore._step,
    SyncStore._between_steps,
    SyncStore._enqueue,
    SyncStore._keep_capture,
    CheckpointBarrier.make_due,
)
SHARED = (
    SyncStore.enqueue_due,
    SyncStore._enqueued,
    SyncStore.push,
    SyncStore._wait,
    SyncStore.pull,
    CheckpointBarrier.due,
    CheckpointBarrier.hand_in,
    Slots.put,
)
Line = tuple[CodeType, int]
PATIENCE = 4  # steps in which a line has to be come by


def lines_of(functions: Iterable[Callable[..., Any]]) -> list[Line]:
    """Every line of some functions but the first, at which they are called."""
    codes = [function.__code__ for function in functions]  # type: ignore[attr-defined]
    return [
        (code, line)
        for code in codes
        for line in sorted({line for _, line in dis.findlinestarts(code)} - {code.co_firstlineno})
    ]


class EveryStep(SyncStore):
    """A snapshot is due after every step, however many there are."""

    def _after(self, env_steps: int) -> int:
        return env_steps + 1


class Victim:
    """A worker whose processes die one after the other, each at its own line."""

    def __init__(self, worker: int):
        self.lines = lines_of(LED + SHARED if worker == 0 else SHARED)
        self._next = multiprocessing.get_context("fork").RawValue("q")
        self._steps = multiprocessing.get_context("fork").RawValue("q")
        self.missed = multiprocessing.get_context("fork").RawArray("q", len(self.lines))

    @property
    def is_through(self) -> bool:
        return bool(self._next.value == len(self.lines))

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "call":
            return self.trace if any(frame.f_code is code for code, _ in self.lines) else None
        if event == "line" and not self.is_through:
            code, line = self.lines[self._next.value]
            if frame.f_code is code and frame.f_lineno == line:
                self._go_on()
                die()
        return self.trace

    def count_step(self) -> None:
        """Skip a line that nobody comes by."""
        self._steps.value += 1
        if self._steps.value > PATIENCE and not self.is_through:
            self.missed[self._next.value] = 1
            self._go_on()

    def _go_on(self) -> None:
        self._next.value += 1
        self._steps.value = 0


class Trial:
    """Workers, and in this process all that a run has besides: supervisor, checkpointer and monitor.

    The monitor releases nothing while a checkpoint is not complete, and each checkpoint is requested at a moment of
    its own: while the queue is full, and while steps are made.
    """

    def __init__(self, victims: Iterable[int]):
        self.scoreboard = Scoreboard(WORKERS)
        statistics = SharedStatistics(WORKERS, 1, lambda rows: np.zeros(0, np.float32), slice(0, 0))
        self.store = EveryStep(torch.zeros(SIZE), PlainSGD(), self.scoreboard, 1, statistics)
        self.victims = {worker: Victim(worker) for worker in victims}
        self.deaths, self.evaluated, self.captures = 0, 0, 0
        self._requested_full = False

    def work(self, worker: int, incarnation: int) -> None:
        self.store.incarnation = incarnation
        victim = self.victims.get(worker)
        if victim is not None:
            sys.settrace(victim.trace)
        env_steps = self.store.env_steps_of(worker)
        while not (pulled := pull(self.store, worker)).stopped:
            env_steps += 10
            assert self.store.push(worker, torch.full((SIZE,), worker + 1.0), 1.0, env_steps, pulled) == 0
            if victim is not None:
                victim.count_step()
        sys.settrace(None)
        self.store.barrier.hand_in(worker, LAST, b"last")

    def run(self) -> None:
        with ExitStack() as stack:
            processes = [stack.enter_context(forked(self.work, worker, 0)) for worker in range(WORKERS)]

            def look() -> bool:
                for worker, process in enumerate(processes):
                    if process.exitcode not in (None, 0):
                        processes[worker] = stack.enter_context(self._successor(worker))
                self.monitor()
                if all(victim.is_through for victim in self.victims.values()):
                    self.scoreboard.request(FINISH)
                return all(process.exitcode == 0 for process in processes)

            wait_until(look, pause=1e-4)

    @contextmanager
    def _successor(self, worker: int) -> Iterator[BaseProcess]:
        self.deaths += 1
        self.scoreboard.replace(worker)
        self.store.close_push(worker)
        self.store.barrier.forget(worker)
        with forked(self.work, worker, self.scoreboard.incarnation(worker)) as process:
            yield process

    def monitor(self) -> None:
        """The checkpointer's and the monitor's turn."""
        barrier = self.store.barrier
        if not self.captures or (barrier.complete() and self.store.queue_is_full):
            if self.captures:
                self.check_capture()
            if self._requested_full:
                self.evaluated += 1
                self.store.release(self.evaluated)
            self._requested_full = not self._requested_full
            self.captures += 1
            barrier.request()

    def check_capture(self) -> None:
        capture = self.store.capture(lambda: self.evaluated)
        assert capture.snapshot.updates <= self.store.updates
        assert torch.equal(capture.snapshot.parameters, -AVERAGE * capture.tensors["moment.count"])
        assert max(capture.tensors["pending_facts"][:, 0].tolist(), default=0) <= capture.snapshot.updates


@pytest.mark.parametrize("slots", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)])
def test_workers_may_die_at_every_line_and_nobody_waits_for_ever(
    victims: tuple[int, ...], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_store, "QUEUE_SLOTS", slots)
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.005)
    trial = Trial(victims)
    trial.run()
    assert trial.store.barrier.ended()
    steps_made = trial.store.optimizer.moments["count"].tensor
    assert torch.equal(trial.store.parameters, -AVERAGE * steps_made)
    assert 0 <= steps_made[0] - trial.store.updates <= trial.deaths  # whose leader died before they counted
    missed = [
        line
        for victim in trial.victims.values()
        for line, is_missed in zip(victim.lines, victim.missed, strict=True)
        if is_missed
    ]
    assert trial.deaths == sum(len(victim.lines) for victim in trial.victims.values()) - len(missed)
    # For a process that is replaced, for a stop at once, and in what a leader and the others do differently.
    assert {code for code, _ in missed} <= {
        function.__code__ for function in (SyncStore._enqueued, SyncStore.push, SyncStore._wait)
    }


# -- the queue --------------------------------------------------------------------------------------------------------


def test_the_untrained_network_is_not_queued_and_the_first_snapshot_is_due_after_an_interval() -> None:
    store = store_of(1, interval=20)
    pull(store, 0)
    step_alone(store, 1)
    assert store.next_snapshot(0) is None
    step_alone(store, 1)
    assert taken(store) == [(2, 20, -2.0)]


def test_a_snapshot_stays_first_until_it_is_released() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 3)
    for _ in range(2):
        first = store.next_snapshot(0)
        assert first is not None
        assert first.updates == 1
    store.release(2)
    third = store.next_snapshot(0)
    assert third is not None
    assert third.updates == 3
    store.release(3)
    store.release(3)  # as by the monitor's successor
    assert store.next_snapshot(0) is None


def test_where_the_queue_is_full_training_waits_for_the_monitor_and_no_snapshot_is_lost() -> None:
    scoreboard, steps = Scoreboard(1), 2 * QUEUE_SLOTS + 5
    full = store_of(1, interval=1, scoreboard=scoreboard)
    seen = list[Facts]()
    with forked(step_alone, full, steps, 1) as process:
        wait_until(lambda: scoreboard.beats(0) > 3)  # it waits
        assert full.queue_is_full
        assert full.updates == QUEUE_SLOTS + 1
        while full.updates < steps:
            seen += taken(full, len(seen))
        assert exit_code(process) == 0
    seen += taken(full, len(seen))
    assert seen == due_snapshots(1, steps, 1)


def test_before_a_rollout_everybody_waits_until_the_leader_has_queued_what_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync_store, "QUEUE_SLOTS", 1)
    scoreboard = Scoreboard(2)
    store = store_of(2, interval=1, scoreboard=scoreboard)

    def step_twice_and_begin(worker: int) -> None:
        for _ in range(2):
            pulled = pull(store, worker)
            store.push(worker, torch.ones(SIZE), 1.0, 10 * (pulled.updates + 1), pulled)
        pull(store, worker)

    with forked(step_twice_and_begin, 0) as leader, forked(step_twice_and_begin, 1) as other:
        wait_until(lambda: store.updates == 2)
        beats = scoreboard.beats(0), scoreboard.beats(1)
        wait_until(
            lambda: scoreboard.beats(0) > beats[0] + 3 and scoreboard.beats(1) > beats[1] + 3
        )  # they show that they live
        assert leader.is_alive() and other.is_alive()
        store.release(1)
        assert [exit_code(leader), exit_code(other)] == [0, 0]
    assert taken(store, 1) == [(2, 40, -2.0)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_queue_does_not_keep_a_run_from_stopping_and_all_workers_end_after_the_same_step(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_store, "QUEUE_SLOTS", 2)
    scoreboard = Scoreboard(workers)
    full = store_of(workers, interval=1, scoreboard=scoreboard)

    def step_until_stopped(worker: int) -> None:
        while not (pulled := pull(full, worker)).stopped:
            assert full.push(worker, torch.ones(SIZE), 1.0, pulled.updates + 1, pulled) == 0
        full.barrier.hand_in(worker, LAST, b"last")

    with ExitStack() as stack:
        processes = [stack.enter_context(forked(step_until_stopped, worker)) for worker in range(workers)]
        wait_until(lambda: full.queue_is_full and full.updates == 3)
        scoreboard.request(STOP)
        assert [exit_code(process) for process in processes] == [0] * workers
    assert full.barrier.ended()
    assert full.updates == 3


def test_who_waits_at_a_full_queue_for_a_dead_leader_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "GRACE_SECONDS", 0.05)
    scoreboard = Scoreboard(2)
    store = store_of(2, interval=1, scoreboard=scoreboard)
    store._totals.array[:] = 10  # a snapshot is due, and there is nobody to queue it
    with forked(pull, store, 1) as process:
        wait_until(lambda: scoreboard.beats(1) > 3)
        scoreboard.request(STOP)
        assert exit_code(process) == 0


def test_without_evaluations_nothing_is_queued() -> None:
    store = SyncStore(torch.zeros(SIZE), PlainSGD(), Scoreboard(1), interval=None)
    step_alone(store, QUEUE_SLOTS + 5)
    assert store.next_snapshot(0) is None


# -- captures ---------------------------------------------------------------------------------------------------------


def pending(tensors: dict[str, torch.Tensor]) -> list[int]:
    """The updates of the snapshots that a capture holds."""
    return [int(updates) for updates in tensors["pending_facts"][:, 0]]


def test_a_capture_is_of_the_step_that_follows_its_request_whatever_comes_after() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 3)
    store.barrier.request()
    assert (store.barrier.due(0), store.barrier.is_requested) == (0, True)
    pulled = store.pull(torch.zeros(SIZE))
    store.push(0, torch.ones(SIZE), 1.0, 40, pulled)
    assert (store.barrier.due(0), store.barrier.complete()) == (1, False)
    step_alone(store, 3)
    assert store.barrier.complete()
    capture = store.capture()
    assert (capture.snapshot.updates, capture.snapshot.env_steps, capture.snapshot.consistent) == (4, 40, True)
    assert capture.snapshot.parameters.tolist() == [-4] * SIZE
    assert capture.tensors["parameters"].tolist() == [-4] * SIZE
    assert capture.tensors["moment.count"].tolist() == [4] * SIZE
    assert pending(capture.tensors) == [1, 2, 3]


def test_the_capture_at_the_end_is_of_the_end() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 3)
    store.barrier.hand_in(0, LAST, b"end")
    capture = store.capture()
    assert (capture.snapshot.updates, capture.snapshot.env_steps) == (3, 30)
    assert capture.tensors["parameters"].tolist() == [-3] * SIZE
    assert pending(capture.tensors) == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_capture_while_the_queue_is_full_is_complete_without_a_release(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_store, "QUEUE_SLOTS", 2)
    store = store_of(workers, interval=1)

    def step_on(worker: int) -> None:
        while True:
            pulled = pull(store, worker)
            store.push(worker, torch.ones(SIZE), 1.0, pulled.updates + 1, pulled)

    with ExitStack() as stack:
        for worker in range(workers):
            stack.enter_context(forked(step_on, worker))
        wait_until(lambda: store.queue_is_full and store.updates == 3)
        for _ in range(2):
            store.barrier.request()
            wait_until(store.barrier.complete)
            capture = store.capture()
            assert (capture.snapshot.updates, capture.snapshot.env_steps) == (3, 3 * workers)
            assert pending(capture.tensors) == [1, 2]
        assert store.queue_is_full


@pytest.mark.parametrize("steps_before", [3, QUEUE_SLOTS + 5])  # also where the queue has gone round
def test_a_restored_store_evaluates_and_steps_what_would_have_come_without_a_break(steps_before: int) -> None:
    before, after = store_of(1, interval=30), store_of(1, interval=30)
    evaluated = 0
    for _ in range(steps_before):
        step_alone(before, 4)
        evaluated += len(taken(before, evaluated))
    step_alone(before, 20)  # which leave snapshots in the queue
    before.barrier.request()
    step_alone(before, 1)
    tensors = before.capture(lambda: evaluated).tensors
    assert len(tensors["pending"]) >= 2
    after.restore(tensors)
    after.release(evaluated)
    assert (after.updates, after.env_steps) == (before.updates, before.env_steps)
    for store in (before, after):
        step_alone(store, 20)
    assert taken(after, evaluated) == taken(before, evaluated)
    assert after.sha256() == before.sha256()


def test_what_has_been_evaluated_by_then_is_not_pending() -> None:
    store = store_of(1, interval=10)
    step_alone(store, 2)
    store.barrier.request()
    step_alone(store, 3)
    store.release(1)
    assert pending(store.capture(lambda: 2).tensors) == []  # of 1 and 2, queued before the capture, and 3
    assert pending(store.capture(lambda: 1).tensors) == [2]


def test_where_the_monitor_was_ahead_of_a_capture_what_it_evaluated_is_not_queued_again() -> None:
    before, after = store_of(1, interval=10), store_of(1, interval=10)
    before.barrier.request()
    step_alone(before, 5)
    assert len(taken(before)) == 5
    tensors = before.capture(lambda: 5).tensors  # of the first step
    assert tensors["queue"].tolist() == [5, 0]
    after.restore(tensors)
    after.release(5)
    assert not after.queue_is_full
    step_alone(after, 6)
    assert taken(after, 5) == [(6, 60, -6.0), (7, 70, -7.0)]


class Sitting:
    """A run of one worker in this process, with a monitor and a checkpointer that come when they are called."""

    def __init__(self, seen: list[Facts], tensors: dict[str, torch.Tensor] | None = None):
        self.store, self.seen = store_of(1, interval=15), seen
        self.saved: tuple[dict[str, torch.Tensor], int] | None = None
        if tensors is not None:
            self.store.restore(tensors)
        self.store.release(len(seen))

    def judge(self) -> None:
        snapshot = self.store.next_snapshot(0)
        if snapshot is not None:
            self.seen.append(facts(snapshot))
            self.store.release(len(self.seen))

    def between(self, also: Callable[[], None] = lambda: None) -> None:
        def meanwhile() -> None:
            hand_in_due(self.store, 0)
            also()

        self.store.enqueue_due(0, meanwhile)
        hand_in_due(self.store, 0)

    def step(self) -> None:
        self.between(self.judge)  # where the queue is full, the monitor's turn has come
        pulled = self.store.pull(torch.zeros(SIZE))
        assert self.store.push(0, torch.ones(SIZE), 1.0, pulled.env_steps + 10, pulled) == 0
        hand_in_due(self.store, 0)

    def save(self, judge_meanwhile: bool) -> None:
        """What the monitor has evaluated is read while the queue is copied, and once more for the progress."""

        def evaluated() -> int:
            if judge_meanwhile:
                self.judge()
            return len(self.seen)

        if self.store.barrier.complete():
            tensors = {name: tensor.clone() for name, tensor in self.store.capture(evaluated).tensors.items()}
            if judge_meanwhile:
                self.judge()
            self.saved = tensors, len(self.seen)
        self.store.barrier.request()

    def resumed(self) -> "Sitting":
        if self.saved is None:
            return self
        tensors, evaluated = self.saved
        return Sitting(self.seen[:evaluated], tensors)


ACTS = st.sampled_from([*["step"] * 6, "judge", "judge all", "save", "save while judging", "resume"])


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTS, min_size=30, max_size=90), st.integers(1, 4))
def test_whatever_is_captured_and_resumed_the_snapshots_that_are_evaluated_are_those_of_a_run_without_a_break(
    acts: list[str], slots: int
) -> None:
    with mock.patch.object(sync_store, "QUEUE_SLOTS", slots), mock.patch.object(store_module, "WAIT_SECONDS", 0.0001):
        run = Sitting([])
        for act in acts:
            if act == "step":
                run.step()
            elif act.startswith("judge"):
                for _ in range(slots if act == "judge all" else 1):
                    run.judge()
            elif act == "resume":
                run = run.resumed()
            else:
                run.save(judge_meanwhile="while" in act)
        run.between(run.judge)
        for _ in range(slots):
            run.judge()
        wanted = due_snapshots(15, run.store.updates, 10)
        assert run.seen[: len(wanted)] == wanted
        # Of a run that was resumed from before them, the monitor may know snapshots that training has yet to come to.
        assert run.seen == due_snapshots(15, max(run.store.updates, *(updates for updates, _, _ in run.seen), 0), 10)


def test_several_workers_go_on_from_a_capture() -> None:
    global store
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Scoreboard(WORKERS), interval=10**9)
    store.barrier.request()
    run_all()
    tensors = store.capture().tensors  # of the first step
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Scoreboard(WORKERS), interval=10**9)
    store.restore(tensors)
    assert (store.updates, store.env_steps) == (1, 10 * WORKERS)
    run_all()
    assert (store.updates, store.env_steps) == (STEPS, 10 * WORKERS * STEPS)
    assert store.parameters.tolist() == [-AVERAGE * STEPS] * SIZE


def test_notifications_suffice_to_wake_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    global store
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 10.0 * SECONDS)
    store = DeadlyStore(torch.zeros(SIZE), DeadlySGD(), Scoreboard(WORKERS), interval=10**9)
    run_all()
    assert store.updates == STEPS


def run_all() -> None:
    with forked(work, 0, 0) as first, forked(work, 1, 0) as second, forked(work, 2, 0) as third:
        assert [exit_code(process) for process in (first, second, third)] == [0, 0, 0]


# -- notifiers -------------------------------------------------------------------------------------------------------


def test_a_notification_before_the_wait_ends_it_at_once() -> None:
    notifier, began = Notifier(), time.monotonic()
    notifier.notify()
    notifier.wait(2 * SECONDS)
    assert time.monotonic() - began < SECONDS


def test_a_notification_wakes_a_process_that_waits() -> None:
    notifier = Notifier()
    with forked(notifier.wait, 10 * SECONDS) as process:
        notifier.notify()
        assert exit_code(process) == 0


def test_nobody_waits_for_longer_than_wanted() -> None:
    notifier, began = Notifier(), time.monotonic()
    notifier.wait(0.01)
    assert time.monotonic() - began >= 0.01


def test_a_notifier_that_nobody_waits_for_does_not_hold_up_its_sender() -> None:
    notifier, began = Notifier(), time.monotonic()
    for _ in range(100_000):
        notifier.notify()
    notifier.wait(2 * SECONDS)
    assert time.monotonic() - began < SECONDS
