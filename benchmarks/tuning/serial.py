"""A run of one worker inside this process: after how many env steps it is solved, and nothing else.

The number is the one that `train(workers=1)` reports: the worker's loop, its store and the evaluations' seeds are those
of a run. Processes, files and the monitor are left out, and an evaluation ends as soon as it cannot reach the target.
"""

from typing import Any

import numpy as np
from torch import Tensor

from a3c.actors import actor_for
from a3c.config import Config
from a3c.environments import EnvironmentSpec, describe
from a3c.networks import bind, build, flat_zeros, initialize
from shared.scoreboard import FINISH, Scoreboard
from shared.store import Pulled, Snapshot
from shared.sync_store import SyncStore
from workers.actor_learner import learn
from workers.link import SharedMemoryLink
from workers.monitor import evaluation_seed
from workers.runs.evaluations import Progress
from workers.training import build_optimizer


def env_steps_until_solved(options: dict[str, Any]) -> int | None:
    """Env steps of a run of one worker until it is solved and verified; None where its budget was not enough.

    Args:
        options: of the run, by name; `env` is one whose every step is rewarded with 1, as CartPole's are.
    """
    config = Config.from_options(options)
    environment = describe(config.env)
    scoreboard, judge = Scoreboard(workers=1), Judge(config, environment)
    store = JudgedStore(judge, scoreboard)
    with np.errstate():  # the loop sets its own, for the whole process
        learn(0, config, environment, SharedMemoryLink(0, store, scoreboard))
    store.judge_queue()
    judge.see(store.snapshot())
    return judge.solved_env_steps


class Judge:
    """Decides which snapshot is the first that is solved, as the monitor does."""

    def __init__(self, config: Config, environment: EnvironmentSpec):
        target, limit = environment.target(config.evaluation.target_return), environment.max_episode_steps
        assert target is not None and limit is not None
        self._target, self._limit = target, limit
        self.config, self.environment = config, environment
        self.solved_env_steps: int | None = None
        self._evaluations = Progress().evaluations
        self._seen = -1
        self._environments = environment.make(config.evaluation.eval_episodes)
        model = build(config, environment)
        self._parameters = flat_zeros(model)
        bind(model, self._parameters)
        self._greedy = actor_for(model).greedy

    def see(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot reaches the target twice, with fresh seeds; nothing is asked once one has."""
        if self.solved_env_steps is None and snapshot.updates != self._seen:
            self._seen = snapshot.updates
            self._parameters.copy_(snapshot.parameters)
            if self._reaches_target() and self._reaches_target():
                self.solved_env_steps = snapshot.env_steps
        return self.solved_env_steps is not None

    def _reaches_target(self) -> bool:
        """Whether the mean return of greedy episodes does; an episode that ends at step t loses what is left to it."""
        seed = evaluation_seed(self.config.seed, self._evaluations)
        self._evaluations += 1
        observations, _ = self._environments.reset(seed=seed)
        alive = np.ones(len(observations), np.bool_)
        steps_to_lose = len(observations) * (self._limit - self._target)
        for step in range(1, self._limit):
            observations, _, terminated, _, _ = self._environments.step(self._greedy(observations))
            steps_to_lose -= int(np.count_nonzero(terminated & alive)) * (self._limit - step)
            if steps_to_lose < 0:
                return False
            alive &= ~terminated
        return True


class JudgedStore(SyncStore):
    """The store of a run of one worker, whose pushes have the due snapshots judged."""

    def __init__(self, judge: Judge, scoreboard: Scoreboard):
        config, environment = judge.config, judge.environment
        model = build(config, environment)
        initialize(model, config.seed)
        initial = flat_zeros(model)
        bind(model, initial)
        optimizer = build_optimizer(config.optimizer, len(initial))
        super().__init__(initial, optimizer, scoreboard, config.evaluation.eval_interval)
        self._judge = judge

    def push(
        self, worker_index: int, gradient: Tensor, learning_rate: float, env_steps: int, pulled: Pulled
    ) -> int | None:
        """As `SyncStore.push`; the run ends where a snapshot is solved."""
        staleness = super().push(worker_index, gradient, learning_rate, env_steps, pulled)
        self.judge_queue()
        return staleness

    def judge_queue(self) -> None:
        """What the monitor does beside a run."""
        while (snapshot := self.next_snapshot(0)) is not None:
            self.release(int(self._released.numbers[0]) + 1)
            if self._judge.see(snapshot):
                self._scoreboard.request(FINISH)
