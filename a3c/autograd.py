"""The learner whose gradient torch makes by automatic differentiation: slower, and right for any network."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from a3c.actors import actor_for
from a3c.learners import NO_CURES, Cures, Minibatch, RolloutStatistics, minibatches, remember, slow_values
from a3c.moments import MomentsMeter
from a3c.networks import ActorCritic
from a3c.objectives import Objective
from a3c.rollouts import Rollout, Stopwatch

if TYPE_CHECKING:
    from a3c.critic_memory import CriticMemory

Array = NDArray[np.float32]


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
        rows, actions, targets = batch.rows, self._rollout.flat_actions, self._targets
        parameters, values = self._forward
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

    def _reminded(self, memory: "CriticMemory", count: int) -> Tensor:
        """The loss on remembered steps."""
        observations, returns = memory.draw(self._rng, count)
        values = self._model(torch.from_numpy(observations))[1]
        error = (values - torch.from_numpy(returns)) / self._model.unit
        loss: Tensor = 0.5 * self._cures.memory_coef * error.square().mean()
        return loss


def _score_products(log_prob: Tensor, parameters: list[Any]) -> Array:
    """Inner products [N, N] of the gradients of N log-probabilities, one backward pass each."""
    scores = []
    for one in log_prob:
        parts = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        scores.append(torch.cat([part.reshape(-1) for part in parts if part is not None]))
    stacked = torch.stack(scores).numpy()
    products: Array = stacked.dot(stacked.T)
    return products
