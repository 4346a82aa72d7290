"""The monitor: which snapshots it evaluates and how far, what failing environments do to that, how a run ends."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from a3c.config import Config
from shared.checkpoint_barrier import LAST
from shared.memory import Notifier
from shared.scoreboard import FINISH, ROW, RUN, STOP, Scoreboard
from shared.store import SharedStore
from tests.unit.processes import die, killed
from tests.unit.scripted_environments import scripted
from workers import monitor as module
from workers.monitor import (
    FAILURES_IN_A_ROW,
    FREE_SECONDS,
    LAST_SECONDS,
    LONGEST_DELAY,
    TRIES,
    Monitor,
    evaluation_seed,
)
from workers.runs.evaluations import Evaluations, Progress, SharedRun
from workers.runs.records import Evaluation
from workers.training import build_store

SEED = 7
OPTIONS = {"seed": SEED, "hidden_sizes": (4,), "eval_interval": 10, "eval_episodes": 4, "eval_share": 0.05}
Pay = float | list[float] | BaseException | Callable[[], float]  # of an evaluation, or of each of its batches


class Clock:
    """Time that passes where somebody sleeps, or an environment takes it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeping: Callable[[], None] = lambda: None  # training goes on then

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 100_000, "it waits for ever"
        self.sleeping()


class Paid(gymnasium.Env[Any, Any]):
    """Pays once and ends; how much is told of each evaluation, by the seeds that its episodes have."""

    action_space = Discrete(2)
    observation_space = Box(0, 1, (1,), np.float32)
    pays: dict[int, Pay] = {}  # by the number of the evaluation  # noqa: RUF012
    otherwise: Pay = 0.0
    seconds = 0.0  # that an episode takes
    resetting: Callable[[int], None] = lambda seed: None
    clock = Clock()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seed = seed
        Paid.resetting(seed)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        Paid.clock.now += Paid.seconds
        numbers = [number for number in range(60) if 0 <= self.seed - evaluation_seed(SEED, number) < 100]
        if not numbers:  # the look at it
            return np.ones(1, np.float32), 0.0, True, False, {}
        pay = Paid.pays.get(numbers[0], Paid.otherwise)
        if isinstance(pay, BaseException):
            raise copy.copy(pay)  # a traceback would keep all that its frames hold, for good
        if isinstance(pay, list):
            pay = pay[(self.seed - evaluation_seed(SEED, numbers[0])) // 10]
        return np.ones(1, np.float32), float(pay() if callable(pay) else pay), True, False, {}


ENVIRONMENT = scripted(Paid)


class Death(BaseException):
    """Takes the place of what ends a monitor's process at once: nothing but the shared memory is left of it."""


class Run:
    """A monitor's surroundings, in a time of their own; what it sends is seen."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, **options: Any):
        workers = 1 if mode == "sync" else 2
        self.config = Config.from_options({**OPTIONS, "workers": workers, **options})
        self.scoreboard, self.notifier, self.path = Scoreboard(workers), Notifier(), path
        self.clock = Clock()
        monkeypatch.setattr(module, "time", self.clock)
        for name, value in {
            "pays": {},
            "otherwise": 0.0,
            "seconds": 0.0,
            "clock": self.clock,
            "resetting": Paid.resetting,
        }.items():
            monkeypatch.setattr(Paid, name, value)
        self.store: SharedStore = build_store(self.config, ENVIRONMENT, self.scoreboard)
        self.evaluations = Evaluations(Progress())
        self.sent: list[tuple[str, Any]] = []
        self.on_send: Callable[[str], None] = lambda kind: None

    def send(self, message: tuple[str, Any]) -> None:
        self.sent.append(message)
        self.on_send(message[0])

    def monitor(self) -> Monitor:
        shared = (self.config, ENVIRONMENT, self.store, self.scoreboard, self.evaluations, self.notifier, self.path)
        return Monitor(SharedRun(*shared), self.send)

    def watch(self) -> None:
        columns = [field.name for field in dataclasses.fields(Evaluation)]
        self.monitor().watch(module.open_table(self.path / "evaluations.csv", columns))

    def finish(self) -> None:
        """Watch a run whose training has ended."""
        self.scoreboard.request(FINISH)
        self.watch()

    def train(self, updates: int = 1) -> None:
        """Updates of 10 env steps each, and what comes before the next rollout."""
        for _ in range(updates):
            pulled = self.store.pull(torch.zeros(len(self.store.parameters)))
            env_steps = self.store.env_steps_of(0) + 10
            self.store.push(0, torch.ones(len(self.store.parameters)), 0.1, env_steps, pulled)
            self.store.enqueue_due(0, lambda: None)

    def train_while_it_waits(self, until: Callable[[], bool]) -> None:
        """Whenever the monitor sleeps there is another update, unless training has to wait for it."""

        def sleeping() -> None:
            if until():
                self.scoreboard.request(FINISH)
            elif not self.store.queue_is_full:
                self.train()

        self.clock.sleeping = sleeping

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.sent]

    @property
    def told(self) -> list[Evaluation]:
        return [data for kind, data in self.sent if kind == "evaluated"]

    @property
    def rows(self) -> int:
        return len((self.path / "evaluations.csv").read_text().splitlines()) - 1


@pytest.fixture(params=["async", "sync"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch, request.param)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch, "async")


@pytest.fixture
def queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch, "sync")


# -- what is evaluated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [FINISH, STOP])
def test_the_untrained_network_is_never_evaluated(run: Run, request_: int) -> None:
    run.scoreboard.request(request_)
    run.watch()
    assert not run.sent
    assert run.rows == 0


def test_an_evaluation_is_told_written_and_remembered_with_the_policy_it_is_of(run: Run) -> None:
    Paid.otherwise = 3.0
    run.train()
    run.finish()
    evaluation = Evaluation(10, 1, 0.0, 4, 3.0, 0.0, 3.0, 3.0, evaluation_seed(SEED, 1))
    assert run.sent == [("evaluated", evaluation), ("best", evaluation)]
    assert run.rows == 1
    best, progress = run.evaluations.best(), run.evaluations.progress()
    assert best is not None
    assert best.evaluation == evaluation
    assert torch.equal(best.snapshot.parameters, run.store.parameters)
    assert (progress.best, progress.rows, progress.evaluated) == (evaluation, 1, 1)


def test_the_best_is_the_policy_of_the_greatest_mean(run: Run) -> None:
    Paid.pays = {1: 2.0, 2: 1.0, 3: 4.0, 4: 4.0}
    run.train_while_it_waits(lambda: len(run.told) == 4)
    run.watch()
    assert [data.mean for kind, data in run.sent if kind == "best"] == [2.0, 4.0]
    best = run.evaluations.best()
    assert best is not None
    assert best.evaluation.seed == evaluation_seed(SEED, 3)


def test_without_a_queue_the_next_evaluation_is_due_an_interval_after_the_last(alone: Run) -> None:
    alone.config = dataclasses.replace(
        alone.config, evaluation=dataclasses.replace(alone.config.evaluation, eval_interval=30)
    )
    alone.train_while_it_waits(lambda: alone.store.updates == 12)
    alone.watch()
    assert [evaluation.env_steps for evaluation in alone.told] == [30, 60, 90, 120]


@pytest.mark.parametrize(("steps", "evaluated"), [(4, [2, 4]), (5, [2, 4, 5])])
def test_the_end_of_training_is_evaluated_once_also_where_the_run_is_resumed_there(
    steps: int, evaluated: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, "sync", eval_interval=20)
    run.train(steps)
    run.finish()
    assert [evaluation.updates for evaluation in run.told] == evaluated
    run.watch()  # a successor, or the monitor of a resumed run
    assert [evaluation.updates for evaluation in run.told] == evaluated


@pytest.mark.parametrize("steps", [4, 5])
def test_a_run_that_is_resumed_after_its_end_evaluates_what_is_queued_next(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, "sync", eval_interval=20)
    run.train(steps)
    run.finish()
    assert run.evaluations.progress().released == 2
    run.scoreboard.request(RUN)
    run.train(2)
    run.finish()
    assert 6 in [evaluation.updates for evaluation in run.told]
    assert run.evaluations.progress().released == 3


def test_parameters_that_are_not_finite_are_passed_over(run: Run) -> None:
    run.store.parameters[0] = torch.nan
    run.train()
    run.finish()
    assert not run.sent
    assert run.evaluations.progress().released == run.store.queues


def test_evaluations_keep_to_their_share_of_the_time(alone: Run) -> None:
    Paid.seconds = 0.25  # so that an evaluation takes a second
    row = alone.scoreboard.row(0)
    row[:] = [alone.clock.now if name == "started" else 0.0 for name in ROW.names or ()]
    alone.train_while_it_waits(lambda: alone.clock.now > 1200)
    alone.watch()
    elapsed = alone.clock.now - 1000
    assert elapsed * 0.05 - 1 <= len(alone.told) <= elapsed * 0.05 + FREE_SECONDS + 2


# -- few episodes first -----------------------------------------------------------------------------------------------

PROMISES: list[Pay] = [3.0, 2.0, [5.0, 5.0, 2.0], 4.0, 6.0]  # of each evaluation, or of its batches of ten episodes


def few_first(run: Run, seconds: float, pays: list[Pay]) -> list[tuple[int, float]]:
    """Episodes and mean of the evaluations that are told of so many snapshots, where an episode takes some seconds."""
    Paid.seconds, Paid.pays = seconds, dict(enumerate(pays, 1))
    row = run.scoreboard.row(0)
    row[:] = [run.clock.now if name == "started" else 0.0 for name in ROW.names or ()]
    if run.store.queues:
        run.train(len(pays))
        run.scoreboard.request(FINISH)
    else:
        run.train_while_it_waits(lambda: run.evaluations.progress().evaluations > len(pays))
    run.watch()
    return [(evaluation.episodes, evaluation.mean) for evaluation in run.told]


@pytest.fixture
def thorough(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch, request.param, eval_episodes=30, eval_share=0.5)


@pytest.mark.parametrize("thorough", ["async"], indirect=True)
def test_what_time_allows_is_evaluated_whole_whatever_it_promises(thorough: Run) -> None:
    assert few_first(thorough, 0.0, PROMISES) == [(30, 3.0), (30, 2.0), (30, 4.0), (30, 4.0), (30, 6.0)]
    assert thorough.evaluations.progress().promised is None


@pytest.mark.parametrize(("thorough", "seconds"), [("async", 0.5), ("sync", 0.0), ("sync", 0.5)], indirect=["thorough"])
def test_what_time_does_not_allow_and_in_sync_everything_is_evaluated_whole_where_it_promises_more_than_all_before(
    thorough: Run, seconds: float
) -> None:
    assert few_first(thorough, seconds, PROMISES) == [(30, 4.0), (30, 6.0)]
    assert thorough.rows == 2
    progress = thorough.evaluations.progress()
    assert (progress.promised, progress.evaluations) == (4.0, 6)  # evaluations that were begun have had their seeds


@pytest.mark.parametrize(("mode", "whole"), [("async", [(30, 6.0)]), ("sync", [(30, 4.0), (30, 6.0)])])
def test_beyond_its_share_a_run_with_a_target_evaluates_whole_what_promises_that(
    mode: str, whole: list[tuple[int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, mode, eval_episodes=30, eval_share=0.5, target_return=5.5)
    assert few_first(run, 0.5, [3.0, [5.0, 5.0, 2.0], 6.0])[: len(whole)] == whole


def test_what_is_passed_over_leaves_room_for_whole_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, "async", eval_episodes=30, eval_share=0.5)
    worse: list[Pay] = [9.0 - number for number in range(9)]
    assert 1 < len(few_first(run, 0.5, worse)) < len(worse)
    assert run.evaluations.progress().seconds <= 0.5 * (run.clock.now - 1000) + FREE_SECONDS + 0.5 * 30


@pytest.mark.parametrize("thorough", ["async", "sync"], indirect=True)
def test_the_policy_that_training_ends_with_is_evaluated_whole(thorough: Run) -> None:
    assert few_first(thorough, 0.5, [3.0, 2.0]) == [(30, 0.0)]  # as evaluation number 3 pays
    assert thorough.told[0].updates == thorough.store.updates


# -- solved -----------------------------------------------------------------------------------------------------------


def test_a_policy_that_reaches_the_target_twice_is_the_solution(run: Run) -> None:
    run.config = Config.from_options({**OPTIONS, "workers": run.scoreboard.workers, "target_return": 5.0})
    Paid.pays = {1: 1.0, 2: 5.0, 3: 4.5, 4: 8.0, 5: 5.5}
    run.train_while_it_waits(lambda: run.store.updates > 50)
    run.watch()
    assert [(evaluation.mean, evaluation.verification) for evaluation in run.told] == [
        (1.0, False),
        (5.0, False),
        (4.5, True),
        (8.0, False),
        (5.5, True),
    ]
    assert run.sent[-1] == ("solved", run.told[-1])
    assert run.told[-2].updates == run.told[-1].updates
    # A lucky first evaluation is not the mean to remember.
    assert [data.mean for kind, data in run.sent if kind == "best"] == [1.0, 4.5, 5.5]
    best = run.evaluations.best()
    assert best is not None
    assert best.evaluation == run.told[-1]
    run.notifier._listener.settimeout(0)
    assert run.notifier._listener.recv(99)  # the checkpointer was rung for


# -- failures ---------------------------------------------------------------------------------------------------------

FAILURES = [RuntimeError("lost\nits way"), SystemExit(3), KeyError("x"), math.nan, math.inf]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_an_evaluation_that_fails_is_told_and_counted_and_the_run_goes_on(run: Run, failure: Pay) -> None:
    Paid.pays, Paid.otherwise = {1: failure}, 3.0
    run.train_while_it_waits(lambda: bool(run.told))
    run.watch()
    assert run.kinds[:3] == ["evaluation-failed", "evaluated", "best"]
    assert set(run.kinds[3:]) <= {"evaluated"}  # the rest of the queue
    message = run.sent[0][1]
    assert "\n" not in message
    assert message.endswith(" (logs/monitor.log); the next one in 1 s")
    assert run.scoreboard.faults()["failed_evaluations"] == 1
    assert run.rows == len(run.told)


def test_after_a_failure_the_next_evaluation_comes_later_and_later_until_one_succeeds(alone: Run) -> None:
    Paid.pays = {number: RuntimeError("no joint") for number in (*range(1, 10), 11, 12)}
    moments: list[float] = []
    alone.on_send = lambda kind: moments.append(alone.clock.now)
    alone.train_while_it_waits(lambda: len(alone.told) == 2)
    alone.watch()
    waited = [round(later - earlier) for earlier, later in pairwise(moments)]
    assert alone.kinds == [*["evaluation-failed"] * 9, "evaluated", "best", *["evaluation-failed"] * 2, "evaluated"]
    assert waited[:9] == [1, 2, 4, 8, 16, 32, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    assert waited[11:] == [1, 2]


def test_evaluations_that_fail_do_not_hold_training_at_a_full_queue(
    queued: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Paid.otherwise = RuntimeError("no joint")
    began = queued.clock.now
    queued.train_while_it_waits(lambda: queued.store.updates == 300)
    queued.watch()
    assert queued.store.updates == 300
    assert queued.clock.now - began < 100  # 10,000 in which each failure has training wait for the next


def test_evaluations_that_fail_do_not_hold_the_end_of_a_run(queued: Run) -> None:
    Paid.otherwise = RuntimeError("no joint")
    queued.train(30)
    began = queued.clock.now
    queued.finish()
    assert queued.clock.now - began < LONGEST_DELAY
    assert queued.evaluations.progress().released > 20
    assert queued.kinds == ["evaluation-failed"] * (FAILURES_IN_A_ROW + 1)  # the last is of the end


def test_evaluations_that_monitors_die_of_do_not_hold_the_end_of_a_run(queued: Run) -> None:
    Paid.otherwise, deaths, ended = Death(), 0, False
    queued.train(30)
    queued.scoreboard.request(FINISH)
    while not ended:
        try:
            queued.watch()
            ended = True
        except Death:
            deaths += 1
            assert deaths < FAILURES_IN_A_ROW + TRIES


def test_a_snapshot_of_which_processes_died_is_passed_over_and_the_next_ones_are_evaluated(queued: Run) -> None:
    queued.train(3)
    Paid.otherwise = die  # type: ignore[assignment]
    for tries in range(1, TRIES + 1):
        assert killed(queued.watch)
        assert queued.evaluations.progress().tries == tries
    Paid.otherwise = 2.0
    queued.finish()
    assert queued.sent[0] == ("evaluation-failed", f"the monitor died of it {TRIES} times (logs/monitor.log)")
    assert [evaluation.updates for evaluation in queued.told] == [2, 3]
    assert queued.evaluations.progress().released == 3


def test_a_monitor_whose_predecessor_died_of_an_evaluation_waits_as_after_a_failure(alone: Run) -> None:
    Paid.otherwise = Death()
    deaths: list[float] = []
    alone.train_while_it_waits(lambda: False)
    while len(deaths) < 6:
        with pytest.raises(Death):
            alone.watch()
        deaths.append(alone.clock.now)
    # After two deaths a snapshot is given up, which counts as a failure too.
    assert [round(later - earlier) for earlier, later in pairwise(deaths)] == [1, 2 + 4, 8, 16 + 32, LONGEST_DELAY]


def test_evaluations_that_monitors_die_of_do_not_hold_training_at_a_full_queue(queued: Run) -> None:
    Paid.otherwise, deaths, began = Death(), 0, queued.clock.now
    queued.train_while_it_waits(lambda: queued.store.updates == 300)
    while queued.scoreboard.requested() != FINISH:
        try:
            queued.watch()
        except Death:
            deaths += 1
    assert deaths > TRIES
    assert queued.clock.now - began < 100


def test_a_row_that_the_disk_refuses_is_told_and_the_evaluation_counts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, row: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Table, "write", refuse)
    run.train()
    run.finish()
    assert run.sent[0] == ("unsaved", "evaluations.csv: No space left on device")
    assert run.kinds == ["unsaved", "evaluated", "best"]
    assert run.evaluations.progress().rows == 1


# -- an interrupted run -----------------------------------------------------------------------------------------------


def test_an_evaluation_that_a_stop_cuts_short_counts_as_not_begun(queued: Run) -> None:
    queued.train(2)

    def stop(seed: int) -> None:
        if seed == evaluation_seed(SEED, 2):
            queued.scoreboard.request(STOP)

    Paid.resetting = stop  # type: ignore[method-assign]
    queued.watch()
    assert [evaluation.updates for evaluation in queued.told] == [1]
    progress = queued.evaluations.progress()
    assert (progress.released, progress.evaluations, progress.tries) == (1, 2, 0)
    queued.scoreboard.request(FINISH)
    Paid.resetting = lambda seed: None  # type: ignore[method-assign]
    queued.watch()  # in the run that is resumed
    assert [evaluation.updates for evaluation in queued.told] == [1, 2]
    assert queued.told[-1].seed == evaluation_seed(SEED, 2)


def interrupted(run: Run) -> None:
    run.train()
    for worker in range(run.scoreboard.workers):
        run.store.barrier.hand_in(worker, LAST, b"{}")
    run.scoreboard.request(STOP)
    run.watch()


def test_the_last_policy_of_an_interrupted_run_is_told_and_noted_and_leaves_no_trace_in_the_run(run: Run) -> None:
    Paid.otherwise = 3.0
    interrupted(run)
    [(kind, evaluation)] = run.sent
    assert (kind, evaluation.mean, evaluation.updates) == ("last", 3.0, 1)
    last = run.evaluations.last()
    assert last is not None
    assert last.evaluation == evaluation
    assert torch.equal(last.snapshot.parameters, run.store.parameters)
    assert run.rows == 0
    assert run.evaluations.progress() == Progress()
    assert run.evaluations.best() is None


@pytest.mark.parametrize("thorough", ["async", "sync"], indirect=True)
def test_one_that_takes_too_long_is_given_up(thorough: Run) -> None:
    Paid.seconds, began = 0.1, thorough.clock.now  # of three batches of a second each
    interrupted(thorough)
    assert not thorough.sent
    assert thorough.evaluations.last() is None
    assert thorough.clock.now - began < LAST_SECONDS + 1


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_one_that_fails_is_told_and_the_run_ends_as_it_would(run: Run, failure: Pay) -> None:
    Paid.otherwise = failure
    interrupted(run)
    assert run.kinds == ["evaluation-failed"]
    assert run.evaluations.last() is None


def test_workers_that_hand_in_late_are_waited_for_a_moment(run: Run) -> None:
    """Their last updates belong to the policy that the run ends with."""
    began = run.clock.now
    run.train()
    run.scoreboard.request(STOP)

    def sleeping() -> None:
        if run.clock.now > began + 0.3 and not run.store.barrier.ended():
            for worker in range(run.scoreboard.workers):
                run.store.barrier.hand_in(worker, LAST, b"{}")

    run.clock.sleeping = sleeping
    run.watch()
    assert run.kinds == ["last"]
    assert 0.3 < run.clock.now - began < 0.4


# -- notes and seeds --------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_seeds_of_evaluations_and_of_their_episodes_fit_into_31_bits(seed: int, index: int) -> None:
    assert 0 <= evaluation_seed(seed, index) < 2**31 - 10**9


def test_evaluations_of_a_run_and_of_runs_with_other_seeds_have_other_seeds() -> None:
    assert len({evaluation_seed(seed, index) for seed in range(10) for index in range(10)}) == 100


EVALUATION = Evaluation(10, 1, 0.5, 4, 3.0, 0.1, 2.0, 4.0, 99, verification=True)


@given(
    st.builds(
        Progress,
        st.integers(0),
        st.integers(1),
        best=st.sampled_from([None, EVALUATION]),
        promised=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_a_progress_survives_json_and_shared_memory(progress: Progress) -> None:
    assert Progress.of(json.loads(json.dumps(dataclasses.asdict(progress)))) == progress
    assert Evaluations(progress).progress() == progress


def test_a_progress_of_a_version_that_called_it_judged_is_read() -> None:
    stored = dataclasses.asdict(Progress(released=2, best=EVALUATION))
    stored["judged"] = stored.pop("released")
    assert Progress.of(stored) == Progress(released=2, best=EVALUATION)
