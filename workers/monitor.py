"""The monitor: evaluates snapshots of the shared policy, keeps the checkpoints, and decides when it is solved."""

import dataclasses
import math
import time
from multiprocessing.connection import Connection
from pathlib import Path

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
        self._best: Evaluation | None = None
        self._unsaved: tuple[Snapshot, Evaluation] | None = None  # better than the best on disk

    def watch(self) -> None:
        """Evaluate at every interval of env steps; end with both checkpoints on disk."""
        self._model = build(self._config, self._environment)
        self._parameters = torch.zeros(flat_size(self._model))
        bind(self._model, self._parameters)
        self._network = ClosedForm(self._model)
        due, saved, solved = 0, time.monotonic(), False
        while not solved and (request := self._board.requested()) == RUN:
            env_steps = self._board.env_steps()
            if env_steps >= due and self._affordable():
                due = env_steps + self._config.evaluation.eval_interval
                solved = self._judge()
            else:
                time.sleep(POLL_SECONDS)
            if not solved and time.monotonic() - saved > self._config.evaluation.checkpoint_interval:
                self._save()
                saved = time.monotonic()
        if not solved and request == FINISH:
            solved = self._judge()
        self._save()
        if solved:
            self._messages.send(("solved", self._best))

    def _affordable(self) -> bool:
        """Whether another evaluation keeps to its share of the CPU; the first second is free, for short runs."""
        allowance = FREE_SECONDS + self._config.evaluation.eval_share * self._board.training_seconds(time.monotonic())
        return self._cpu_seconds < allowance

    def _judge(self) -> bool:
        """Evaluate a snapshot; where it reaches the target, again with fresh seeds. Whether it did both times."""
        env_steps, seconds = self._board.env_steps(), self._board.training_seconds(time.monotonic())
        snapshot = self._store.snapshot()
        self._parameters.copy_(snapshot.parameters)
        evaluation = self._evaluate(snapshot, env_steps, seconds, verification=False)
        reached = evaluation is not None and self._reaches_target(evaluation)
        if reached:  # a lucky evaluation is not a solution, and its mean not the one to remember
            evaluation = self._evaluate(snapshot, env_steps, seconds, verification=True)
        if evaluation is None:
            return False
        solved = reached and self._reaches_target(evaluation)
        if solved:
            self._board.request(MONITOR, STOP)
        if solved or self._best is None or evaluation.mean > self._best.mean:
            self._best, self._unsaved = evaluation, (snapshot, evaluation)
            self._messages.send(("best", evaluation))
        return solved

    def _reaches_target(self, evaluation: Evaluation) -> bool:
        return self._target is not None and evaluation.mean >= self._target

    def _evaluate(self, snapshot: Snapshot, env_steps: int, seconds: float, verification: bool) -> Evaluation | None:
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
            env_steps, snapshot.updates, seconds, episodes, **statistics, seed=seed, verification=verification
        )
        self._messages.send(("evaluated", evaluation))
        return evaluation

    def _cancelled(self) -> bool:
        return self._board.requested() == STOP

    def _save(self) -> None:
        """Put the best snapshot not yet saved and the latest parameters on disk."""
        if self._unsaved is not None:
            self._write("best", *self._unsaved)
            self._unsaved = None
        self._write("latest", self._store.snapshot(), None)

    def _write(self, name: str, snapshot: Snapshot, evaluation: Evaluation | None) -> None:
        self._parameters.copy_(snapshot.parameters)
        facts = {
            "env_id": self._environment.env_id,
            "max_episode_steps": self._environment.max_episode_steps,
            "target_return": self._target,
            "seed": self._config.seed,
            "env_steps": evaluation.env_steps if evaluation else self._board.env_steps(),
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
