"""The monitor: evaluates snapshots of the shared policy and decides when it is solved."""

import dataclasses
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from a3c.actors import actor_for
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.evaluation import Returns, evaluate
from a3c.networks import bind, build, flat_zeros
from shared.notifier import Notifier
from shared.scoreboard import FINISH, RUN, STOP, Scoreboard
from shared.store import SharedStore, Snapshot
from workers.processes import entry
from workers.runs.directory import open_table
from workers.runs.evaluations import Evaluations, Judged
from workers.runs.records import Evaluation

Send = Callable[[tuple[str, Any]], None]  # to the supervisor
POLL_SECONDS = 0.005  # between two looks at the env steps; each costs a worker its core for a moment
FREE_SECONDS = 1.0  # of evaluations beyond their share of the time
TRIES = 2  # processes that may die of one snapshot before it is given up
FAILURES_IN_A_ROW = 5  # after which, once training has ended, the rest of the queue is given up
LONGEST_DELAY = 60.0  # seconds after a failed evaluation, doubled from one second
LAST_SECONDS = 1.5  # for the evaluation of an interrupted run's last policy


def main(
    config: Config,
    environment: EnvironmentSpec,
    store: SharedStore,
    scoreboard: Scoreboard,
    evaluations: Evaluations,
    notifier: Notifier,
    messages: Connection,
    run_dir: Path,
) -> None:
    """Process target: evaluate until solved or until the supervisor asks for the end."""
    entry.run(
        run_dir / "logs" / "monitor.log",
        lambda: Monitor(config, environment, store, scoreboard, evaluations, notifier, messages.send, run_dir).watch(),
    )


class Monitor:
    """Evaluates on its own copy of the parameters, so that nobody waits for it; writes evaluations.csv.

    An evaluation that fails is told, counted and skipped; the next one waits a little longer each time. Where
    snapshots are queued each of them is judged, so that a run repeats itself; else the next one is judged when its
    env steps have come, as the share of the time allows. A policy that promises no more than one before it, after the
    first episodes, is passed over: an evaluation that is reported has all its episodes.

    Messages to the supervisor are pairs of a kind and its data: ("evaluated", Evaluation), ("best", Evaluation),
    ("evaluation-failed", reason), ("last", Evaluation), ("unsaved", reason) and, last, ("solved", Evaluation).
    """

    def __init__(
        self,
        config: Config,
        environment: EnvironmentSpec,
        store: SharedStore,
        scoreboard: Scoreboard,
        evaluations: Evaluations,
        notifier: Notifier,
        send: Send,
        run_dir: Path,
    ):
        self._config, self._environment, self._store, self._scoreboard = config, environment, store, scoreboard
        self._evaluations, self._notifier, self._send = evaluations, notifier, send
        self._target = environment.target(config.evaluation.target_return)
        self._model = build(config, environment)
        self._parameters = flat_zeros(self._model)
        bind(self._model, self._parameters)
        self._greedy = actor_for(self._model).greedy
        self._path = run_dir / "evaluations.csv"
        self._progress = evaluations.progress()
        self._resting_until = 0.0
        self._episode_seconds: float | None = None  # of the last evaluation

    def watch(self) -> None:
        """Evaluate at every interval of env steps, and what is left when training has ended."""
        self._table = open_table(self._path, [field.name for field in dataclasses.fields(Evaluation)])
        self._store.release(self._progress.judged)
        if self._progress.tries:  # the monitor before this one died of an evaluation
            self._rest()
        solved = False
        while not solved and (request := self._scoreboard.requested()) == RUN:
            self._live()
            snapshot = self._next_snapshot()
            if snapshot is None:
                time.sleep(POLL_SECONDS)
            else:
                solved = self._judge_safely(snapshot)
        if not solved and request == FINISH:
            solved = self._finish()
        if solved:
            self._notifier.notify()
            self._send(("solved", self._progress.best))
        elif self._scoreboard.requested() == STOP:
            self._evaluate_last_safely()

    def _live(self) -> bool:
        """Show that this process lives; whether it may go on."""
        self._scoreboard.beat(self._scoreboard.monitor)
        return not self._scoreboard.stopping()

    def _next_snapshot(self) -> Snapshot | None:
        if time.monotonic() < self._resting_until:
            if self._store.queue_is_full:  # training must not wait for an environment that fails here
                self._skip()
            return None
        if not (self._store.queues or self._affordable(0.0)):
            return None
        snapshot = self._store.next_snapshot(self._progress.due or self._config.evaluation.eval_interval)
        if snapshot is not None:
            due = snapshot.env_steps + self._config.evaluation.eval_interval
            self._progress = replace(self._progress, due=due)
        return snapshot

    def _affordable(self, seconds: float) -> bool:
        """Whether so many seconds of evaluation keep to their share; the first second is free, for short runs."""
        allowance = FREE_SECONDS + self._config.evaluation.eval_share * self._scoreboard.training_seconds(
            time.monotonic()
        )
        return self._progress.seconds + seconds < allowance

    def _finish(self) -> bool:
        """Judge what is left in the queue, and the policy that training has ended with; whether it is solved.

        Failures do not delay this, for there is no training any more that they could hold up; but there may be many.
        """
        while self._live():
            snapshot = self._store.next_snapshot(0) if self._store.queues else None
            if snapshot is None:
                break
            if self._progress.failures >= FAILURES_IN_A_ROW:
                self._skip()
            elif self._judge_safely(snapshot):
                return True
        last = self._store.snapshot()
        unknown = last.updates > 0 and last.updates != self._progress.evaluated
        return unknown and self._live() and self._judge_safely(last, is_last=True)

    # -- judging --------------------------------------------------------------------------------------------------

    def _judge_safely(self, snapshot: Snapshot, is_last: bool = False) -> bool:
        """Judge a snapshot; whether it is the solution. Whatever the environment does to that, the run goes on.

        Args:
            is_last: it is the policy that training has ended with, which nobody has queued, and is evaluated wholly.
        """
        before = self._progress
        if before.tries >= TRIES:
            self._fail(f"the monitor died of it {TRIES} times")
        else:
            self._note(replace(before, tries=before.tries + 1))  # for a successor of this process
            try:
                solved = self._judge(snapshot, wholly=is_last)
            except CancelledError:
                self._note(before)  # a resumed run judges it
                return False
            except (Exception, SystemExit) as error:
                self._fail_of(error)
            else:
                self._progress = replace(self._progress, failures=0)
                self._skip(not is_last)
                return solved
        self._skip(not is_last)
        return False

    def _skip(self, snapshots: int = 1) -> None:
        """Be through with the first snapshots of the queue."""
        judged = self._progress.judged + snapshots * self._store.queues
        self._note(replace(self._progress, judged=judged, tries=0))
        self._store.release(judged)

    def _fail_of(self, error: BaseException) -> None:
        traceback.print_exc()
        self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        self._scoreboard.count("failed_evaluations")
        delay = self._rest()
        line = f"{' '.join(reason.split())} (logs/monitor.log)"
        self._send(("evaluation-failed", f"{line}; the next one in {delay:.0f} s" if delay else line))

    def _rest(self) -> float:
        """After a failure, begin no evaluation for a while where training is under way; the seconds."""
        failures = self._progress.failures + 1
        self._note(replace(self._progress, failures=failures))
        delay = min(2.0 ** (failures - 1), LONGEST_DELAY) if self._scoreboard.requested() == RUN else 0.0
        self._resting_until = time.monotonic() + delay
        return delay

    def _judge(self, snapshot: Snapshot, wholly: bool) -> bool:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. Whether it did twice."""
        self._parameters.copy_(snapshot.parameters)
        if not bool(np.isfinite(self._parameters.numpy()).all()):
            return False  # the checkpointer deals with what it was taken from
        evaluation = self._evaluate(snapshot, wholly, verification=False)
        if evaluation is None:
            return False
        if self._reaches_target(evaluation):  # a lucky evaluation is no solution, and its mean not the one to remember
            evaluation = self._evaluate(snapshot, wholly=True, verification=True)
            assert evaluation is not None
        solved = evaluation.verification and self._reaches_target(evaluation)
        self._progress = replace(self._progress, evaluated=snapshot.updates)
        if solved or self._progress.best is None or evaluation.mean > self._progress.best.mean:
            self._evaluations.note_best(Judged(snapshot, evaluation))
            self._progress = replace(self._progress, best=evaluation)
            self._send(("best", evaluation))
        return solved

    def _reaches_target(self, evaluation: Evaluation) -> bool:
        return self._target is not None and evaluation.mean >= self._target

    def _evaluate(self, snapshot: Snapshot, wholly: bool, verification: bool) -> Evaluation | None:
        """One evaluation, reported; None for a policy that promises too little to go through with it.

        Raises:
            CancelledError: the run is being stopped.
            ArithmeticError: a return is not finite.
        """
        seed = evaluation_seed(self._config.seed, self._progress.evaluations)
        self._progress = replace(self._progress, evaluations=self._progress.evaluations + 1)
        began = time.monotonic()

        def goes_on(returns: Returns) -> bool:
            return wholly or self._promises(returns, time.monotonic() - began)

        result = self._play(seed, lambda: not self._live(), goes_on)
        seconds = time.monotonic() - began
        self._progress = replace(self._progress, seconds=self._progress.seconds + seconds)
        if result is None:
            raise CancelledError
        self._episode_seconds = seconds / len(result.returns)
        evaluation = self._report(snapshot, result, verification)
        if evaluation.episodes < self._config.evaluation.eval_episodes:
            self._progress = replace(self._progress, promised=max(evaluation.mean, *self._known_means()))
            return None
        self._record(evaluation)
        self._send(("evaluated", evaluation))
        return evaluation

    def _play(
        self, seed: int, cancelled: Callable[[], bool], goes_on: Callable[[Returns], bool] = lambda returns: True
    ) -> Returns | None:
        options = self._config.evaluation
        return evaluate(
            self._greedy, self._environment, options.eval_episodes, seed, cancelled, options.eval_envs, goes_on
        )

    def _promises(self, returns: Returns, seconds: float) -> bool:
        """Whether the rest of an evaluation's episodes is worth it, after `seconds` for the first of them.

        Where a run repeats itself, only returns may decide.
        """
        known = max(self._known_means())
        if -math.inf < known < returns.returns.mean():
            return True
        whole = seconds * self._config.evaluation.eval_episodes / len(returns.returns)
        return not self._store.queues and self._affordable(whole)

    def _known_means(self) -> tuple[float, float]:
        best, promised = self._progress.best, self._progress.promised
        return best.mean if best else -math.inf, -math.inf if promised is None else promised

    def _report(self, snapshot: Snapshot, result: Returns, verification: bool) -> Evaluation:
        statistics = result.statistics()
        if not math.isfinite(statistics["mean"]):
            raise ArithmeticError("the return of an episode is not finite; check the environment's rewards")
        return Evaluation(
            env_steps=snapshot.env_steps,
            updates=snapshot.updates,
            seconds=self._scoreboard.training_seconds(snapshot.taken),
            episodes=len(result.returns),
            **statistics,
            seed=result.seed,
            verification=verification,
        )

    def _record(self, evaluation: Evaluation) -> None:
        """A row of evaluations.csv; on to the next where the disk refuses it."""
        try:
            self._table.write(dataclasses.asdict(evaluation))
        except OSError as error:  # training is worth more than its curve
            self._send(("unsaved", f"evaluations.csv: {error.strerror}"))
        self._progress = replace(self._progress, rows=self._progress.rows + 1)

    def _note(self, progress: Any) -> None:
        self._progress = progress
        self._evaluations.note_progress(progress)

    # -- the end of an interrupted run ----------------------------------------------------------------------------

    def _evaluate_last_safely(self) -> None:
        try:
            self._evaluate_last()
        except (Exception, SystemExit) as error:
            self._fail_of(error)

    def _evaluate_last(self) -> None:
        """Evaluate the policy that an interrupted run ends with, where that fits into the time it has.

        It is told and goes into the last checkpoint, but not into evaluations.csv: a resumed run goes on as if it had
        never been.
        """
        deadline = time.monotonic() + LAST_SECONDS
        while not self._store.barrier.ended() and time.monotonic() < deadline - LAST_SECONDS / 2:
            self._scoreboard.beat(self._scoreboard.monitor)
            time.sleep(POLL_SECONDS)
        snapshot, episodes = self._store.snapshot(), self._config.evaluation.eval_episodes
        if snapshot.updates in (0, self._progress.evaluated):
            return
        if self._episode_seconds is not None and time.monotonic() + self._episode_seconds * episodes > deadline:
            return
        self._parameters.copy_(snapshot.parameters)
        if not bool(np.isfinite(self._parameters.numpy()).all()):
            return
        seed = evaluation_seed(self._config.seed, self._progress.evaluations)
        result = self._play(seed, lambda: time.monotonic() > deadline)
        if result is not None:
            evaluation = self._report(snapshot, result, verification=False)
            self._evaluations.note_last(Judged(snapshot, evaluation))
            self._send(("last", evaluation))


class CancelledError(Exception):
    """An evaluation that the run's end has cut short."""


def evaluation_seed(seed: int, index: int) -> int:
    """The seed of a run's evaluation number `index`: fresh for each, and never a training seed.

    Below 2^30, so that what an environment makes of it and the number of an episode fits into 31 bits.
    """
    return int(np.random.SeedSequence([seed, 2**32 - 1, index]).generate_state(1)[0]) >> 2
