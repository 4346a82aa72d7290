"""Advantage actor-critic."""

import numpy as np
from torch import Tensor

from a3c.config import LossConfig
from a3c.objectives.objective import Array, Derivative, LossTerms, Targets
from a3c.objectives.returns import lambda_returns, normalize
from a3c.rollouts import Rollout


class A2C:
    """Policy gradient, value regression and entropy bonus (Mnih et al. 2016, section 4; means instead of sums).

    L = mean_t[ -log pi(a_t|s_t) * A_t ]
        + value_coef * mean_t[ 1/2 * ((G_t - V(s_t)) / unit)^2 ]
        - entropy_coef * mean_t[ H(pi(.|s_t)) ]

    Where the unit is the spread of the returns, rather than a number that the user has chosen, A_t is in it too.
    """

    passes = minibatches = 1
    whole_episodes = corrects = preconditions = False

    def __init__(self, config: LossConfig):
        self._config = config

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        discounts, lambdas = self._discounts(rollout)
        returns = lambda_returns(rollout.rewards, discounts, lambdas, values)
        return self._scaled(returns, returns - values[:-1], rollout.valid.astype(np.float32), unit)

    def _discounts(self, rollout: Rollout) -> tuple[Array, Array]:
        """The discount and the lambda of every step, [T, B] each."""
        discounts = np.float32(self._config.gamma) * (~rollout.terminated).astype(np.float32)
        return discounts, np.float32(self._config.gae_lambda) * (~rollout.truncated).astype(np.float32)

    def _scaled(self, returns: Array, advantages: Array, valid: Array, unit: float) -> Targets:
        """Targets with advantages in the unit in which the policy learns."""
        if self._config.normalize_advantages:
            advantages = normalize(advantages, valid)
        elif self._config.value_scale is None:
            advantages = advantages / np.float32(unit)
        return Targets(returns, advantages, valid, unit)

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        returns, valid = values.new_tensor(targets.returns), values.new_tensor(targets.valid)
        assert log_prob.shape == entropy.shape == values.shape == returns.shape
        count = valid.sum().clamp(min=1)
        policy_loss = (self._policy_loss(log_prob, targets) * valid).sum() / count
        value_loss = 0.5 * (self._squared_error(values, returns, targets) * valid).sum() / count
        mean_entropy = (entropy * valid).sum() / count
        loss = policy_loss + self._value_weight() * value_loss - self._config.entropy_coef * mean_entropy
        return loss, LossTerms(policy_loss.item(), value_loss.item(), mean_entropy.item())

    def _policy_loss(self, log_prob: Tensor, targets: Targets) -> Tensor:
        return -log_prob * log_prob.new_tensor(targets.advantages)

    def _squared_error(self, values: Tensor, returns: Tensor, targets: Targets) -> Tensor:
        return ((values - returns) / targets.unit).square()

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        config = self._config
        weight = targets.valid / max(np.add.reduce(targets.valid), 1)
        policy_loss, d_log_prob = self._policy_derivative(log_prob, weight, targets)
        d_entropy = np.float32(-config.entropy_coef) * weight
        value_loss, weighted_error = self._value_derivative(values, weight, targets)
        terms = LossTerms(policy_loss, value_loss, float(entropy.dot(weight)))
        d_values = weighted_error * np.float32(self._value_weight() / targets.unit)
        return terms, Derivative(d_log_prob, d_entropy, d_values)

    def _value_weight(self) -> float:
        return self._config.value_coef

    def _policy_derivative(self, log_prob: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        d_log_prob = -(targets.advantages * weight)
        return float(log_prob.dot(d_log_prob)), d_log_prob

    def _value_derivative(self, values: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        """The value loss, and its derivative by the values in units."""
        error = (values - targets.returns) * np.float32(1 / targets.unit)
        weighted_error = error * weight
        return 0.5 * float(error.dot(weighted_error)), weighted_error
