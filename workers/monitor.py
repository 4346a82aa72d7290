"""The monitor: evaluates snapshots of the shared policy, keeps the checkpoints, and decides when it is solved."""

import dataclasses
import math
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from a3c.checkpoint import save_checkpoint
from a3c.closed_form import ClosedForm
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.evaluation import evaluate
from a3c.networks import build
from shared.board import FINISH, MONITOR, RUN, STOP, Board
from shared.parameters import bind, flat_size
from shared.store import SharedStore, Snapshot
from workers import border
from workers.status import Evaluation

POLL_SECONDS = 0.002  # between two looks at the env steps
FREE_SECONDS = 1.0  # of CPU time for evaluations beyond their share


def main(
    config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, messages: Connection, run_dir: Path
) -> None:
    """Process target: evaluate until solved or until the supervisor asks for the end."""
    monitor = Monitor(config, environment, store, board, messages, run_dir / "checkpoints")
    border.run(run_dir / "logs" / "monitor.log", monitor.watch)


class Judged(NamedTuple):
    """A snapshot and what its policy reached."""

    snapshot: Snapshot
    evaluation: Evaluation


class Monitor:
    """Evaluates on its own copy of the parameters, so that nobody waits for it.

    Messages to the supervisor are pairs of a kind and its data: ("evaluated", Evaluation), ("best", Evaluation),
    ("checkpointed", name) and, last, ("solved", Evaluation).
    """

    def __init__(self, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board,
                 messages: Connection, checkpoints: Path):  # fmt: skip
        self._config, self._environment, self._store, self._board = config, environment, store, board
        self._messages, self._checkpoints = messages, checkpoints
        self._target = environment.target(config.evaluation.target_return)
        self._evaluations = 0
        self._cpu_seconds = 0.0  # spent on them
        self._best: Judged | None = None
        self._best_saved = False

    def watch(self) -> None:
        """Evaluate at every interval of env steps; end with both checkpoints on disk."""
        self._model = build(self._config, self._environment)
        self._parameters = torch.zeros(flat_size(self._model))
        bind(self._model, self._parameters)
        self._network = ClosedForm(self._model)
        due, saved, solved = 0, time.monotonic(), False
        while not solved and (request := self._board.requested()) == RUN:
            snapshot = self._store.due_snapshot(due) if self._store.queues or self._affordable() else None
            if snapshot is None:
                time.sleep(POLL_SECONDS)
            else:
                due = snapshot.env_steps + self._config.evaluation.eval_interval
                solved = self._judge(snapshot)
            if not solved and time.monotonic() - saved > self._config.evaluation.checkpoint_interval:
                self._save(latest=self._store.snapshot())
                saved = time.monotonic()
        if not solved and request == FINISH:
            solved = any(self._judge(snapshot) for snapshot in self._store.last_snapshots())
        if solved and self._best is not None:
            self._save(latest=self._best.snapshot)
            self._messages.send(("solved", self._best.evaluation))
        else:
            self._save(latest=self._store.snapshot())

    def _affordable(self) -> bool:
        """Whether another evaluation keeps to its share of the CPU; the first second is free, for short runs."""
        allowance = FREE_SECONDS + self._config.evaluation.eval_share * self._board.training_seconds(time.monotonic())
        return self._cpu_seconds < allowance

    def _judge(self, snapshot: Snapshot) -> bool:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. Whether it did both times."""
        self._parameters.copy_(snapshot.parameters)
        evaluation = self._evaluate(snapshot, verification=False)
        reached = evaluation is not None and self._reaches_target(evaluation)
        if reached:  # a lucky evaluation is not a solution, and its mean not the one to remember
            evaluation = self._evaluate(snapshot, verification=True)
        if evaluation is None:
            return False
        solved = reached and self._reaches_target(evaluation)
        if solved:
            self._board.request(MONITOR, STOP)
        if solved or self._best is None or evaluation.mean > self._best.evaluation.mean:
            self._best, self._best_saved = Judged(snapshot, evaluation), False
            self._messages.send(("best", evaluation))
        return solved

    def _reaches_target(self, evaluation: Evaluation) -> bool:
        return self._target is not None and evaluation.mean >= self._target

    def _evaluate(self, snapshot: Snapshot, verification: bool) -> Evaluation | None:
        seed = evaluation_seed(self._config.seed, self._evaluations)
        self._evaluations += 1
        episodes = self._config.evaluation.eval_episodes
        cpu_before = time.process_time()
        result = evaluate(self._network.policy_logits, self._environment, episodes, seed, self._cancelled)
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
        self._messages.send(("evaluated", evaluation))
        return evaluation

    def _cancelled(self) -> bool:
        return self._board.requested() == STOP

    def _save(self, latest: Snapshot) -> None:
        """Put the best snapshot, where it is not there yet, and the latest one on disk."""
        if self._best is not None and not self._best_saved:
            self._write("best", *self._best)
            self._best_saved = True
        self._write("latest", latest, None)

    def _write(self, name: str, snapshot: Snapshot, evaluation: Evaluation | None) -> None:
        self._parameters.copy_(snapshot.parameters)
        facts = {
            "env_id": self._environment.env_id,
            "max_episode_steps": self._environment.max_episode_steps,
            "target_return": self._target,
            "seed": self._config.seed,
            "env_steps": snapshot.env_steps,
            "updates": snapshot.updates,
            "consistent": snapshot.consistent,
            "evaluation": dataclasses.asdict(evaluation) if evaluation else None,
        }
        try:
            save_checkpoint(self._checkpoints, name, self._model, facts)
        except OSError as error:
            raise border.DiskError(f"{self._checkpoints / name}: cannot be written: {error.strerror}") from error
        self._messages.send(("checkpointed", name))


def evaluation_seed(seed: int, index: int) -> int:
    """The seed of a run's evaluation number `index`: fresh for each, and never a training seed."""
    return int(np.random.SeedSequence([seed, 2**32 - 1, index]).generate_state(1)[0])
