"""One process of a run: how its silence is judged, how it ends with all that it started, when it is replaced."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.unit.processes import SECONDS, die, wait_until
from workers.processes import child, entry, start
from workers.processes.child import (
    FIRST_DELAY,
    LONGEST_DELAY,
    LOST,
    PATIENCE,
    RESTART_SECONDS,
    START_ATTEMPTS,
    Budget,
    Child,
    Patience,
)

START, STEP = 90.0, 7.0
PATIENT = Patience(start=START, step=STEP)


class Pulse:
    """Signs of life, given by hand."""

    def __init__(self) -> None:
        self.beats = 0

    def __call__(self) -> int:
        return self.beats


def child_of(pulse: Pulse) -> Child:
    """A child that is never started."""
    return Child("worker-0", sys.exit, lambda _: (), pulse, PATIENT, Path("worker-0.log"))


# -- silence ----------------------------------------------------------------------------------------------------------


def test_silence_adds_up_until_a_sign_of_life_ends_it() -> None:
    pulse = Pulse()
    worker = child_of(pulse)
    pulse.beats = 1
    worker.listen(0.2)
    assert [worker.listen(1.5), worker.listen(2.0)] == [0, 0]
    assert worker.silent == 3.5
    pulse.beats = 7
    assert worker.listen(0.2) == 3.5
    assert worker.silent == 0


def test_the_time_to_a_first_sign_of_life_is_no_pause() -> None:
    pulse = Pulse()
    worker = child_of(pulse)
    worker.listen(30.0)
    pulse.beats = 1
    assert worker.listen(0.2) == 0
    assert worker.silent == 0


@pytest.mark.parametrize("longest_pause", [0.0, 100.0])
def test_until_its_first_sign_of_life_a_process_has_the_time_that_starting_takes(longest_pause: float) -> None:
    worker = child_of(Pulse())
    worker.listen(START - 1)
    assert worker.overdue(longest_pause) == -1
    worker.listen(2)
    assert worker.overdue(longest_pause) == 1


@pytest.mark.parametrize(
    ("longest_pause", "allowed"), [(0.0, STEP), (STEP / PATIENCE, STEP), (4.0, 4 * PATIENCE), (100.0, 100 * PATIENCE)]
)
def test_whoever_lives_may_pause_some_times_as_long_as_anybody_has(longest_pause: float, allowed: float) -> None:
    pulse = Pulse()
    worker = child_of(pulse)
    pulse.beats = 1
    worker.listen(0.2)
    worker.listen(allowed)
    assert worker.overdue(longest_pause) == 0
    worker.listen(1)
    assert worker.overdue(longest_pause) == 1


# -- successors -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def delay_of(worker: Child, clock: SimpleNamespace) -> float:
    worker.schedule()
    assert worker.due is not None
    return float(worker.due - clock.now)


def test_a_process_that_never_lived_is_replaced_later_and_later(clock: SimpleNamespace) -> None:
    worker = child_of(Pulse())
    delays = [delay_of(worker, clock) for _ in range(8)]
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-2:] == [LONGEST_DELAY, LONGEST_DELAY]


def test_a_process_that_lived_is_replaced_at_once_and_makes_good_what_was_before(clock: SimpleNamespace) -> None:
    pulse = Pulse()
    worker = child_of(pulse)
    worker.schedule()
    worker.schedule()
    pulse.beats = 1
    worker.listen(0.2)
    assert delay_of(worker, clock) == 0


def test_it_is_over_when_its_end_has_been_dealt_with_and_no_successor_is_due() -> None:
    worker = child_of(Pulse())
    worker.reap()
    assert worker.is_over
    worker.schedule()
    assert not worker.is_over


def test_restarts_are_counted_within_ten_minutes(clock: SimpleNamespace) -> None:
    budget = Budget(2)
    assert budget.take()
    clock.now += RESTART_SECONDS - 1
    assert budget.take()
    assert (budget.take(), len(budget.times)) == (False, 2)
    clock.now += 2  # the first is forgotten now, the second not yet
    assert (budget.take(), budget.take(), len(budget.times)) == (True, False, 2)


def test_a_budget_of_none_has_none() -> None:
    assert not Budget(0).take()


# -- real processes ---------------------------------------------------------------------------------------------------

LIVES = multiprocessing.get_context("fork").RawValue("q")


def work(log: Path, how: str, messages: Connection) -> None:
    sys.stderr = sys.__stderr__  # pytest has put another in its place
    entry.run(log, lambda: WAYS[how](messages))


def raise_error(_: Connection) -> None:
    raise ValueError("no such action: 7")


def sleep(messages: Connection) -> None:
    messages.send(("started", os.getpid()))
    time.sleep(600)


def hang(messages: Connection) -> None:
    LIVES.value += 1
    sleep(messages)


def compute(messages: Connection) -> None:
    messages.send(("started", os.getpid()))
    while True:
        pass


def run_simulators(messages: Connection) -> None:
    """As environments do that run a program of their own, one of them in a session of its own."""
    for own_session in (False, True):
        simulator = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=own_session
        )
        messages.send(("simulator", simulator.pid))
    sleep(messages)


def leave_a_simulator(messages: Connection) -> None:
    messages.send(("simulator", subprocess.Popen(["sleep", "600"]).pid))
    messages.send(("started", os.getpid()))
    die()


WAYS: dict[str, Callable[[Connection], object]] = {
    "raises": raise_error,
    "exits": lambda _: os._exit(9),
    "is killed": lambda _: die(),
    "hangs": hang,
    "sleeps": sleep,
    "computes": compute,
    "has simulators": run_simulators,
    "leaves a simulator": leave_a_simulator,
}


class Processes:
    """A child whose processes end in given ways, one after the other."""

    def __init__(self, log: Path):
        self.ways: list[str] = []
        self.computing = True
        self.child = Child(
            "worker-0",
            work,
            lambda messages: (log, self.ways.pop(), messages),
            lambda: LIVES.value,
            PATIENT,
            log,
            lambda: self.computing,
        )
        self.pids: dict[str, list[int]] = {}  # by what was told of them

    def start(self, how: str) -> Child:
        self.ways.append(how)
        self.child.start()
        return self.child

    def started(self, how: str) -> Child:
        """Start one that is then where it was to come to."""
        worker = self.start(how)
        self.pids = {}

        def has_come() -> bool:
            for kind, pid in worker.receive():
                self.pids.setdefault(kind, []).append(pid)
            return "started" in self.pids

        wait_until(has_come)
        return worker

    def end(self, how: str) -> tuple[str, str]:
        """Start one that ends; the cause that is told of that."""
        worker = self.start(how)
        worker.join(SECONDS)
        worker.reap()
        return worker.cause()


@pytest.fixture
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks of the test's own process, which has imported everything already."""

    monkeypatch.setattr(child, "context", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(child, "start_process", lambda process, needs_main: process.start())


@pytest.fixture
def processes(_forks: None, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path / "worker-0.log")
    yield processes
    processes.child.kill()
    processes.child.join(SECONDS)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_error_is_told_with_its_traceback(processes: Processes) -> None:
    cause, report = processes.end("raises")
    assert cause == "died: ValueError: no such action: 7"
    assert report.startswith("Traceback (most recent call last)")
    assert "raise_error" in report


def test_a_death_is_not_told_with_what_a_predecessor_died_of(processes: Processes) -> None:
    processes.end("raises")
    assert processes.end("is killed") == ("died: killed by SIGKILL", "")
    assert processes.end("exits") == ("died: exit code 9 without a crash report", "")


def test_messages_come_though_their_sender_has_died(processes: Processes) -> None:
    worker = processes.start("leaves a simulator")
    worker.join(SECONDS)
    assert [kind for kind, _ in worker.receive()] == ["simulator", "started"]
    worker.reap()
    wait_until(lambda: not list(worker.receive()) and worker.messages is None)


def test_a_process_that_hangs_is_ended_and_its_log_tells_where(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "DUMP_SECONDS", 0.5)  # for a busy machine
    worker = processes.started("hangs")
    worker.listen(0.2)
    worker.listen(12.0)
    worker.kill_hung(longest_pause=2.0)
    worker.join(SECONDS)
    assert worker.exitcode == -signal.SIGKILL
    cause, report = worker.cause()
    assert cause == "hung: no environment step for 12 s, 10 s are allowed (--heartbeat-timeout)"
    assert "in hang" in report


def test_a_process_that_hangs_before_its_first_step_is_told_as_that(processes: Processes) -> None:
    worker = processes.started("sleeps")
    worker.listen(91.0)
    worker.kill_hung(longest_pause=100.0)
    assert worker.cause()[0] == "hung: no first environment step for 91 s, 90 s are allowed (--heartbeat-timeout)"


def test_a_successor_begins_with_nothing_held_against_it(processes: Processes) -> None:
    worker = processes.started("hangs")
    worker.listen(0.2)
    worker.listen(100.0)
    worker.kill_hung(longest_pause=0.0)
    worker.join(SECONDS)
    worker.reap()
    processes.started("hangs")
    assert (worker.silent, worker.verdict, worker.due, worker.reaped) == (0, "", None, False)
    assert worker.is_alive
    worker.listen(0.2)
    assert worker.overdue(longest_pause=0) < 0


# -- silent but computing ---------------------------------------------------------------------------------------------


def test_a_silent_process_computes_as_long_as_its_cpu_time_grows(processes: Processes) -> None:
    worker = processes.started("computes")
    assert worker.computes()
    for _ in range(2):
        used = cpu_seconds(worker)
        wait_until(lambda used=used: cpu_seconds(worker) > used)  # type: ignore[misc]
        assert worker.computes()


def test_a_silent_process_that_sleeps_does_not_compute(processes: Processes) -> None:
    worker = processes.started("sleeps")
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_SLEEPING)
    worker.computes()
    wait_until(lambda: not worker.computes())


def test_cpu_time_that_an_environment_may_burn_is_no_sign_of_life(processes: Processes) -> None:
    worker = processes.started("computes")
    processes.computing = False
    assert not worker.computes()


def test_a_sign_of_life_ends_what_was_known_of_its_cpu_time(processes: Processes) -> None:
    worker = processes.started("sleeps")
    worker.computes()
    wait_until(lambda: not worker.computes())
    LIVES.value += 1
    worker.listen(0.2)
    assert worker.computes()  # at the next silence it is asked for anew


def cpu_seconds(worker: Child) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


# -- what an environment has started ----------------------------------------------------------------------------------


def test_with_a_process_that_is_killed_ends_what_it_has_started_in_its_group_and_in_a_session_of_its_own(
    processes: Processes,
) -> None:
    worker = processes.started("has simulators")
    simulators = processes.pids["simulator"]
    assert [os.getpgid(pid) == worker.pid for pid in simulators] == [True, False]
    worker.kill()
    worker.join(SECONDS)
    assert worker.exitcode == -signal.SIGKILL
    wait_until(lambda: not any(map(lives, simulators)))


def test_what_a_dead_process_has_left_in_its_group_ends_when_it_is_reaped(processes: Processes) -> None:
    worker = processes.started("leaves a simulator")
    worker.join(SECONDS)
    [simulator] = processes.pids["simulator"]
    assert lives(simulator)
    worker.reap()
    wait_until(lambda: not lives(simulator))


def test_a_signal_reaches_what_an_environment_has_started_too(processes: Processes) -> None:
    worker = processes.started("has simulators")
    group = [psutil.Process(pid) for pid in (worker.pid, processes.pids["simulator"][0])]
    worker.signal(signal.SIGSTOP)
    wait_until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in group))
    worker.signal(signal.SIGCONT)
    wait_until(lambda: all(process.status() != psutil.STATUS_STOPPED for process in group))


def test_the_terminals_signals_do_not_end_a_process(processes: Processes) -> None:
    """Only the parent acts on them; a scheduler sends them to every process of a job."""
    worker = processes.started("sleeps")
    for number in start.TERMINAL_SIGNALS:
        worker.signal(number)
    worker.signal(signal.SIGSTOP)  # which those that end a process go before
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    assert worker.is_alive


# -- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [1, START_ATTEMPTS - 1])
def test_a_start_that_fails_is_tried_again(
    processes: Processes, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_start(monkeypatch, failures)
    worker = processes.child
    processes.ways = ["sleeps"] * START_ATTEMPTS
    worker.start()
    assert worker.is_alive


def test_a_start_that_fails_again_and_again_counts_as_a_death_and_is_told(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_start(monkeypatch, START_ATTEMPTS)
    worker = processes.child
    processes.ways = ["sleeps"] * START_ATTEMPTS
    worker.start()
    assert (worker.is_alive, worker.pid, worker.exitcode) == (False, None, LOST)
    worker.signal(signal.SIGCONT)
    worker.kill()
    worker.reap()
    worker.join()
    assert worker.cause() == ("could not be started: OSError: no more processes", "")
    assert processes.started("sleeps").is_alive  # its successor


def fail_to_start(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    left = [None] * failures

    def start(process: BaseProcess, needs_main: bool) -> None:
        if left:
            left.pop()
            raise OSError("no more processes")
        process.start()

    monkeypatch.setattr(child, "start_process", start)


def test_a_process_whose_forkserver_was_killed_ends_when_it_is_reaped_and_its_successor_has_a_new_one(
    tmp_path: Path,
) -> None:
    processes = Processes(tmp_path / "worker-0.log")
    worker = processes.started("sleeps")
    try:
        [pid] = processes.pids["started"]
        forkserver = psutil.Process(pid).parent()
        assert forkserver is not None
        assert forkserver.pid != os.getpid()
        forkserver.kill()
        wait_until(lambda: not worker.is_alive)
        assert worker.exitcode == LOST
        assert lives(pid)
        worker.reap()
        wait_until(lambda: not lives(pid))
        assert worker.cause() == ("died with its forkserver", "")
        assert processes.started("sleeps").is_alive
    finally:
        worker.kill()
        worker.join(SECONDS)


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(child, "LARGEST_LOG", 1000)
    monkeypatch.setattr(child, "KEPT_LOG", 100)
    return tmp_path / "worker-0.log"


def test_the_beginning_of_a_log_that_an_environment_has_filled_is_dropped(log: Path) -> None:
    worker = Processes(log).child
    with open(log, "ab", buffering=0) as writer:  # as a child has it open
        writer.write(bytes(range(256)) * 4)
        worker.measure()
        writer.write(b"and on")
        content = log.read_bytes()
        assert content.endswith(bytes(range(156, 256)) + b"and on")
        assert content.startswith(b"(the beginning of this log was dropped)\n")
        assert len(content) < 200


@pytest.mark.parametrize("size", [None, 0, 1000])
def test_a_log_that_is_not_large_is_left_alone(log: Path, size: int | None) -> None:
    worker = Processes(log).child
    if size is not None:
        log.write_bytes(bytes(size))
    worker.measure()
    assert (log.stat().st_size if log.exists() else None) == size


def test_what_a_process_died_of_is_found_at_the_end_of_a_log_that_was_shortened(
    log: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "KEPT_LOG", 5000)
    monkeypatch.setattr(child, "LARGEST_LOG", 10_000)
    log.write_bytes(b"noise\n" * 2000)
    worker = processes.start("raises")
    worker.join(SECONDS)
    worker.measure()
    assert log.stat().st_size < 6000
    assert worker.cause()[0] == "died: ValueError: no such action: 7"
