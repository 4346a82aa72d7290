"""Learners: from a rollout to the gradient of the objective."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from a3c.actors import Actor, ClosedFormActor, actor_for, has_closed_form
from a3c.config import Config, NumericsError
from a3c.heads import Evaluated
from a3c.moments import Moments, MomentsMeter
from a3c.networks import ActorCritic
from a3c.objectives import LossTerms, Objective, Targets, objective_for
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


Rows = NDArray[np.int64] | None  # the steps of a minibatch; None: all, in their order


class Learner(Actor, Protocol):
    """An actor that learns from what it did."""

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        """Write the distribution parameters [B, outputs + free] of step t's observations [B, *shape]."""

    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Rows]:
        """Compute the targets of the rollout of the last T steps; return the minibatches to learn from, in order.

        `moved`: the parameters are others than those that acted.
        """

    def gradient(self, rows: Rows) -> RolloutStatistics:
        """Write the gradient of a minibatch of that rollout into those of the model."""


class ClosedFormLearner(ClosedFormActor):
    """The exact derivative written out: by the chain rule a sum of those of trunk, head and objective.

    An eighth to a quarter of autograd's time (docs/decisions/0003). The first forward pass is the one that acted.
    """

    def __init__(
        self, model: ActorCritic, objective: Objective, n_steps: int, count: int, watch: Stopwatch, rng: Generator
    ):
        steps = n_steps * count
        batch = steps // objective.minibatches
        super().__init__(model, n_steps, count, batch)
        self._objective, self._rng, self._lap, self._ones = objective, rng, watch.lap, np.ones(batch, np.float32)
        self._measure, self._act = MomentsMeter(batch).measure, self._trunk.act
        self._is_plain = not (self._mask or self._normalizer or self.head.free)
        if not self._is_plain:
            self._kept = np.zeros((n_steps + 1, count, model.observation.size), np.float32)

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        if self._is_plain:
            self._act(t, observations).dot(self._policy.transposed, out)
            out += self._policy.bias
        else:
            self._finish(observations, self._policy(self._act(t, self._keep(t, observations))), out)

    def _keep(self, t: int, observations: NDArray[Any]) -> Array:
        """What the trunk is given of step t's observations, kept for `gradient`."""
        kept: Array = self._kept[t]
        inputs = self._inputs(observations, kept)
        if inputs is not kept:
            kept[:] = inputs.reshape(kept.shape)
        return kept

    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Rows]:
        n_steps, count = rollout.rewards.shape
        steps, last, self._rollout = n_steps * count, rollout.observations[-1], rollout
        last = last if self._is_plain else self._keep(n_steps, last)
        flat = rollout.flat_observations if self._is_plain else self._kept[:n_steps].reshape(steps, -1)
        self._evaluated = self.head.evaluate(rollout.parameters.reshape(steps, -1), rollout.flat_actions)
        acted = None
        if moved:
            acted = self._evaluated.log_prob.reshape(n_steps, count)
            self._forward_again(rollout, flat, last)
        else:
            self._trunk.act(n_steps, last)
            self._values_kept = self._values(self._trunk.features[: steps + count])  # [(T + 1) * B]
            self._outputs_kept = self._trunk.kept(flat)
        self._lap("forward")
        values = self._values_kept.reshape(n_steps + 1, count)
        log_prob = self._evaluated.log_prob.reshape(n_steps, count)
        self._targets = self._objective.targets(rollout, values, self._model.unit, log_prob, acted).flat()
        self._lap("returns")
        return minibatches(self._objective, steps, self._rng)

    def _forward_again(self, rollout: Rollout, flat: Array, last: Array) -> None:
        """What acting has kept, at the parameters that are there now."""
        self._outputs_kept = self._trunk.forward(flat)
        self._values_kept = self._values(np.concatenate((self._outputs_kept[-1], self._trunk(last))))
        parameters = np.empty((len(flat), rollout.parameters.shape[-1]), np.float32)
        self._finish(rollout.flat_observations, self._policy(self._outputs_kept[-1]), parameters)
        self._evaluated = self.head.evaluate(parameters, rollout.flat_actions)

    def gradient(self, rows: Rows) -> RolloutStatistics:
        targets, evaluated, outputs = self._targets, self._evaluated, self._outputs_kept
        if rows is None:
            values = self._values_kept[: len(targets.returns)]
        else:
            rollout, targets = self._rollout, targets.take(rows)
            outputs = self._trunk.forward(outputs[0][rows])
            parameters = np.empty((len(rows), rollout.parameters.shape[-1]), np.float32)
            self._finish(rollout.flat_observations[rows], self._policy(outputs[-1]), parameters)
            evaluated, values = self.head.evaluate(parameters, rollout.flat_actions[rows]), self._values(outputs[-1])
            self._lap("forward")
        if self._objective.preconditions:
            targets = self._preconditioned(targets, evaluated, outputs)
        terms, derivative = self._objective.derivative(evaluated.log_prob, evaluated.entropy, values, targets)
        d_parameters = evaluated.backward(derivative.log_prob, derivative.entropy)
        d_value = (derivative.values * np.float32(targets.unit))[:, None]
        if self._free is not None:
            self._model.free.grad.numpy()[:] = np.add.reduce(d_parameters[:, self._outputs :])  # type: ignore[union-attr]
            d_parameters = d_parameters[:, : self._outputs]
        ones = self._ones[: len(d_value)]
        self._policy.backward(outputs[-1], d_parameters, ones)
        self._value.backward(outputs[-1], d_value, ones)
        weights = np.concatenate((self._policy.weight, self._value.weight))
        self._trunk.backward(outputs, np.concatenate((d_parameters, d_value), 1), weights)
        self._lap("backward")
        return RolloutStatistics(terms, self._measure(targets.returns, values, targets.valid))

    def _preconditioned(self, targets: Targets, evaluated: Evaluated, outputs: list[Array]) -> Targets:
        """Targets for the natural gradient, from the products of all pairs of the steps' scores."""
        scores = evaluated.backward(self._ones[: len(targets.valid)], np.zeros_like(targets.valid))
        layer, free = scores[:, : self._outputs], scores[:, self._outputs :]
        products = layer.dot(layer.T) * (outputs[-1].dot(outputs[-1].T) + 1) + free.dot(free.T)
        products += self._trunk.gram(outputs, layer, self._policy.weight)
        return self._objective.preconditioned(targets, products)  # type: ignore[attr-defined, no-any-return]


class AutogradLearner:
    """The same by torch's automatic differentiation: slower, and right for any network."""

    def __init__(
        self, model: ActorCritic, objective: Objective, n_steps: int, count: int, watch: Stopwatch, rng: Generator
    ):
        self._model, self._objective, self._rng, self._lap = model, objective, rng, watch.lap
        self._measure = MomentsMeter(n_steps * count // objective.minibatches).measure
        actor = actor_for(model)
        self.head, self.parameters, self.greedy, self.values = actor.head, actor.parameters, actor.greedy, actor.values

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        out[...] = self.parameters(observations)

    @torch.enable_grad()  # an environment may have turned it off
    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Rows]:
        self._rollout = rollout
        batches = minibatches(self._objective, rollout.rewards.size, self._rng)
        with torch.set_grad_enabled(batches == [None]):  # then this is the forward pass to learn from
            parameters, values = self._model(torch.from_numpy(rollout.observations))  # [T + 1, B, ...]
        self._forward = parameters[:-1].flatten(0, 1), values[:-1].flatten()
        self._lap("forward")
        log_prob = acted = None
        if moved:
            shape, acted = rollout.rewards.shape, rollout.behavior_log_probs
            flat = parameters[:-1].detach().flatten(0, 1).numpy()
            log_prob = self.head.evaluate(flat, rollout.flat_actions).log_prob.reshape(shape)
        targets = self._objective.targets(rollout, values.detach().numpy(), self._model.unit, log_prob, acted)
        self._targets = targets.flat()
        self._lap("returns")
        return batches

    @torch.enable_grad()
    def gradient(self, rows: Rows) -> RolloutStatistics:
        self._model.zero_grad(set_to_none=False)  # the gradients are views of one vector: keep them
        actions, targets, (parameters, values) = self._rollout.flat_actions, self._targets, self._forward
        if rows is not None:
            parameters, values = self._model(torch.from_numpy(self._rollout.flat_observations[rows]))
            actions, targets = actions[rows], targets.take(rows)
        log_prob, entropy = self.head.log_prob_entropy(parameters, torch.from_numpy(actions))
        self._lap("forward")
        if self._objective.preconditions:
            products = _score_products(log_prob, [part for part in self._model.parameters() if part.requires_grad])
            targets = self._objective.preconditioned(targets, products)  # type: ignore[attr-defined]
        loss, terms = self._objective.loss(log_prob, entropy, values, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self._lap("backward")
        return RolloutStatistics(terms, self._measure(targets.returns, values.detach().numpy(), targets.valid))


def _score_products(log_prob: Tensor, parameters: list[Any]) -> Array:
    """Inner products [N, N] of the gradients of N log-probabilities, one backward pass each."""
    scores = []
    for one in log_prob:
        parts = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        scores.append(torch.cat([part.reshape(-1) for part in parts if part is not None]))
    stacked = torch.stack(scores).numpy()
    products: Array = stacked.dot(stacked.T)
    return products


def minibatches(objective: Objective, steps: int, rng: Generator) -> list[Rows]:
    """Every pass over a rollout's steps in another order, in minibatches of one size; a remainder is left out."""
    if objective.passes == objective.minibatches == 1:
        return [None]
    size = steps // objective.minibatches
    orders = (rng.permutation(steps) for _ in range(objective.passes))
    return [order[start * size :][:size] for order in orders for start in range(objective.minibatches)]


def learner_for(
    model: ActorCritic, config: Config, watch: Stopwatch, rng: Generator, max_episode_steps: int | None = None
) -> Learner:
    """The learner of a run: by the closed form where it is wanted and the network has one, else by autograd."""
    closed = config.network.gradients == "closed-form" and has_closed_form(model)
    kind = ClosedFormLearner if closed else AutogradLearner
    steps = rollout_steps(config, max_episode_steps)
    return kind(model, objective_for(config), steps, config.envs_per_worker, watch, rng)


def rollout_steps(config: Config, max_episode_steps: int | None) -> int:
    """The most steps that a rollout has of each environment."""
    return max_episode_steps or config.n_steps if config.loss.objective == "reinforce" else config.n_steps


def prepared(learner: Learner, rollout: Rollout, moved: bool = False) -> list[Rows]:
    """As `Learner.prepare`; NonFiniteError: the rollout must not reach the shared parameters."""
    if (fault := rollout.fault()) is not None:
        raise NonFiniteError(fault)
    return learner.prepare(rollout, moved)


def clipped_gradient(learner: Learner, rows: Rows, gradient: Array, max_norm: float) -> tuple[RolloutStatistics, float]:
    """Have a learner write a gradient into `gradient` [P], and clip it; its statistics, and its norm before.

    NonFiniteError: what the rollout leads to is not finite; it must not reach the shared parameters.
    """
    statistics = learner.gradient(rows)
    if not statistics.is_finite:
        raise NonFiniteError("gradients")
    return statistics, clip_by_global_norm(gradient, max_norm)


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
