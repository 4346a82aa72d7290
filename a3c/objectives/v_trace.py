"""V-trace: actor-critic on rollouts that an older policy has collected."""

import numpy as np

from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Targets
from a3c.rollouts import Rollout


class VTrace(A2C):
    """A2C's loss with importance weights, each clipped (Espeholt et al. 2018, section 4.1, with lambda as in remark 2).

    With ratio_t = pi(a_t|s_t) / mu(a_t|s_t) of the policy that learns to the one that acted,
    rho_t = min(rho_clip, ratio_t) and c_t = min(c_clip, ratio_t):

        q_t = r_t + gamma_t * (V(s_{t+1}) + lambda_t * (v_{t+1} - V(s_{t+1})))
        v_t = V(s_t) + rho_t * (r_t + gamma_t * V(s_{t+1}) - V(s_t)) + gamma_t * lambda_t * c_t * (v_{t+1} - V(s_{t+1}))
        A_t = rho_t * (q_t - V(s_t))

    v_t is what the critic learns. Where every ratio is 1 this is A2C, bit for bit: q_t and v_t are its lambda-return.
    """

    corrects = True

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        ratio = np.ones_like(rollout.rewards)  # where the policy that learns is the one that acted
        if log_prob is not None and acted is not None:
            np.exp(log_prob - acted, out=ratio)
        rho, c = (np.minimum(ratio, np.float32(clip)) for clip in (self._config.rho_clip, self._config.c_clip))
        discounts, lambdas = self._discounts(rollout)
        returns, advantages = v_trace(rollout.rewards, discounts, lambdas, values, rho, c)
        return self._scaled(returns, rho * advantages, rollout.valid.astype(np.float32), unit)


def v_trace(
    rewards: Array, discounts: Array, lambdas: Array, values: Array, rho: Array, c: Array
) -> tuple[Array, Array]:
    """The targets v_t and q_t - V(s_t), as above; [T, B] each, `values` [T + 1, B]."""
    carry = discounts * lambdas
    q = rewards.copy()
    q += (discounts - carry) * values[1:]  # so far the parts that follow one step
    v = np.empty_like(q)
    one = np.float32(1)
    following: Array = values[-1]  # v_{t+1}
    beyond: Array = np.zeros_like(following)  # v_{t+1} - V(s_{t+1})
    for t in range(len(q) - 1, -1, -1):
        q[t] += carry[t] * following
        # So written it is q_t, to the bit, where both weights are 1.
        v[t] = q[t] + (rho[t] - one) * (q[t] - values[t]) + (c[t] - rho[t]) * carry[t] * beyond
        following, beyond = v[t], v[t] - values[t]
    return v, q - values[:-1]
