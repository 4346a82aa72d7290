"""The monitor: evaluates snapshots of the shared policy and decides when it is solved."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
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

POLL_SECONDS = 0.005  # between two reads of the env steps; each costs a worker its core for a moment
FREE_SECONDS = 1.0  # of evaluations beyond their share of the time
TRIES = 2  # processes that may die of one snapshot before it is given up
FAILURES_IN_A_ROW = 5  # after which, once training has ended, the rest of the queue is given up
LONGEST_DELAY = 60.0  # seconds after a failed evaluation, doubled from one second
LAST_SECONDS = 1.5  # for the evaluation of an interrupted run's last policy


class CancelledError(Exception):
    """An evaluation that the run's end has cut short."""


def main(run: SharedRun, messages: Connection) -> None:
    """Process target: evaluate until solved or until the supervisor asks for the end."""
    path, columns = run.run_dir / "evaluations.csv", [field.name for field in fields(Evaluation)]
    entry.run(
        run.run_dir / "logs" / "monitor.log", lambda: Monitor(run, messages.send).watch(open_table(path, columns))
    )


class Monitor:
    """Evaluates on its own copy of the parameters, so that no worker waits for it; writes evaluations.csv.

    An evaluation that fails is reported, counted and skipped; the next one waits a little longer each time. Where
    snapshots are queued each of them is evaluated, so that a run repeats itself; else the next one is evaluated when
    its env steps have come, as the share of the time allows. A policy whose first episodes promise too little is
    passed over: an evaluation that is reported has all its episodes. Beyond the share they are played of a policy that
    promises the target or, where there is none or a run repeats itself, more than all before it.

    Messages to the supervisor are pairs of a kind and its data: ("evaluated", Evaluation), ("best", Evaluation),
    ("evaluation-failed", reason), ("last", Evaluation), ("unsaved", reason) and, last, ("solved", Evaluation).
    """

    def __init__(self, run: SharedRun, send: Callable[[tuple[str, Any]], None]):
        self._config, self._environment, self._store, self._scoreboard, self._evaluations, self._notifier, _ = run
        config = self._config
        self._options, self._seed, self._send = config.evaluation, config.seed, send
        self._target = self._environment.target(self._options.target_return)
        self._model = model = build(config, self._environment)
        self._parameters = flat_zeros(model)
        bind(model, self._parameters)
        self._actor = actor_for(model)
        self._progress = self._evaluations.progress()
        self._resting_until = 0.0
        self._episode_seconds = 0.0  # of the last evaluation

    def watch(self, table: Table) -> None:
        """Evaluate at every interval of env steps, and what is left when training has ended."""
        self._table = table
        self._store.release(self._progress.released)
        if self._progress.tries:  # the monitor before this one died of an evaluation
            self._rest()
        solved = False
        while not solved and (request := self._scoreboard.requested()) == RUN:
            self._is_stopped()
            if (snapshot := self._next_snapshot()) is None:
                time.sleep(POLL_SECONDS)
            else:
                solved = self._try(snapshot)
        if not solved and request == FINISH:
            solved = self._finish()
        if solved:
            self._notifier.notify()
            self._send(("solved", self._progress.best))
        elif self._scoreboard.requested() == STOP:
            self._evaluate_last()

    def _is_stopped(self) -> bool:
        """Whether the run ends at once; shows that this process lives."""
        self._scoreboard.beat(self._scoreboard.monitor)
        return self._scoreboard.stopping()

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
        """Evaluate what is left in the queue, and the policy that training has ended with; whether it is solved."""
        while not self._is_stopped() and self._store.queues and (snapshot := self._store.next_snapshot(0)):
            if self._progress.failures >= FAILURES_IN_A_ROW:
                self._release()
            elif self._try(snapshot):
                return True
        last = self._store.snapshot()
        unknown = last.updates not in (0, self._progress.evaluated)
        return unknown and not self._is_stopped() and self._try(last, is_last=True)

    def _evaluate_last(self) -> None:
        """Evaluate the policy that an interrupted run ends with, where that fits into the time it has.

        It is in the last checkpoint, but not in evaluations.csv: a resumed run continues as if it had never been.
        """
        deadline = time.monotonic() + LAST_SECONDS
        while not self._store.barrier.ended() and time.monotonic() < deadline - LAST_SECONDS / 2:
            self._is_stopped()
            time.sleep(POLL_SECONDS)
        snapshot, before = self._store.snapshot(), self._progress
        expected = time.monotonic() + self._episode_seconds * self._options.eval_episodes
        if snapshot.updates in (0, before.evaluated) or expected > deadline or not self._load(snapshot):
            return
        try:
            evaluation = self._evaluate(snapshot, lambda: time.monotonic() > deadline)
            self._evaluations.note(last=EvaluatedSnapshot(snapshot, evaluation))
            self._send(("last", evaluation))
        except CancelledError:
            pass
        except (Exception, SystemExit) as error:
            self._progress = before
            self._fail(error)

    # -- failures -------------------------------------------------------------------------------------------------

    def _try(self, snapshot: Snapshot, is_last: bool = False) -> bool:
        """Evaluate a snapshot, the last one whole and in no queue, and survive its failure; whether it is solved."""
        before, solved = self._progress, False
        if before.tries >= TRIES:
            self._fail(f"the monitor died of it {TRIES} times")
        else:
            self._note(tries=before.tries + 1)  # for a successor of this process
            try:
                solved = self._solves(snapshot, whole=is_last)
                self._update(failures=0)
            except CancelledError:
                self._progress = before  # a resumed run evaluates it
                self._note()
                return False
            except (Exception, SystemExit) as error:
                self._fail(error)
        self._release(not is_last)
        return solved

    def _release(self, snapshots: int = 1) -> None:
        """Drop the first snapshots of the queue, where there is one."""
        self._note(released=self._progress.released + snapshots * self._store.queues, tries=0)
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
        self._note(failures=self._progress.failures + 1)
        training = self._scoreboard.requested() == RUN
        delay = min(2.0 ** (self._progress.failures - 1), LONGEST_DELAY) if training else 0.0
        self._resting_until = time.monotonic() + delay
        return delay

    # -- one snapshot ---------------------------------------------------------------------------------------------

    def _solves(self, snapshot: Snapshot, whole: bool) -> bool:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. Whether it did twice."""
        if not self._load(snapshot):
            return False  # the checkpointer deals with what it was taken from
        evaluation = self._evaluate(snapshot, self._is_stopped, whole)
        if evaluation.episodes < self._options.eval_episodes:
            self._update(promised=max(evaluation.mean, self._highest_mean()))
            if not self._store.queues:  # what is passed over keeps to half of the share: whole ones are to come, too
                seconds = evaluation.episodes * self._episode_seconds
                self._resting_until = time.monotonic() + seconds * (2 / max(self._options.eval_share, 1e-9) - 1)
            return False
        if self._options.critic_episodes:
            evaluation = replace(evaluation, **self._judged(evaluation.seed))
        self._report(evaluation)
        if self._target is not None and evaluation.mean >= self._target:
            # A lucky evaluation is no solution, and its mean not the one to remember.
            evaluation = self._evaluate(snapshot, self._is_stopped, verification=True)
            self._report(evaluation)
        solved = self._target is not None and evaluation.is_solution(self._target)
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

    def _evaluate(
        self, snapshot: Snapshot, cancelled: Callable[[], bool], whole: bool = True, verification: bool = False
    ) -> Evaluation:
        """One evaluation of what is loaded; of fewer episodes where it is not to be `whole` and promises too little.

        Raises CancelledError, and ArithmeticError where a return is not finite.
        """
        options, began = self._options, time.monotonic()
        seed = evaluation_seed(self._seed, self._progress.evaluations)
        self._update(evaluations=self._progress.evaluations + 1)

        def proceeds(returns: Returns) -> bool:  # in `sync` only returns may decide
            mean, repeats = returns.returns.mean(), bool(self._store.queues)
            if whole or (self._target is not None and mean >= self._target):
                return True
            if (repeats or self._target is None) and -math.inf < self._highest_mean() < mean:
                return True
            seconds = (time.monotonic() - began) * options.eval_episodes / len(returns.returns)
            return not repeats and self._affordable(seconds)

        rng, greedy = np.random.default_rng(seed), options.eval_actions == "greedy"
        act, most = partial(self._actor.actions, greedy=greedy, rng=rng), options.eval_envs
        episodes, restart = options.eval_episodes, self._actor.restart
        result = evaluate(act, self._environment, episodes, seed, cancelled, most, proceeds, restart)
        seconds = time.monotonic() - began
        self._update(seconds=self._progress.seconds + seconds)
        if result is None:
            raise CancelledError
        episodes = len(result.returns)
        self._episode_seconds = seconds / episodes
        if not math.isfinite(result.returns.mean()):
            raise ArithmeticError("the return of an episode is not finite; check the environment's rewards")
        return Evaluation(
            env_steps=snapshot.env_steps,
            updates=snapshot.updates,
            seconds=self._scoreboard.training_seconds(snapshot.taken),
            episodes=episodes,
            **result.statistics(),
            seed=seed,
            verification=verification,
        )

    def _judged(self, seed: int) -> dict[str, Any]:
        """How good the critic of what is loaded is, on held-out episodes."""
        from a3c.critic_evaluation import TOGETHER, judge
        from a3c.learners import learner_for
        from a3c.rollouts import Stopwatch

        def beat() -> None:
            if self._is_stopped():
                raise CancelledError

        steps = self._environment.max_episode_steps or self._config.n_steps
        whole = replace(self._config, envs_per_worker=TOGETHER, n_steps=steps)
        learner = learner_for(self._model, whole, Stopwatch(), np.random.default_rng(seed), steps)
        began, gamma = time.monotonic(), self._config.loss.gamma
        found = judge(learner, self._environment, self._options.critic_episodes, steps, gamma, seed, beat)
        self._update(seconds=self._progress.seconds + time.monotonic() - began)
        return {f"critic_{name}": value for name, value in asdict(found).items()}

    def _highest_mean(self) -> float:
        best, promised = self._progress.best, self._progress.promised
        return max(best.mean if best else -math.inf, -math.inf if promised is None else promised)

    def _report(self, evaluation: Evaluation) -> None:
        try:
            self._table.write(asdict(evaluation))
        except OSError as error:  # training is worth more than its curve
            self._send(("unsaved", f"evaluations.csv: {error.strerror}"))
        self._update(rows=self._progress.rows + 1)
        self._send(("evaluated", evaluation))

    def _update(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)

    def _note(self, **changes: Any) -> None:
        """Update the progress, and leave it for the checkpointer and for a successor."""
        self._update(**changes)
        self._evaluations.note(progress=self._progress)


def evaluation_seed(seed: int, index: int) -> int:
    """The seed of evaluation `index`: never one of training, below 2^30 so that seed + episode fits into 31 bits."""
    return int(np.random.SeedSequence([seed, 2**32 - 1, index]).generate_state(1)[0]) >> 2
