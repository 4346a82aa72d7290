"""Learners: from a rollout to the gradient of the objective."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.actors import Actor, ClosedFormActor, actor_for, has_closed_form
from a3c.config import Config, NumericsError
from a3c.moments import Moments, MomentsMeter
from a3c.networks import ActorCritic
from a3c.objectives import A2C, LossTerms, Objective
from a3c.rollouts import Rollout, Stopwatch

Array = NDArray[np.float32]


class NonFiniteError(NumericsError):
    """A rollout that nothing can be learned from: some of its `what` are not finite."""

    def __init__(self, what: str):
        super().__init__(f"{what} are not finite")
        self.what = what  # observations, rewards or gradients


class RolloutStatistics(NamedTuple):
    """The loss and how well the critic predicted the returns."""

    terms: LossTerms
    moments: Moments

    @property
    def is_finite(self) -> bool:
        """Whether nothing has overflowed: after a huge reward a loss may be infinite where its gradient is not."""
        _, magnitude, target, _, _, error_square = self.moments
        return math.isfinite(sum(self.terms) + magnitude + sum(target) + sum(error_square))


class Learner(Actor, Protocol):
    """An actor that learns from what it did."""

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        """Write the distribution parameters [B, outputs] of step t's observations [B, *shape]."""

    def gradients(self, rollout: Rollout) -> Iterator[RolloutStatistics]:
        """Learn from the rollout of the last T steps: write a gradient into those of the model, then yield."""


class ClosedFormLearner(ClosedFormActor):
    """The exact derivative written out: by the chain rule a sum of those of trunk, head and objective.

    An eighth to a quarter of autograd's time (docs/decisions/0003). The forward pass is the one that acted.
    """

    def __init__(self, model: ActorCritic, objective: Objective, n_steps: int, count: int, watch: Stopwatch):
        super().__init__(model, n_steps, count)
        self._objective, self._lap, self._ones = objective, watch.lap, np.ones(n_steps * count, np.float32)
        self._measure, self._act = MomentsMeter(n_steps * count).measure, self._trunk.act

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        self._act(t, observations).dot(self._policy.transposed, out)
        out += self._policy.bias

    def gradients(self, rollout: Rollout) -> Iterator[RolloutStatistics]:
        n_steps, count = rollout.rewards.shape
        steps = n_steps * count
        self._trunk.act(n_steps, rollout.observations[-1])
        features = self._trunk.features
        all_values = self._values(features)  # [(T + 1) * B]
        features, values = features[:steps], all_values[:steps]
        evaluated = self.head.evaluate(rollout.parameters.reshape(steps, -1), rollout.flat_actions)
        self._lap("forward")
        targets = self._objective.targets(rollout, all_values.reshape(n_steps + 1, count)).flat()
        self._lap("returns")
        terms, derivative = self._objective.derivative(evaluated.log_prob, evaluated.entropy, values, targets)
        d_parameters = evaluated.backward(derivative.log_prob, derivative.entropy)
        d_value = (derivative.values * self._value_scale)[:, None]
        self._policy.backward(features, d_parameters, self._ones)
        self._value.backward(features, d_value, self._ones)
        weights = np.concatenate((self._policy.weight, self._value.weight))
        self._trunk.backward(rollout.flat_observations, np.concatenate((d_parameters, d_value), 1), weights)
        self._lap("backward")
        yield RolloutStatistics(terms, self._measure(targets.returns, values, targets.valid))


class AutogradLearner:
    """The same by torch's automatic differentiation: slower, and right for any network."""

    def __init__(self, model: ActorCritic, objective: Objective, n_steps: int, count: int, watch: Stopwatch):
        self._model, self._objective, self._lap = model, objective, watch.lap
        self._measure = MomentsMeter(n_steps * count).measure
        actor = actor_for(model)
        self.head, self.parameters, self.greedy, self.values = actor.head, actor.parameters, actor.greedy, actor.values

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        out[...] = self.parameters(observations)

    @torch.enable_grad()  # an environment may have turned it off
    def gradients(self, rollout: Rollout) -> Iterator[RolloutStatistics]:
        self._model.zero_grad(set_to_none=False)  # the gradients are views of one vector: keep them
        parameters, values = self._model(torch.from_numpy(rollout.observations))  # [T + 1, B, outputs], [T + 1, B]
        log_prob, entropy = self.head.log_prob_entropy(parameters[:-1], torch.from_numpy(rollout.actions))
        self._lap("forward")
        targets = self._objective.targets(rollout, values.detach().numpy())
        self._lap("returns")
        loss, terms = self._objective.loss(log_prob, entropy, values[:-1], targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self._lap("backward")
        returns, _, valid = targets.flat()
        yield RolloutStatistics(terms, self._measure(returns, values[:-1].detach().numpy().reshape(-1), valid))


def learner_for(model: ActorCritic, config: Config, watch: Stopwatch) -> Learner:
    """The learner of a run: by the closed form where it is wanted and the network has one, else by autograd."""
    closed = config.network.gradients == "closed-form" and has_closed_form(model)
    kind = ClosedFormLearner if closed else AutogradLearner
    return kind(model, A2C(config.loss), config.n_steps, config.envs_per_worker, watch)


def clipped_gradients(
    learner: Learner, rollout: Rollout, gradient: Array, max_norm: float
) -> Iterator[tuple[RolloutStatistics, float]]:
    """Have a learner write its gradients into `gradient` [P]; clip each; yield its statistics and its norm before.

    NonFiniteError: the rollout, or what it leads to, is not finite; it must not reach the shared parameters.
    """
    if (fault := rollout.fault()) is not None:
        raise NonFiniteError(fault)
    for statistics in learner.gradients(rollout):
        if not statistics.is_finite:
            raise NonFiniteError("gradients")
        yield statistics, clip_by_global_norm(gradient, max_norm)


def clip_by_global_norm(gradient: Array, max_norm: float) -> float:
    """Scale a flat gradient [P] in place to at most `max_norm` (Pascanu et al. 2013) and return its norm before."""
    with np.errstate(over="ignore"):
        norm = math.sqrt(gradient.dot(gradient))
    if not math.isfinite(norm):  # the squares of a large finite gradient overflow in float32
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
    if not math.isfinite(norm):
        raise NonFiniteError("gradients")
    if norm > max_norm:
        gradient *= np.float32(max_norm / norm)
    return norm
