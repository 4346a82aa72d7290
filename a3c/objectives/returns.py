"""Returns of a rollout, and what is done to advantages."""

import numpy as np

from a3c.objectives.objective import Array


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
