"""Action-value learning: one-step Q, one-step Sarsa and n-step Q (Mnih et al. 2016, Algorithms S1, S2)."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from a3c.config import LossConfig
from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Derivative, LossTerms, Targets
from a3c.objectives.returns import lambda_returns
from a3c.rollouts import Rollout


class NStepQ(A2C):
    """L = mean_t[ 1/2 * ((G_t - Q(s_t, a_t)) / unit)^2 ],   G_t = r_t + gamma * r_{t+1} + ... + gamma^k * V'(s_{t+k}).

    V'(s) = max_a Q'(s, a) by the target network Q', where the episode or the rollout ends. The learner hands `values`
    V' over, and Q and Q' of the actions in the place of log-probabilities, both in units (a3c.action_values).
    """

    gae_lambda = 1.0

    def __init__(self, config: LossConfig):
        super().__init__(replace(config, gae_lambda=self.gae_lambda))

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        returns = lambda_returns(rollout.rewards, *self._discounts(rollout), values)
        return Targets(returns, np.zeros_like(returns), rollout.valid.astype(np.float32), unit)

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        returns, valid = log_prob.new_tensor(targets.returns / targets.unit), log_prob.new_tensor(targets.valid)
        loss = 0.5 * ((log_prob - returns).square() * valid).sum() / valid.sum().clamp(min=1)
        return loss, LossTerms(0.0, loss.item(), 0.0)

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        weight = targets.valid / max(np.add.reduce(targets.valid), 1)
        error = log_prob - targets.returns * np.float32(1 / targets.unit)
        weighted, nothing = error * weight, np.zeros_like(weight)
        return LossTerms(0.0, 0.5 * float(error.dot(weighted)), 0.0), Derivative(weighted, nothing, nothing)


class OneStepQ(NStepQ):
    """The same with k = 1: G_t = r_t + gamma * max_a Q'(s_{t+1}, a)."""

    gae_lambda = 0.0


class OneStepSarsa(OneStepQ):
    """G_t = r_t + gamma * Q'(s_{t+1}, a_{t+1}), of the action that was taken there.

    What follows a rollout's last step is not known yet: that step is left out, unless the episode has ended with it.
    """

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        assert log_prob is not None
        taken = np.concatenate((log_prob * np.float32(unit), values[-1:]))
        targets = super().targets(rollout, taken, unit)
        targets.valid[-1] *= rollout.terminated[-1]
        return targets
