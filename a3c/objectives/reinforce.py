"""REINFORCE: the policy gradient of whole episodes."""

import numpy as np

from a3c.config import LossConfig
from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Targets
from a3c.objectives.returns import lambda_returns
from a3c.rollouts import Rollout


class Reinforce(A2C):
    """The Monte Carlo policy gradient (Williams 1992; Sutton and Barto 2018, section 13.3 and, with baseline, 13.4).

    A_t = G_t, or G_t - V(s_t) with a baseline, where G_t = sum_k gamma^k r_{t+k} goes to the episode's end, nothing is
    bootstrapped, and the rest is A2C's loss. Where a time limit has cut an episode its return ends there. As nearly
    everywhere, the factor gamma^t before each term is left out.
    """

    whole_episodes = True

    def __init__(self, config: LossConfig):
        super().__init__(config)
        self._has_baseline = config.baseline

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        discounts = np.float32(self._config.gamma) * (~(rollout.terminated | rollout.truncated)).astype(np.float32)
        nothing = np.zeros_like(values)
        returns = lambda_returns(rollout.rewards, discounts, np.ones_like(discounts), nothing)
        baseline = values[:-1] if self._has_baseline else nothing[:-1]
        return self._scaled(returns, returns - baseline, rollout.valid.astype(np.float32), unit)

    def _value_weight(self) -> float:
        return self._config.value_coef if self._has_baseline else 0.0
