"""Networks and learners of any size, for the tests beside this file."""

import functools
from typing import Any

import numpy as np

from a3c.config import Config, LossConfig, NetworkConfig
from a3c.heads import Categorical
from a3c.learners import Learner, RolloutStatistics, learner_for
from a3c.networks import ActorCritic
from a3c.rollouts import Rollout, Stopwatch
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP

# The loss that most of these tests are about; its numbers are those of CartPole-v1's preset.
a2c_loss = functools.partial(
    LossConfig, objective="a2c", gamma=0.97, gae_lambda=0.98, entropy_coef=0.01, value_scale=20.0
)
GRADIENTS = ("closed-form", "autograd")


def mlp(
    observations: int, actions: int, hidden_sizes: Any = (8,), value_scale: float = 1.0, action_start: int = 0
) -> ActorCritic:
    """An MLP over a vector, with a categorical head."""
    trunk = MLP(ObservationSpec((observations,)), hidden_sizes)
    return ActorCritic(trunk, Categorical(actions, action_start), value_scale)


def learner_of(
    network: ActorCritic, gradients: str, n_steps: int, count: int, loss: LossConfig, watch: Stopwatch | None = None
) -> Learner:
    """The learner that a run would have."""
    options = NetworkConfig(gradients=gradients)
    config = Config(n_steps=n_steps, envs_per_worker=count, loss=loss, network=options)
    return learner_for(network, config, watch or Stopwatch(), np.random.default_rng(0))


def learn(learner: Learner, rollout: Rollout) -> RolloutStatistics:
    """The gradient of one rollout, which the learner has acted in."""
    (rows,) = learner.prepare(rollout)
    return learner.gradient(rows)
