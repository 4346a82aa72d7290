"""The monitor: evaluates snapshots of the shared policy, has checkpoints kept, and decides when it is solved."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a3c.closed_form import ClosedForm
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.evaluation import evaluate
from a3c.networks import build
from shared.board import FINISH, RUN, STOP, Board
from shared.parameters import bind, flat_size
from shared.store import SharedStore, Snapshot
from workers import border
from workers.keeper import Judged, Keeper
from workers.status import Evaluation
from workers.table import Table

POLL_SECONDS = 0.005  # between two looks at the env steps; each costs a worker its core for a moment
FREE_SECONDS = 1.0  # of CPU time for evaluations beyond their share


@dataclass(frozen=True, slots=True)
class Progress:
    """What a monitor goes on from: in a resumed run, or after one that died."""

    evaluations: int = 0  # begun so far; each has a seed of its own
    cpu_seconds: float = 0.0  # spent on them
    due: int = 0  # env steps at which the next one is
    best: Evaluation | None = None  # of the checkpoint `best`

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Progress":
        """From `facts` as they come out of a checkpoint; raises KeyError, TypeError where they are not such."""
        best = facts["best"] and Evaluation(**facts["best"])
        return cls(int(facts["evaluations"]), float(facts["cpu_seconds"]), int(facts["due"]), best)


def main(config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, messages: Connection,
         run_dir: Path, progress: Progress, terminal: str | None) -> None:  # fmt: skip
    """Process target: evaluate until solved or until the supervisor asks for the end."""
    border.run(
        run_dir / "logs" / "monitor.log",
        lambda: Monitor(config, environment, store, board, messages, run_dir, progress).watch(),
        terminal,
    )


class Monitor:
    """Evaluates on its own copy of the parameters, so that nobody waits for it; writes evaluations.csv.

    Messages to the supervisor are pairs of a kind and its data: ("evaluated", Evaluation), ("best", Evaluation),
    ("checkpointed", name), ("unsaved", reason), ("rolled-back", reason) and, last, ("solved", Evaluation).
    """

    def __init__(self, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board,
                 messages: Connection, run_dir: Path, progress: Progress):  # fmt: skip
        self._config, self._environment, self._store, self._board = config, environment, store, board
        self._messages = messages
        self._target = environment.target(config.evaluation.target_return)
        self._model = build(config, environment)
        self._parameters = torch.zeros(flat_size(self._model))
        bind(self._model, self._parameters)
        self._network = ClosedForm(self._model)
        self._keeper = Keeper(config, environment, store, board, messages.send, run_dir / "checkpoints")
        self._table = Table(run_dir / "evaluations.csv", [field.name for field in dataclasses.fields(Evaluation)])
        self._evaluations, self._cpu_seconds, self._due = progress.evaluations, progress.cpu_seconds, progress.due
        self._best_mean = progress.best.mean if progress.best else -math.inf
        self._saved_best = progress.best
        self._best: Judged | None = None  # where it is not on disk yet

    def watch(self) -> None:
        """Evaluate at every interval of env steps; end with both checkpoints on disk."""
        solved: Judged | None = None
        while solved is None and (request := self._board.requested()) == RUN:
            self._live()
            self._keeper.ask_when_due()
            if self._keeper.is_ready:
                self._save()
            snapshot = self._next_snapshot()
            if snapshot is None:
                time.sleep(POLL_SECONDS)
            else:
                solved = self._judge(snapshot)
        if solved is None and request == FINISH:
            judged = (self._judge(snapshot) for snapshot in self._store.last_snapshots())
            solved = next((one for one in judged if one), None)
        if solved is None:
            self._keeper.save_end(self._best, self._progress())
        else:
            self._keeper.save_solved(solved)
            self._messages.send(("solved", solved.evaluation))

    def _live(self) -> bool:
        """Show that this process lives, and see that the shared numbers do."""
        self._board.beat(self._board.workers)
        self._keeper.guard()
        return self._board.requested() != STOP

    def _next_snapshot(self) -> Snapshot | None:
        if self._keeper.holds_queue or not (self._store.queues or self._affordable()):
            return None
        snapshot = self._store.due_snapshot(self._due)
        if snapshot is not None:
            self._due = snapshot.env_steps + self._config.evaluation.eval_interval
        return snapshot

    def _affordable(self) -> bool:
        """Whether another evaluation keeps to its share of the CPU; the first second is free, for short runs."""
        allowance = FREE_SECONDS + self._config.evaluation.eval_share * self._board.training_seconds(time.monotonic())
        return self._cpu_seconds < allowance

    def _judge(self, snapshot: Snapshot) -> Judged | None:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. What it reached if it did twice."""
        self._parameters.copy_(snapshot.parameters)
        if not bool(np.isfinite(self._parameters.numpy()).all()):
            return None  # the guard deals with what it was taken from
        evaluation = self._evaluate(snapshot, verification=False)
        reached = evaluation is not None and self._reaches_target(evaluation)
        if reached:  # a lucky evaluation is not a solution, and its mean not the one to remember
            evaluation = self._evaluate(snapshot, verification=True)
        if evaluation is None:
            return None
        solved = reached and self._reaches_target(evaluation)
        if solved or evaluation.mean > self._best_mean:
            self._best, self._best_mean = Judged(snapshot, evaluation), evaluation.mean
            self._messages.send(("best", evaluation))
        return self._best if solved else None

    def _reaches_target(self, evaluation: Evaluation) -> bool:
        return self._target is not None and evaluation.mean >= self._target

    def _evaluate(self, snapshot: Snapshot, verification: bool) -> Evaluation | None:
        seed = evaluation_seed(self._config.seed, self._evaluations)
        self._evaluations += 1
        episodes = self._config.evaluation.eval_episodes
        cpu_before = time.process_time()
        result = evaluate(self._network.policy_logits, self._environment, episodes, seed, lambda: not self._live())
        self._cpu_seconds += time.process_time() - cpu_before
        if result is None:
            return None
        statistics = result.statistics()
        if not math.isfinite(statistics["mean"]):
            raise FloatingPointError("an evaluated episode's return is not finite; check the environment's rewards")
        evaluation = Evaluation(
            env_steps=snapshot.env_steps,
            updates=snapshot.updates,
            seconds=self._board.training_seconds(snapshot.taken),
            episodes=episodes,
            **statistics,
            seed=seed,
            verification=verification,
        )
        self._record(lambda: self._table.write(dataclasses.asdict(evaluation)))
        self._messages.send(("evaluated", evaluation))
        return evaluation

    def _save(self) -> None:
        self._record(self._table.sync)  # so that it has every row that the checkpoint counts on
        if self._keeper.save(self._best, self._progress()) and self._best is not None:
            self._saved_best, self._best = self._best.evaluation, None

    def _record(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:  # training is worth more than its curve
            self._messages.send(("unsaved", f"evaluations.csv: {error.strerror}"))

    def _progress(self) -> dict[str, Any]:
        best = self._best.evaluation if self._best else self._saved_best
        return dataclasses.asdict(Progress(self._evaluations, self._cpu_seconds, self._due, best))


def evaluation_seed(seed: int, index: int) -> int:
    """The seed of a run's evaluation number `index`: fresh for each, and never a training seed."""
    return int(np.random.SeedSequence([seed, 2**32 - 1, index]).generate_state(1)[0])
