"""Objectives: the return targets and the loss of a rollout. A new loss is a new class here.

An objective sees log-probabilities, entropies, values and a rollout's rewards; it knows no network and no distribution.
It states the loss for torch, and its derivative for the closed form; a test holds them together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
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
    unit: float  # of the value
    log_prob: Array | None = None  # of the policy that acted, where the objective has a use for it
    values: Array | None = None  # V(s) when the targets were computed, likewise

    def flat(self) -> "Targets":
        """The same, [N] each."""
        return self._each(lambda part: part.reshape(-1))

    def take(self, rows: NDArray[np.int64]) -> "Targets":
        """Those of some steps, [M] each."""
        return self._each(lambda part: part[rows])

    def _each(self, change: Callable[[Array], Array]) -> "Targets":
        arrays: Any = {name: change(part) for name, part in self._asdict().items() if isinstance(part, np.ndarray)}
        return self._replace(**arrays)


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
    """What a learner minimises, in so many passes over a rollout, each in so many minibatches."""

    passes: int
    minibatches: int

    def targets(self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None) -> Targets:
        """What the loss of a rollout regards as constant.

        Args:
            values: V(s_0) ... V(s_T), [T + 1, B].
            unit: of the value.
            log_prob: of the policy that acted, [T, B], where it is known.
        """

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        """The loss of N steps, [N] each, for autograd."""

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        """The same loss and its derivative, [N] each."""


class A2C:
    """Policy gradient, value regression and entropy bonus (Mnih et al. 2016, section 4; means instead of sums).

    L = mean_t[ -log pi(a_t|s_t) * A_t ]
        + value_coef * mean_t[ 1/2 * ((G_t - V(s_t)) / unit)^2 ]
        - entropy_coef * mean_t[ H(pi(.|s_t)) ]

    Where the unit is the spread of the returns, rather than a number that the user has chosen, A_t is in it too.
    """

    passes = minibatches = 1

    def __init__(self, config: LossConfig):
        self._config = config

    def targets(self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None) -> Targets:
        config = self._config
        discounts = np.float32(config.gamma) * (~rollout.terminated).astype(np.float32)
        lambdas = np.float32(config.gae_lambda) * (~rollout.truncated).astype(np.float32)
        returns, valid = lambda_returns(rollout.rewards, discounts, lambdas, values), rollout.valid.astype(np.float32)
        advantages = returns - values[:-1]
        if config.normalize_advantages:
            advantages = normalize(advantages, valid)
        elif config.value_scale is None:
            advantages = advantages / np.float32(unit)
        return Targets(returns, advantages, valid, unit)

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        returns, valid = values.new_tensor(targets.returns), values.new_tensor(targets.valid)
        assert log_prob.shape == entropy.shape == values.shape == returns.shape
        count = valid.sum().clamp(min=1)
        policy_loss = (self._policy_loss(log_prob, targets) * valid).sum() / count
        value_loss = 0.5 * (self._squared_error(values, returns, targets) * valid).sum() / count
        mean_entropy = (entropy * valid).sum() / count
        loss = policy_loss + self._config.value_coef * value_loss - self._config.entropy_coef * mean_entropy
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
        d_values = weighted_error * np.float32(config.value_coef / targets.unit)
        return terms, Derivative(d_log_prob, d_entropy, d_values)

    def _policy_derivative(self, log_prob: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        d_log_prob = -(targets.advantages * weight)
        return float(log_prob.dot(d_log_prob)), d_log_prob

    def _value_derivative(self, values: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        """The value loss, and its derivative by the values in units."""
        error = (values - targets.returns) * np.float32(1 / targets.unit)
        weighted_error = error * weight
        return 0.5 * float(error.dot(weighted_error)), weighted_error


class PPO(A2C):
    """The clipped surrogate of proximal policy optimisation (Schulman et al. 2017, equation 7), with ratio
    rho_t = pi(a_t|s_t) / mu(a_t|s_t) to the policy mu that acted; its value loss may be clipped likewise.

    -log pi(a_t|s_t) * A_t becomes -min(rho_t * A_t, clip(rho_t, 1 - clip, 1 + clip) * A_t), and several passes are made
    over a rollout, in minibatches of another random order each.
    """

    def __init__(self, config: LossConfig):
        super().__init__(config)
        self.passes, self.minibatches = config.passes, config.minibatches

    def targets(self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None) -> Targets:
        targets = super().targets(rollout, values, unit)
        acted = rollout.behavior_log_probs if log_prob is None else log_prob
        return targets._replace(log_prob=acted, values=values[:-1].copy())

    def _policy_loss(self, log_prob: Tensor, targets: Targets) -> Tensor:
        advantages, acted = log_prob.new_tensor(targets.advantages), log_prob.new_tensor(targets.log_prob)
        ratio, clip = torch.exp(log_prob - acted), self._config.clip
        return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)

    def _policy_derivative(self, log_prob: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        clip, advantages = np.float32(self._config.clip), targets.advantages
        assert targets.log_prob is not None
        ratio: Array = np.exp(log_prob - targets.log_prob)
        clipped = np.clip(ratio, 1 - clip, 1 + clip)
        free = ratio * advantages <= clipped * advantages
        policy_loss = -float((np.where(free, ratio, clipped) * advantages).dot(weight))
        return policy_loss, -(np.where(free, ratio, np.float32(0)) * advantages * weight)

    def _squared_error(self, values: Tensor, returns: Tensor, targets: Targets) -> Tensor:
        error, clip = super()._squared_error(values, returns, targets), self._config.value_clip
        if clip is None:
            return error
        before = values.new_tensor(targets.values)
        near = before + (values - before).clamp(-clip * targets.unit, clip * targets.unit)
        return torch.maximum(error, super()._squared_error(near, returns, targets))

    def _value_derivative(self, values: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        if self._config.value_clip is None:
            return super()._value_derivative(values, weight, targets)
        error = (values - targets.returns) * np.float32(1 / targets.unit)
        assert targets.values is not None
        reach = np.float32(self._config.value_clip * targets.unit)
        near = targets.values + np.clip(values - targets.values, -reach, reach)
        clipped = (near - targets.returns) * np.float32(1 / targets.unit)
        is_free = np.abs(error) >= np.abs(clipped)
        larger = np.where(is_free, error, clipped)
        return 0.5 * float(larger.dot(larger * weight)), np.where(is_free, error * weight, np.float32(0))


OBJECTIVES: dict[str, type[A2C]] = {"a2c": A2C, "ppo": PPO}


def objective_for(config: LossConfig) -> Objective:
    """The objective of a run."""
    return OBJECTIVES[config.objective](config)


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
