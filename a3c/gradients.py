"""From a rollout to a clipped gradient."""

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.closed_form import ClosedForm, LearningPass, loss_gradients
from a3c.config import Config, LossConfig, NumericsError
from a3c.losses import LossTerms, actor_critic_loss
from a3c.moments import Moments, MomentsMeter
from a3c.networks import ActorCritic
from a3c.returns import lambda_returns, normalize
from a3c.rollouts import Rollout
from a3c.stopwatch import Stopwatch

Array = NDArray[np.float32]


class NonFiniteError(NumericsError):
    """A rollout that nothing can be learned from: some of its `what` are not finite."""

    def __init__(self, what: str):
        super().__init__(f"{what} are not finite")
        self.what = what  # observations, rewards or gradients


class Targets(NamedTuple):
    """What the loss regards as constant, [T, B] each."""

    returns: Array
    advantages: Array
    valid: Array  # 1 where the step counts, else 0


class RolloutStatistics(NamedTuple):
    """The loss and how well the critic predicted the returns."""

    terms: LossTerms
    moments: Moments

    @property
    def is_finite(self) -> bool:
        """Whether nothing has overflowed: after a huge reward a loss may be infinite where its gradient is not."""
        _, magnitude, target, _, _, error_square = self.moments
        return math.isfinite(sum(self.terms) + magnitude + sum(target) + sum(error_square))


def targets(rollout: Rollout, values: Array, config: LossConfig) -> Targets:
    """Returns and advantages of a rollout, given V(s_0) ... V(s_T), [T + 1, B]."""
    discounts = np.float32(config.gamma) * (~rollout.terminated).astype(np.float32)
    lambdas = np.float32(config.gae_lambda) * (~rollout.truncated).astype(np.float32)
    returns = lambda_returns(rollout.rewards, discounts, lambdas, values)
    advantages = returns - values[:-1]
    valid = rollout.valid.astype(np.float32)
    return Targets(returns, normalize(advantages, valid) if config.normalize_advantages else advantages, valid)


class Learner(Protocol):
    """Acts through a rollout and then writes the loss gradient of that rollout into its model's gradients."""

    def act(self, t: int, observations: Array) -> Array:
        """Logits [B, A] of step t's observations [B, O]."""

    def gradient(self, rollout: Rollout) -> RolloutStatistics:
        """Learn from the rollout of the last T steps."""


class ClosedFormLearner:
    """The gradient by `a3c.closed_form`.

    Args:
        config: n_steps, envs_per_worker and the loss.
        watch: books the phases "forward", "returns" and "backward" of `gradient`.
    """

    def __init__(self, model: ActorCritic, config: Config, watch: Stopwatch | None = None):
        self._network = LearningPass(model, config.n_steps, config.envs_per_worker)
        self._config, self._lap = config.loss, (watch or Stopwatch()).lap
        self._measure = MomentsMeter(config.n_steps * config.envs_per_worker).measure
        self.act = self._network.act

    def gradient(self, rollout: Rollout) -> RolloutStatistics:
        observations = rollout.observations  # [T + 1, B, O]
        logits, values = self._network.outputs(observations[-1])
        self._lap("forward")
        target = targets(rollout, values.reshape(observations.shape[:2]), self._config)
        returns, advantages, valid = (array.reshape(-1) for array in target)
        actions = rollout.actions.reshape(-1)
        values = values[: len(actions)]  # of the steps
        self._lap("returns")
        terms, d_logits, d_values = loss_gradients(logits, values, actions, advantages, returns, valid, self._config)
        self._network.backward(observations[:-1].reshape(len(actions), -1), d_logits, d_values)
        self._lap("backward")
        return RolloutStatistics(terms, self._measure(returns, values, valid))


class AutogradLearner:
    """The same by torch's automatic differentiation: slower, and right for any network."""

    def __init__(self, model: ActorCritic, config: Config, watch: Stopwatch | None = None):
        self._model, self._acting = model, ClosedForm(model)
        self._config, self._lap = config.loss, (watch or Stopwatch()).lap
        self._measure = MomentsMeter(config.n_steps * config.envs_per_worker).measure

    def act(self, t: int, observations: Array) -> Array:
        return self._acting.policy_logits(observations)

    def gradient(self, rollout: Rollout) -> RolloutStatistics:
        with torch.enable_grad():  # an environment may have turned it off
            return self._differentiate(rollout)

    def _differentiate(self, rollout: Rollout) -> RolloutStatistics:
        self._model.zero_grad(set_to_none=False)  # the gradients are views of one vector: keep them
        logits, values = self._model(torch.from_numpy(rollout.observations))  # [T + 1, B, A], [T + 1, B]
        self._lap("forward")
        target = targets(rollout, values.detach().numpy(), self._config)
        returns, advantages, valid = map(torch.from_numpy, target)
        actions = torch.from_numpy(rollout.actions)
        self._lap("returns")
        loss, terms = actor_critic_loss(logits[:-1], values[:-1], actions, advantages, returns, valid, self._config)
        loss.backward()  # type: ignore[no-untyped-call]
        self._lap("backward")
        flat = (target.returns, values[:-1].detach().numpy(), target.valid)
        return RolloutStatistics(terms, self._measure(*(array.reshape(-1) for array in flat)))


LEARNERS: dict[str, type[ClosedFormLearner] | type[AutogradLearner]] = {  # by the option `gradients`
    "closed-form": ClosedFormLearner,
    "autograd": AutogradLearner,
}


def learn_from(rollout: Rollout, learner: Learner, gradient: Array, max_norm: float) -> tuple[RolloutStatistics, float]:
    """Write a rollout's clipped gradient into `gradient` [P], those of the model; return its statistics and its norm.

    Raises:
        NonFiniteError: the rollout, or what it leads to, is not finite; it must not reach the shared parameters.
    """
    if (fault := rollout.fault()) is not None:
        raise NonFiniteError(fault)
    statistics = learner.gradient(rollout)
    if not statistics.is_finite:
        raise NonFiniteError("gradients")
    return statistics, clip_by_global_norm(gradient, max_norm)


def clip_by_global_norm(gradient: Array, max_norm: float) -> float:
    """Scale a flat gradient [P] in place to at most `max_norm` (Pascanu et al. 2013) and return its norm before.

    Raises:
        NonFiniteError: the gradient is not finite.
    """
    with np.errstate(over="ignore"):
        norm = math.sqrt(gradient.dot(gradient))
    if not math.isfinite(norm):  # the squares of a large finite gradient overflow in float32
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
    if not math.isfinite(norm):
        raise NonFiniteError("gradients")
    if norm > max_norm:
        gradient *= np.float32(max_norm / norm)
    return norm
