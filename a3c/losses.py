"""The actor-critic loss, as torch differentiates it.

`a3c.closed_form` holds the derivative of the same loss written out by hand; a test keeps the two together.
"""

from typing import NamedTuple

from torch import Tensor

from a3c.config import LossConfig


class LossTerms(NamedTuple):
    """The three parts of the loss, each a mean over the valid steps, before their coefficients."""

    policy_loss: float
    value_loss: float
    entropy: float  # nats


def actor_critic_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    advantages: Tensor,
    returns: Tensor,
    valid: Tensor,
    config: LossConfig,
) -> tuple[Tensor, LossTerms]:
    """Policy gradient, value regression and entropy bonus of one rollout.

    L = mean_t[ -log pi(a_t|s_t) * A_t ]
        + value_coef * mean_t[ 1/2 * ((G_t - V(s_t)) / value_scale)^2 ]
        - entropy_coef * mean_t[ H(pi(.|s_t)) ]            (Mnih et al. 2016, section 4; means instead of sums)

    The advantage A_t and the target G_t are constants: no gradient flows through them.

    Args:
        logits: [T, B, A]; values, advantages, returns: [T, B]; actions: [T, B], int64.
        valid: [T, B], 1 where the step counts and 0 at autoreset transitions.
    """
    assert values.shape == actions.shape == advantages.shape == returns.shape == valid.shape == logits.shape[:-1]
    count = valid.sum().clamp(min=1)
    log_probs = logits.log_softmax(-1)  # [T, B, A]
    chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # [T, B]
    policy_loss = -(chosen * advantages * valid).sum() / count
    value_loss = 0.5 * (((values - returns) / config.value_scale).square() * valid).sum() / count
    entropy = -((log_probs.exp() * log_probs).sum(-1) * valid).sum() / count
    loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    return loss, LossTerms(policy_loss.item(), value_loss.item(), entropy.item())
