"""A place among the processes: how its silence is judged, what its deaths are told of, when it is filled again."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.processes import SECONDS, die, wait_until
from workers import border, child
from workers.child import FIRST_DELAY, LONGEST_DELAY, PATIENCE, RESTART_SECONDS, START_SECONDS, Budget, Child

TIMEOUT = 7.0


class Pulse:
    """Signs of life, given by hand."""

    def __init__(self) -> None:
        self.beats = 0

    def __call__(self) -> int:
        return self.beats


def place(pulse: Pulse, timeout: float = TIMEOUT) -> Child:
    """A place that nobody fills."""
    return Child("worker-0", sys.exit, tuple, pulse, timeout, Path("worker-0.log"))


def test_silence_adds_up_until_a_sign_of_life_ends_it() -> None:
    pulse = Pulse()
    worker = place(pulse)
    pulse.beats = 1
    worker.listen(0.2)
    assert [worker.listen(1.5), worker.listen(2.0)] == [0, 0]
    assert worker.silent == 3.5
    pulse.beats = 7
    assert worker.listen(0.2) == 3.5
    assert worker.silent == 0


def test_the_time_to_a_first_sign_of_life_is_no_pause() -> None:
    pulse = Pulse()
    worker = place(pulse)
    worker.listen(30.0)
    pulse.beats = 1
    assert worker.listen(0.2) == 0
    assert worker.silent == 0


@pytest.mark.parametrize(("timeout", "allowed"), [(TIMEOUT, START_SECONDS), (100.0, 100.0)])
def test_a_process_has_a_minute_for_its_first_sign_of_life(timeout: float, allowed: float) -> None:
    worker = place(Pulse(), timeout)
    worker.listen(allowed - 1)
    assert worker.overdue(longest_pause=0) == -1
    worker.listen(2)
    assert worker.overdue(longest_pause=0) == 1


@pytest.mark.parametrize(
    ("longest_pause", "allowed"),
    [(0.0, TIMEOUT), (TIMEOUT / PATIENCE, TIMEOUT), (4.0, 4 * PATIENCE), (100.0, 100 * PATIENCE)],
)
def test_whoever_lives_may_pause_some_times_as_long_as_anybody_has(longest_pause: float, allowed: float) -> None:
    pulse = Pulse()
    worker = place(pulse)
    pulse.beats = 1
    worker.listen(0.2)
    worker.listen(allowed)
    assert worker.overdue(longest_pause) == 0
    worker.listen(1)
    assert worker.overdue(longest_pause) == 1


def test_a_process_that_never_lived_is_replaced_later_and_later() -> None:
    worker = place(Pulse())
    delays = [worker.schedule() for _ in range(8)]
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-2:] == [LONGEST_DELAY, LONGEST_DELAY]
    assert worker.due is not None
    assert worker.due > time.monotonic()


def test_a_process_that_lived_is_replaced_at_once_and_makes_good_what_was_before() -> None:
    pulse = Pulse()
    worker = place(pulse)
    worker.schedule()
    worker.schedule()
    pulse.beats = 1
    worker.listen(0.2)
    assert worker.schedule() == 0
    assert worker.due is not None
    assert worker.due <= time.monotonic()


def test_restarts_are_counted_within_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    budget = Budget(2)
    assert budget.take()
    clock[0] += RESTART_SECONDS - 1
    assert budget.take()
    assert (budget.take(), budget.taken) == (False, 2)
    clock[0] += 2  # the first is forgotten now, the second not yet
    assert (budget.take(), budget.take(), budget.taken) == (True, False, 2)


def test_a_budget_of_none_has_none() -> None:
    assert not Budget(0).take()


# -- real processes ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks of the test's own process, which has imported everything already."""
    monkeypatch.setattr(child, "context", lambda: multiprocessing.get_context("fork"))


LIVES = multiprocessing.get_context("fork").RawValue("q")


def work(log: Path, how: str) -> None:
    sys.stderr = sys.__stderr__  # pytest has put another in its place
    border.run(log, lambda: WAYS[how]())


def raise_error() -> None:
    raise ValueError("no such action: 7")


def sleep() -> None:
    time.sleep(600)


def hang() -> None:
    LIVES.value += 1
    sleep()


WAYS = {"raises": raise_error, "exits": lambda: os._exit(9), "is killed": die, "hangs": hang, "sleeps": sleep}


class Place:
    """A place that is filled by processes which end in given ways, one after the other."""

    def __init__(self, log: Path):
        self.ways: list[str] = []
        self.child = Child("worker-0", work, lambda: (log, self.ways.pop()), lambda: LIVES.value, TIMEOUT, log)

    def fill(self, how: str) -> Child:
        self.ways.append(how)
        self.child.start()
        return self.child

    def end(self, how: str) -> tuple[str, str]:
        """Fill the place; the cause that is told of the end."""
        process = self.fill(how).process
        assert process is not None
        process.join(SECONDS)
        return self.child.cause()


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Place]:
    filled = Place(tmp_path / "worker-0.log")
    yield filled
    filled.child.kill()


def test_an_error_is_told_with_its_traceback(filled: Place) -> None:
    cause, report = filled.end("raises")
    assert cause == "died: ValueError: no such action: 7"
    assert report.startswith("Traceback (most recent call last)")
    assert "raise_error" in report


def test_a_death_is_not_told_with_what_a_predecessor_died_of(filled: Place) -> None:
    filled.end("raises")
    assert filled.end("is killed") == ("died: killed by SIGKILL", "")
    assert filled.end("exits") == ("died: exit code 9 without a word", "")


def test_a_process_that_hangs_is_ended_and_its_log_tells_where(filled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "DUMP_SECONDS", 0.5)  # for a busy machine
    worker = filled.fill("hangs")
    wait_until(lambda: LIVES.value != worker._beats)
    worker.listen(0.2)
    worker.listen(12.0)
    assert worker.is_alive
    worker.give_up()
    assert worker.process is not None
    worker.process.join(SECONDS)
    assert worker.exitcode == -signal.SIGKILL
    cause, report = worker.cause()
    assert cause == "hung: no environment step for 12 s"
    assert "in hang" in report


def test_a_process_that_hangs_before_its_first_step_is_told_as_that(filled: Place) -> None:
    worker = filled.fill("sleeps")
    worker.listen(61.0)
    worker.give_up()
    assert worker.cause()[0] == "hung: no first environment step for 61 s"


def test_a_successor_begins_with_nothing_held_against_it(filled: Place) -> None:
    worker = filled.fill("hangs")
    wait_until(lambda: LIVES.value != worker._beats)
    worker.listen(0.2)
    worker.listen(100.0)
    worker.give_up()
    filled.fill("hangs")
    assert (worker.silent, worker.verdict, worker.due, worker.buried) == (0, None, None, False)
    assert worker.overdue(longest_pause=0) == -START_SECONDS
