"""Proximal policy optimisation whose proximal policy is not the one that acted."""

import numpy as np
from torch import Tensor

from a3c.objectives.objective import Array, Targets
from a3c.objectives.ppo import PPO
from a3c.rollouts import Rollout


class DecoupledPPO(PPO):
    """The decoupled clipped surrogate (Hilton, Cobbe and Schulman 2022, equation 3).

    With the policy mu that acted and the policy p that is pulled once the rollout is there, each step's clipped
    surrogate is of the ratio pi / p, and is multiplied by p(a_t|s_t) / mu(a_t|s_t). So the policy is kept near one that
    is recent, whatever has acted. Where p is mu this is PPO, bit for bit. The weight is clipped at `rho_clip`.
    """

    corrects = True

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        targets = super().targets(rollout, values, unit, log_prob)
        if log_prob is None or acted is None:
            return targets._replace(weights=np.ones_like(rollout.rewards))
        return targets._replace(weights=np.minimum(np.exp(log_prob - acted), np.float32(self._config.rho_clip)))

    def _policy_loss(self, log_prob: Tensor, targets: Targets) -> Tensor:
        return super()._policy_loss(log_prob, targets) * log_prob.new_tensor(targets.weights)

    def _policy_derivative(self, log_prob: Array, weight: Array, targets: Targets) -> tuple[float, Array]:
        assert targets.weights is not None
        return super()._policy_derivative(log_prob, weight * targets.weights, targets)
