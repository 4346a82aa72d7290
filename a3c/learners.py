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
from a3c.critic_memory import CriticMemory
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


class Minibatch(NamedTuple):
    """What one update is made of."""

    rows: NDArray[np.int64] | None = None  # the steps; None: all, with the forward pass that `prepare` has made
    critic_alone: bool = False


class Cures(NamedTuple):
    """What keeps a critic from failing (docs/family.md)."""

    steps: int = 1  # updates of the critic per update of the actor
    slow: ActorCritic | None = None  # whose values the returns are made from; None: the critic's own
    memory: CriticMemory | None = None
    memory_coef: float = 0.0  # weight of the loss on what it is reminded of


NO_CURES = Cures()


class Learner(Actor, Protocol):
    """An actor that learns from what it did."""

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        """Write the distribution parameters [B, outputs + free] of step t's observations [B, *shape]."""

    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
        """Compute the targets of the rollout of the last T steps; return the minibatches to learn from, in order.

        `moved`: the parameters are others than those that acted.
        """

    def gradient(self, batch: Minibatch) -> RolloutStatistics:
        """Write the gradient of a minibatch of that rollout into those of the model."""


class ClosedFormLearner(ClosedFormActor):
    """The exact derivative written out: by the chain rule a sum of those of trunk, head and objective.

    An eighth to a quarter of autograd's time (docs/decisions/0003). The first forward pass is the one that acted.
    """

    def __init__(
        self,
        model: ActorCritic,
        objective: Objective,
        n_steps: int,
        count: int,
        watch: Stopwatch,
        rng: Generator,
        cures: Cures = NO_CURES,
    ):
        steps = n_steps * count
        batch = steps // objective.minibatches if cures.steps == 1 else steps
        super().__init__(model, n_steps, count, batch * (1 + (cures.memory is not None)))
        self._objective, self._rng, self._lap, self._cures = objective, rng, watch.lap, cures
        self._ones = np.ones(2 * batch, np.float32)
        self._slow = None if cures.slow is None else actor_for(cures.slow)
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

    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
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
            self._outputs_kept = self._trunk.kept(flat)
            if self._critic is not None:
                self._critic_kept = self._critic.forward(flat)
                self._values_kept = self._values(np.concatenate((self._critic_kept[-1], self._critic(last))))
            elif self._value is not None:
                self._values_kept = self._values(self._trunk.features[: steps + count])  # [(T + 1) * B]
        log_prob = self._evaluated.log_prob.reshape(n_steps, count)
        if self._slow is not None:
            self._values_kept, log_prob = slow_values(self._slow, rollout, log_prob)
        self._lap("forward")
        values = self._values_kept.reshape(n_steps + 1, count)
        self._targets = self._objective.targets(rollout, values, self._model.unit, log_prob, acted).flat()
        self._lap("returns")
        remember(self._cures, rollout, self._targets)
        return minibatches(self._objective, steps, self._rng, self._cures.steps)

    def _forward_again(self, rollout: Rollout, flat: Array, last: Array) -> None:
        """What acting has kept, at the parameters that are there now."""
        self._outputs_kept = own = self._trunk.forward(flat)
        following = self._trunk
        if self._critic is not None:
            self._critic_kept = own = self._critic.forward(flat)
            following = self._critic
        if self._value is not None:
            self._values_kept = self._values(np.concatenate((own[-1], following(last))))
        parameters = np.empty((len(flat), rollout.parameters.shape[-1]), np.float32)
        self._finish(rollout.flat_observations, self._policy(self._outputs_kept[-1]), parameters)
        self._evaluated = self.head.evaluate(parameters, rollout.flat_actions)

    def gradient(self, batch: Minibatch) -> RolloutStatistics:
        rows, targets, evaluated, outputs = batch.rows, self._targets, self._evaluated, self._outputs_kept
        critic = outputs if self._critic is None else self._critic_kept
        if rows is not None:
            rollout, targets = self._rollout, targets.take(rows)
            inputs = outputs[0][rows]
            outputs = self._trunk.forward(inputs)
            critic = outputs if self._critic is None else self._critic.forward(inputs)
            parameters = np.empty((len(rows), rollout.parameters.shape[-1]), np.float32)
            self._finish(rollout.flat_observations[rows], self._policy(outputs[-1]), parameters)
            evaluated = self.head.evaluate(parameters, rollout.flat_actions[rows])
            self._lap("forward")
        if self._value is None:
            values = evaluated.log_prob * np.float32(targets.unit)
        elif rows is None and self._slow is None:
            values = self._values_kept[: len(targets.returns)]
        else:
            values = self._values(critic[-1])
        if self._objective.preconditions and not batch.critic_alone:
            targets = self._preconditioned(targets, evaluated, outputs)
        terms, derivative = self._objective.derivative(evaluated.log_prob, evaluated.entropy, values, targets)
        if batch.critic_alone:
            derivative = derivative._replace(log_prob=0 * derivative.log_prob, entropy=0 * derivative.entropy)
        d_parameters = evaluated.backward(derivative.log_prob, derivative.entropy)
        d_value = (derivative.values * np.float32(targets.unit))[:, None]
        if self._free is not None:
            self._model.free.grad.numpy()[:] = np.add.reduce(d_parameters[:, self._outputs :])  # type: ignore[union-attr]
            d_parameters = d_parameters[:, : self._outputs]
        self._policy.backward(outputs[-1], d_parameters, self._ones[: len(d_parameters)])
        if self._critic is None and self._value is not None:
            self._value.backward(outputs[-1], d_value, self._ones[: len(d_value)])
            weights = np.concatenate((self._policy.weight, self._value.weight))
            self._trunk.backward(outputs, np.concatenate((d_parameters, d_value), 1), weights)
        else:
            self._trunk.backward(outputs, d_parameters, self._policy.weight)
        if self._critic is not None and self._value is not None:
            critic, d_value = self._reminded(critic, d_value)
            self._value.backward(critic[-1], d_value, self._ones[: len(d_value)])
            self._critic.backward(critic, d_value, self._value.weight)
        self._lap("backward")
        return RolloutStatistics(terms, self._measure(targets.returns, values, targets.valid))

    def _reminded(self, critic: list[Array], d_value: Array) -> tuple[list[Array], Array]:
        """What the critic has computed and the derivative by its values, with those of remembered steps."""
        memory, unit = self._cures.memory, np.float32(self._model.unit)
        if memory is None or self._critic is None:
            return critic, d_value
        observations, returns = memory.draw(self._rng, len(d_value))
        outputs = self._critic.forward(self._inputs(observations))
        error = (self._values(outputs[-1]) - returns) / unit
        more = error * np.float32(self._cures.memory_coef / len(error))
        joined = [np.concatenate(pair) for pair in zip(critic, outputs, strict=True)]
        return joined, np.concatenate((d_value, more[:, None]))

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
        self,
        model: ActorCritic,
        objective: Objective,
        n_steps: int,
        count: int,
        watch: Stopwatch,
        rng: Generator,
        cures: Cures = NO_CURES,
    ):
        self._model, self._objective, self._rng, self._lap, self._cures = model, objective, rng, watch.lap, cures
        self._slow = None if cures.slow is None else actor_for(cures.slow)
        self._measure = MomentsMeter(n_steps * count // objective.minibatches).measure
        actor = actor_for(model)
        self.head, self.parameters, self.greedy, self.values = actor.head, actor.parameters, actor.greedy, actor.values

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        out[...] = self.parameters(observations)

    @torch.enable_grad()  # an environment may have turned it off
    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
        self._rollout = rollout
        batches = minibatches(self._objective, rollout.rewards.size, self._rng, self._cures.steps)
        with torch.set_grad_enabled(batches[0].rows is None):  # then this is the forward pass to learn from
            parameters, values = self._model(torch.from_numpy(rollout.observations))  # [T + 1, B, ...]
        self._forward = parameters[:-1].flatten(0, 1), values[:-1].flatten()
        self._lap("forward")
        log_prob, acted, known = None, None, values.detach().numpy()
        if moved or self._slow is not None:
            shape, acted = rollout.rewards.shape, rollout.behavior_log_probs if moved else None
            flat = parameters[:-1].detach().flatten(0, 1).numpy()
            log_prob = self.head.evaluate(flat, rollout.flat_actions).log_prob.reshape(shape)
        if self._slow is not None and log_prob is not None:
            known, log_prob = slow_values(self._slow, rollout, log_prob)
        self._targets = self._objective.targets(rollout, known, self._model.unit, log_prob, acted).flat()
        self._lap("returns")
        remember(self._cures, rollout, self._targets)
        return batches

    @torch.enable_grad()
    def gradient(self, batch: Minibatch) -> RolloutStatistics:
        self._model.zero_grad(set_to_none=False)  # the gradients are views of one vector: keep them
        rows, actions, targets, (parameters, values) = (
            batch.rows,
            self._rollout.flat_actions,
            self._targets,
            self._forward,
        )
        if rows is not None:
            parameters, values = self._model(torch.from_numpy(self._rollout.flat_observations[rows]))
            actions, targets = actions[rows], targets.take(rows)
        log_prob, entropy = self.head.log_prob_entropy(parameters, torch.from_numpy(actions))
        self._lap("forward")
        if batch.critic_alone:
            log_prob, entropy = log_prob.detach(), entropy.detach()
        elif self._objective.preconditions:
            products = _score_products(log_prob, [part for part in self._model.parameters() if part.requires_grad])
            targets = self._objective.preconditioned(targets, products)  # type: ignore[attr-defined]
        loss, terms = self._objective.loss(log_prob, entropy, values, targets)
        if self._cures.memory is not None:
            loss = loss + self._reminded(self._cures.memory, len(targets.returns))
        loss.backward()  # type: ignore[no-untyped-call]
        self._lap("backward")
        predicted = log_prob * targets.unit if self._model.value_head is None else values
        return RolloutStatistics(terms, self._measure(targets.returns, predicted.detach().numpy(), targets.valid))

    def _reminded(self, memory: CriticMemory, count: int) -> Tensor:
        """The loss on remembered steps."""
        observations, returns = memory.draw(self._rng, count)
        values = self._model(torch.from_numpy(observations))[1]
        error = (values - torch.from_numpy(returns)) / self._model.unit
        loss: Tensor = 0.5 * self._cures.memory_coef * error.square().mean()
        return loss


def remember(cures: Cures, rollout: Rollout, targets: Targets) -> None:
    """Keep a rollout's steps, where there is a memory."""
    if cures.memory is not None:
        cures.memory.add(rollout.flat_observations, targets.returns, targets.valid)


def slow_values(slow: Actor, rollout: Rollout, log_prob: Array) -> tuple[Array, Array]:
    """A slow network's values [T + 1, B]; of action values, those of the actions [T, B] instead of `log_prob`."""
    shape, observations = rollout.rewards.shape, rollout.observations
    values = slow.values(observations.reshape(-1, *observations.shape[2:])).reshape(len(observations), -1)
    if hasattr(slow.head, "best"):
        evaluated = slow.head.evaluate(slow.parameters(rollout.flat_observations), rollout.flat_actions)
        log_prob = evaluated.log_prob.reshape(shape)
    return values, log_prob


def _score_products(log_prob: Tensor, parameters: list[Any]) -> Array:
    """Inner products [N, N] of the gradients of N log-probabilities, one backward pass each."""
    scores = []
    for one in log_prob:
        parts = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        scores.append(torch.cat([part.reshape(-1) for part in parts if part is not None]))
    stacked = torch.stack(scores).numpy()
    products: Array = stacked.dot(stacked.T)
    return products


def minibatches(objective: Objective, steps: int, rng: Generator, critic_steps: int = 1) -> list[Minibatch]:
    """Every pass over a rollout's steps in another order, in minibatches of one size; a remainder is left out.

    After each come further ones of the critic alone.
    """
    batches = [Minibatch()]
    if not objective.passes == objective.minibatches == 1:
        size = steps // objective.minibatches
        orders = (rng.permutation(steps) for _ in range(objective.passes))
        batches = [Minibatch(order[n * size :][:size]) for order in orders for n in range(objective.minibatches)]
    if critic_steps == 1:
        return batches
    again = (
        [batch, *[Minibatch(np.arange(steps) if batch.rows is None else batch.rows, True)] * (critic_steps - 1)]
        for batch in batches
    )
    return [one for several in again for one in several]


def updates_per_rollout(config: Config) -> int:
    """How many minibatches `minibatches` makes of a rollout."""
    objective = objective_for(config)
    return objective.passes * objective.minibatches * config.critic.critic_steps


def learner_for(
    model: ActorCritic,
    config: Config,
    watch: Stopwatch,
    rng: Generator,
    max_episode_steps: int | None = None,
    cures: Cures = NO_CURES,
) -> Learner:
    """The learner of a run: by the closed form where it is wanted and the network has one, else by autograd."""
    closed = config.network.gradients == "closed-form" and has_closed_form(model)
    kind = ClosedFormLearner if closed else AutogradLearner
    steps = rollout_steps(config, max_episode_steps)
    return kind(model, objective_for(config), steps, config.envs_per_worker, watch, rng, cures)


def rollout_steps(config: Config, max_episode_steps: int | None) -> int:
    """The most steps that a rollout has of each environment."""
    return max_episode_steps or config.n_steps if config.loss.objective == "reinforce" else config.n_steps


def prepared(learner: Learner, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
    """As `Learner.prepare`; NonFiniteError: the rollout must not reach the shared parameters."""
    if (fault := rollout.fault()) is not None:
        raise NonFiniteError(fault)
    return learner.prepare(rollout, moved)


def clipped_gradient(
    learner: Learner, batch: Minibatch, gradient: Array, max_norm: float
) -> tuple[RolloutStatistics, float]:
    """Have a learner write a gradient into `gradient` [P], and clip it; its statistics, and its norm before.

    NonFiniteError: what the rollout leads to is not finite; it must not reach the shared parameters.
    """
    statistics = learner.gradient(batch)
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
