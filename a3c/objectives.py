"""Objectives: the return targets and the loss of a rollout. A new loss is a new class here.

An objective sees log-probabilities, entropies, values and a rollout's rewards; it knows no network and no distribution.
It states the loss for torch, and its derivative for the closed form; a test holds them together.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from a3c.config import LossConfig
from a3c.rollouts import Rollout

Array = NDArray[np.float32]


class Targets(NamedTuple):
    """What the loss regards as constant; no gradient flows through it. [T, B] each, or flattened to [N]."""

    returns: Array
    advantages: Array
    valid: Array  # 1 where the step counts, 0 at autoreset transitions

    def flat(self) -> "Targets":
        """The same, [N] each."""
        return Targets(self.returns.reshape(-1), self.advantages.reshape(-1), self.valid.reshape(-1))


class LossTerms(NamedTuple):
    """The three parts of the loss, each a mean over the valid steps, before their coefficients."""

    policy_loss: float
    value_loss: float
    entropy: float  # nats


class Derivative(NamedTuple):
    """dL by each input of the loss, [N]."""

    log_prob: Array
    entropy: Array
    values: Array


class Objective(Protocol):
    """What a learner minimises."""

    def targets(self, rollout: Rollout, values: Array) -> Targets:
        """What the loss of a rollout regards as constant, given V(s_0) ... V(s_T), [T + 1, B]."""

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        """The loss of T steps of B environments, [T, B] each, for autograd."""

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        """The same loss and its derivative, [N] each."""


class A2C:
    """Policy gradient, value regression and entropy bonus (Mnih et al. 2016, section 4; means instead of sums).

    L = mean_t[ -log pi(a_t|s_t) * A_t ]
        + value_coef * mean_t[ 1/2 * ((G_t - V(s_t)) / value_scale)^2 ]
        - entropy_coef * mean_t[ H(pi(.|s_t)) ]
    """

    def __init__(self, config: LossConfig):
        self._config = config

    def targets(self, rollout: Rollout, values: Array) -> Targets:
        config = self._config
        discounts = np.float32(config.gamma) * (~rollout.terminated).astype(np.float32)
        lambdas = np.float32(config.gae_lambda) * (~rollout.truncated).astype(np.float32)
        returns, valid = lambda_returns(rollout.rewards, discounts, lambdas, values), rollout.valid.astype(np.float32)
        advantages = returns - values[:-1]
        return Targets(returns, normalize(advantages, valid) if config.normalize_advantages else advantages, valid)

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        returns, advantages, valid = map(values.new_tensor, targets)
        assert log_prob.shape == entropy.shape == values.shape == returns.shape
        count = valid.sum().clamp(min=1)
        policy_loss = -(log_prob * advantages * valid).sum() / count
        value_loss = 0.5 * (((values - returns) / self._config.value_scale).square() * valid).sum() / count
        mean_entropy = (entropy * valid).sum() / count
        loss = policy_loss + self._config.value_coef * value_loss - self._config.entropy_coef * mean_entropy
        return loss, LossTerms(policy_loss.item(), value_loss.item(), mean_entropy.item())

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        config = self._config
        returns, advantages, valid = targets
        weight = valid / max(np.add.reduce(valid), 1)
        d_log_prob, d_entropy = -(advantages * weight), np.float32(-config.entropy_coef) * weight
        error = (values - returns) * np.float32(1 / config.value_scale)
        weighted_error = error * weight
        policy_loss, value_loss = float(log_prob.dot(d_log_prob)), 0.5 * float(error.dot(weighted_error))
        terms = LossTerms(policy_loss, value_loss, float(entropy.dot(weight)))
        d_values = weighted_error * np.float32(config.value_coef / config.value_scale)
        return terms, Derivative(d_log_prob, d_entropy, d_values)


def lambda_returns(rewards: Array, discounts: Array, lambdas: Array, values: Array) -> Array:
    """Discounted lambda-returns with a discount and a lambda of its own for every step.

    G_t = r_t + discount_t * ((1 - lambda_t) * V(s_{t+1}) + lambda_t * G_{t+1}),   G_T = V(s_T)

    (Sutton and Barto 2018, equation 12.18 with 12.24's step-wise parameters.) Two special cases have names: with every
    lambda at 1 this is the n-step return bootstrapped after the last step (Mnih et al. 2016, Algorithm S3), and
    G_t - V(s_t) is the generalised advantage estimate GAE(lambda) (Schulman et al. 2016, equation 16).

    `discount_t` is 0 where step t *terminated*, so that nothing follows it; `lambda_t` is 0 where step t was
    *truncated*, so that the return takes V(s_{t+1}) of the true final observation and nothing of the next episode.

    Args:
        rewards, discounts, lambdas: [T, B].
        values: [T + 1, B], V(s_0) ... V(s_T); the last row is the bootstrap value.
    Returns: [T, B].
    """
    assert rewards.shape == discounts.shape == lambdas.shape and values.shape[0] == rewards.shape[0] + 1
    carry = discounts * lambdas  # [T, B]
    returns = rewards.copy()
    returns += (discounts - carry) * values[1:]  # so far the parts that follow one step
    following = values[-1]
    for one_step, carried in zip(returns[::-1], carry[::-1], strict=True):
        one_step += carried * following
        following = one_step
    return returns


def normalize(advantages: Array, valid: Array) -> Array:
    """Advantages scaled to mean 0 and standard deviation 1 over the valid steps (Andrychowicz et al. 2021, C67).

    [T, B] each; `valid` is 1 where the step counts, else 0.
    """
    count = max(valid.sum(), 1)
    centred = (advantages - (advantages * valid).sum() / count) * valid
    deviation = np.sqrt(np.square(centred).sum() / count)
    normalized: Array = centred / (deviation + np.float32(1e-8))
    return normalized
