"""The monitor: evaluates snapshots of the shared policy and decides when it is solved."""

import dataclasses
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from a3c.actors import actor_for
from a3c.evaluation import Returns, evaluate
from a3c.networks import bind, build, flat_zeros
from shared.scoreboard import FINISH, RUN, STOP
from shared.store import Snapshot
from workers.processes import entry
from workers.runs.directory import Table, open_table
from workers.runs.evaluations import EvaluatedSnapshot, SharedRun
from workers.runs.records import Evaluation

POLL_SECONDS = 0.005  # between two looks at the env steps; each costs a worker its core for a moment
FREE_SECONDS = 1.0  # of evaluations beyond their share of the time
TRIES = 2  # processes that may die of one snapshot before it is given up
FAILURES_IN_A_ROW = 5  # after which, once training has ended, the rest of the queue is given up
LONGEST_DELAY = 60.0  # seconds after a failed evaluation, doubled from one second
LAST_SECONDS = 1.5  # for the evaluation of an interrupted run's last policy


def main(run: SharedRun, messages: Connection) -> None:
    """Process target: evaluate until solved or until the supervisor asks for the end."""

    def watch() -> None:
        columns = [field.name for field in dataclasses.fields(Evaluation)]
        Monitor(run, messages.send).watch(open_table(run.run_dir / "evaluations.csv", columns))

    entry.run(run.run_dir / "logs" / "monitor.log", watch)


class Monitor:
    """Evaluates on its own copy of the parameters, so that no worker waits for it; writes evaluations.csv.

    An evaluation that fails is reported, counted and skipped; the next one waits a little longer each time. Where
    snapshots are queued each of them is evaluated, so that a run repeats itself; else the next one is evaluated when
    its env steps have come, as the share of the time allows. A policy that promises no more than one before it, after
    the first episodes, is passed over: an evaluation that is reported has all its episodes.

    Messages to the supervisor are pairs of a kind and its data: ("evaluated", Evaluation), ("best", Evaluation),
    ("evaluation-failed", reason), ("last", Evaluation), ("unsaved", reason) and, last, ("solved", Evaluation).
    """

    def __init__(self, run: SharedRun, send: Callable[[tuple[str, Any]], None]):
        config, self._environment, self._store, self._scoreboard, self._evaluations, self._notifier, _ = run
        self._options, self._seed, self._send = config.evaluation, config.seed, send
        self._target = self._environment.target(self._options.target_return)
        model = build(config, self._environment)
        self._parameters = flat_zeros(model)
        bind(model, self._parameters)
        self._greedy = actor_for(model).greedy
        self._progress = self._evaluations.progress()
        self._resting_until = 0.0
        self._episode_seconds: float | None = None  # of the last evaluation

    def watch(self, table: Table) -> None:
        """Evaluate at every interval of env steps, and what is left when training has ended."""
        self._table = table
        self._store.release(self._progress.released)
        if self._progress.tries:  # the monitor before this one died of an evaluation
            self._rest()
        solved = False
        while not solved and (request := self._scoreboard.requested()) == RUN:
            self._beat()
            snapshot = self._next_snapshot()
            if snapshot is None:
                time.sleep(POLL_SECONDS)
            else:
                solved = self._try(snapshot)
        if not solved and request == FINISH:
            solved = self._finish()
        if solved:
            self._notifier.notify()
            self._send(("solved", self._progress.best))
        elif self._scoreboard.requested() == STOP:
            try:
                self._evaluate_last()
            except (Exception, SystemExit) as error:
                self._fail(error)

    def _beat(self) -> bool:
        """Show that this process lives; whether it may continue."""
        self._scoreboard.beat(self._scoreboard.monitor)
        return not self._scoreboard.stopping()

    def _next_snapshot(self) -> Snapshot | None:
        if time.monotonic() < self._resting_until:
            if self._store.queue_is_full:  # training must not wait for an environment that fails here
                self._release()
            return None
        if not (self._store.queues or self._affordable(0.0)):
            return None
        snapshot = self._store.next_snapshot(self._progress.due or self._options.eval_interval)
        if snapshot is not None:
            self._update(due=snapshot.env_steps + self._options.eval_interval)
        return snapshot

    def _affordable(self, seconds: float) -> bool:
        """Whether so many seconds of evaluation keep to their share; the first second is free, for short runs."""
        share = self._options.eval_share * self._scoreboard.training_seconds(time.monotonic())
        return self._progress.seconds + seconds < FREE_SECONDS + share

    def _finish(self) -> bool:
        """Evaluate what is left in the queue, and the policy that training has ended with; whether it is solved.

        Failures do not delay this, for there is no training any more that they could hold up; but there may be many.
        """
        while self._beat():
            snapshot = self._store.next_snapshot(0) if self._store.queues else None
            if snapshot is None:
                break
            if self._progress.failures >= FAILURES_IN_A_ROW:
                self._release()
            elif self._try(snapshot):
                return True
        last = self._store.snapshot()
        unknown = last.updates > 0 and last.updates != self._progress.evaluated
        return unknown and self._beat() and self._try(last, is_last=True)

    # -- one snapshot ---------------------------------------------------------------------------------------------

    def _try(self, snapshot: Snapshot, is_last: bool = False) -> bool:
        """Evaluate a snapshot, whatever the environment does to that; whether it is the solution.

        Args:
            is_last: the policy that training has ended with: it is in no queue, and is evaluated whole.
        """
        before, solved = self._progress, False
        if before.tries >= TRIES:
            self._fail(f"the monitor died of it {TRIES} times")
        else:
            self._update(tries=before.tries + 1)
            self._evaluations.note(self._progress)  # for a successor of this process
            try:
                solved = self._solves(snapshot, whole=is_last)
                self._update(failures=0)
            except CancelledError:
                self._progress = before  # a resumed run evaluates it
                self._evaluations.note(before)
                return False
            except (Exception, SystemExit) as error:
                self._fail(error)
        self._release(not is_last)
        return solved

    def _release(self, snapshots: int = 1) -> None:
        """Drop the first snapshots of the queue, where there is one."""
        self._update(released=self._progress.released + snapshots * self._store.queues, tries=0)
        self._evaluations.note(self._progress)
        self._store.release(self._progress.released)

    def _fail(self, error: BaseException | str) -> None:
        if isinstance(error, BaseException):
            traceback.print_exc()
            error = f"{type(error).__name__}: {error}"
        self._scoreboard.count("failed_evaluations")
        delay = self._rest()
        line = f"{' '.join(error.split())} (logs/monitor.log)"
        self._send(("evaluation-failed", f"{line}; the next one in {delay:.0f} s" if delay else line))

    def _rest(self) -> float:
        """After a failure, begin no evaluation for a while where training is under way; the seconds."""
        failures = self._progress.failures + 1
        self._update(failures=failures)
        self._evaluations.note(self._progress)
        delay = min(2.0 ** (failures - 1), LONGEST_DELAY) if self._scoreboard.requested() == RUN else 0.0
        self._resting_until = time.monotonic() + delay
        return delay

    def _solves(self, snapshot: Snapshot, whole: bool) -> bool:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. Whether it did twice."""
        if not self._load(snapshot):
            return False  # the checkpointer deals with what it was taken from
        evaluation = self._evaluate(snapshot, whole, verification=False)
        if evaluation is None:
            return False
        if self._reaches_target(evaluation):  # a lucky evaluation is no solution, and its mean not the one to remember
            evaluation = self._evaluate(snapshot, whole=True, verification=True)
            assert evaluation is not None
        solved = evaluation.verification and self._reaches_target(evaluation)
        self._update(evaluated=snapshot.updates)
        if solved or self._progress.best is None or evaluation.mean > self._progress.best.mean:
            self._evaluations.note(best=EvaluatedSnapshot(snapshot, evaluation))
            self._update(best=evaluation)
            self._send(("best", evaluation))
        return solved

    def _load(self, snapshot: Snapshot) -> bool:
        """Take over a snapshot's parameters; whether they are finite."""
        self._parameters.copy_(snapshot.parameters)
        return bool(np.isfinite(self._parameters.numpy()).all())

    def _reaches_target(self, evaluation: Evaluation) -> bool:
        return self._target is not None and evaluation.mean >= self._target

    def _evaluate(self, snapshot: Snapshot, whole: bool, verification: bool) -> Evaluation | None:
        """One evaluation, reported; None for a policy that promises too little to complete it.

        Raises:
            CancelledError: the run is being stopped.
            ArithmeticError: a return is not finite.
        """
        seed = evaluation_seed(self._seed, self._progress.evaluations)
        self._update(evaluations=self._progress.evaluations + 1)
        began = time.monotonic()
        result = self._play(
            seed, lambda: not self._beat(), lambda returns: whole or self._promises(returns, time.monotonic() - began)
        )
        seconds = time.monotonic() - began
        self._update(seconds=self._progress.seconds + seconds)
        if result is None:
            raise CancelledError
        self._episode_seconds = seconds / len(result.returns)
        evaluation = self._evaluation(snapshot, result, verification)
        if evaluation.episodes < self._options.eval_episodes:
            self._update(promised=max(evaluation.mean, self._highest_mean()))
            return None
        try:
            self._table.write(dataclasses.asdict(evaluation))
        except OSError as error:  # training is worth more than its curve
            self._send(("unsaved", f"evaluations.csv: {error.strerror}"))
        self._update(rows=self._progress.rows + 1)
        self._send(("evaluated", evaluation))
        return evaluation

    def _play(
        self, seed: int, cancelled: Callable[[], bool], goes_on: Callable[[Returns], bool] = lambda returns: True
    ) -> Returns | None:
        episodes, batch = self._options.eval_episodes, self._options.eval_envs
        return evaluate(self._greedy, self._environment, episodes, seed, cancelled, batch, goes_on)

    def _promises(self, returns: Returns, seconds: float) -> bool:
        """Whether the rest of an evaluation's episodes is worth it, after `seconds` for the first of them.

        Where a run repeats itself, only returns may decide.
        """
        if -math.inf < self._highest_mean() < returns.returns.mean():
            return True
        whole = seconds * self._options.eval_episodes / len(returns.returns)
        return not self._store.queues and self._affordable(whole)

    def _highest_mean(self) -> float:
        best, promised = self._progress.best, self._progress.promised
        return max(best.mean if best else -math.inf, -math.inf if promised is None else promised)

    def _evaluation(self, snapshot: Snapshot, result: Returns, verification: bool) -> Evaluation:
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

    def _update(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)

    def _evaluate_last(self) -> None:
        """Evaluate the policy that an interrupted run ends with, where that fits into the time it has.

        It is reported and goes into the last checkpoint, but not into evaluations.csv: a resumed run continues as if
        it had never been.
        """
        deadline = time.monotonic() + LAST_SECONDS
        while not self._store.barrier.ended() and time.monotonic() < deadline - LAST_SECONDS / 2:
            self._beat()
            time.sleep(POLL_SECONDS)
        snapshot = self._store.snapshot()
        seconds = (self._episode_seconds or 0.0) * self._options.eval_episodes
        known = snapshot.updates in (0, self._progress.evaluated)
        if known or time.monotonic() + seconds > deadline or not self._load(snapshot):
            return
        seed = evaluation_seed(self._seed, self._progress.evaluations)
        result = self._play(seed, lambda: time.monotonic() > deadline)
        if result is not None:
            evaluation = self._evaluation(snapshot, result, verification=False)
            self._evaluations.note(last=EvaluatedSnapshot(snapshot, evaluation))
            self._send(("last", evaluation))


class CancelledError(Exception):
    """An evaluation that the run's end has cut short."""


def evaluation_seed(seed: int, index: int) -> int:
    """The seed of a run's evaluation number `index`: fresh for each, and never a training seed.

    Below 2^30, so that what an environment makes of it and the number of an episode fits into 31 bits.
    """
    return int(np.random.SeedSequence([seed, 2**32 - 1, index]).generate_state(1)[0]) >> 2
