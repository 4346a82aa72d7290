"""Networks and learners of any size, for the tests beside this file."""

from typing import Any

from a3c.config import Config, LossConfig, NetworkConfig
from a3c.heads import Categorical
from a3c.learners import Learner, RolloutStatistics, learner_for
from a3c.networks import ActorCritic
from a3c.rollouts import Rollout, Stopwatch
from a3c.trunks import MLP, ObservationSpec

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
    return learner_for(network, config, watch or Stopwatch())


def learn(learner: Learner, rollout: Rollout) -> RolloutStatistics:
    """The gradient of one rollout, which the learner has acted in."""
    (statistics,) = learner.gradients(rollout)
    return statistics
