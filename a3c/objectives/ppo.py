"""Proximal policy optimisation."""

import numpy as np
import torch
from torch import Tensor

from a3c.config import LossConfig
from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Targets
from a3c.rollouts import Rollout


class PPO(A2C):
    """The clipped surrogate of proximal policy optimisation (Schulman et al. 2017, equation 7), with ratio
    rho_t = pi(a_t|s_t) / mu(a_t|s_t) to the policy mu that acted; its value loss may be clipped likewise.

    -log pi(a_t|s_t) * A_t becomes -min(rho_t * A_t, clip(rho_t, 1 - clip, 1 + clip) * A_t), and several passes are made
    over a rollout, in minibatches of another random order each.
    """

    def __init__(self, config: LossConfig):
        super().__init__(config)
        self.passes, self.minibatches = config.passes, config.minibatches

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        targets = super().targets(rollout, values, unit)
        known = log_prob if acted is None else acted
        known = rollout.behavior_log_probs if known is None else known
        return targets._replace(log_prob=known, values=values[:-1].copy())

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
