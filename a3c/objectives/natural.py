"""The natural policy gradient, by compatible features."""

import numpy as np

from a3c.config import LossConfig
from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Targets


class NaturalA2C(A2C):
    """A2C whose actor's gradient is preconditioned by the Fisher matrix (Kakade 2002; Peters and Schaal 2008).

    The scores psi_t = d log pi(a_t|s_t) / dtheta are the compatible features, and the least-squares fit of the
    advantages on them *is* the natural gradient: w = (Psi^T Psi / N + damping)^-1 Psi^T A / N, with Psi [N, P]. By the
    push-through identity that is Psi^T A' / N, the ordinary policy gradient of other advantages,

        A' = (K / N + damping)^-1 A,   K = Psi Psi^T   [N, N]

    so that no matrix of P x P is ever made. A step of `learning_rate` along w changes the policy by about
    KL = learning_rate^2 / 2 * |K A' / N|^2 / N; where that exceeds `kl_bound` the step is shortened to it. The critic
    and the entropy bonus are A2C's own.
    """

    preconditions = True

    def __init__(self, config: LossConfig, learning_rate: float = 1.0):
        super().__init__(config)
        self._learning_rate = learning_rate  # the largest

    def preconditioned(self, targets: Targets, gram: Array) -> Targets:
        """Targets [N] whose advantages are A', given K [N, N]."""
        config, valid = self._config, targets.valid
        count = max(float(valid.sum()), 1.0)
        kernel = (gram * valid[:, None] * valid).astype(np.float64) / count
        advantages = targets.advantages.astype(np.float64) * valid
        kernel.flat[:: len(kernel) + 1] += config.damping
        fitted = np.linalg.solve(kernel, advantages)
        change = kernel.dot(fitted) - config.damping * fitted  # of log pi(a_t|s_t) along w
        divergence = self._learning_rate**2 / 2 * float(change.dot(change)) / count
        shorter = min(1.0, np.sqrt(config.kl_bound / max(divergence, 1e-300)))
        return targets._replace(advantages=(shorter * fitted).astype(np.float32))
