"""The learner whose gradient torch makes by automatic differentiation: slower, and right for any network."""

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from a3c.actors import Actor, actor_for, has_closed_form
from a3c.device import Local, OnGPU
from a3c.learners import NO_CURES, Cures, Minibatch, RolloutStatistics, action_values, minibatches, remember
from a3c.moments import MomentsMeter
from a3c.networks import ActorCritic
from a3c.objectives import Objective
from a3c.rollouts import Rollout, Stopwatch

if TYPE_CHECKING:
    from a3c.critic_memory import CriticMemory

Array = NDArray[np.float32]
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


class AutogradLearner(Actor):
    """The same by torch's automatic differentiation: slower, and right for any network.

    What acting has computed is not computed again; where all of a rollout is learned from once, it is learned from. Of
    a small network, which has a closed form, one pass over a rollout is faster than the graphs of its steps.
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
        device: str = "cpu",
    ):
        keep_freed_memory()
        self._network = Local(model) if device == "cpu" else OnGPU(model, device)
        self._model, self._objective, self._rng, self._lap, self._cures = model, objective, rng, watch.lap, cures
        self._measure = MomentsMeter(n_steps * count // objective.minibatches).measure
        self._actor = actor_for(model)  # for single answers, which the host gives
        self.head = model.head
        self.state_size = model.state_size
        self._keeps = not has_closed_form(model)
        self._learns_from_acting = self._keeps and objective.passes == objective.minibatches == 1
        self._acted: list[tuple[Tensor, Tensor]] = []  # parameters and values [B, ...] of each step so far
        self._following: Tensor | None = None  # the state after the last of them, with what it was computed from

    def parameters(self, observations: NDArray[Any]) -> Array:
        return self._actor.parameters(observations)

    def values(self, observations: NDArray[Any]) -> Array:
        return self._actor.values(observations)

    def act(
        self, t: int, observations: NDArray[Any], out: Array, starts: Any = None, state: Array | None = None
    ) -> None:
        """As `Learner.act`, and `a3c.memory.Remember` of a recurrent network."""
        given = torch.from_numpy(observations)
        if t <= 0:
            self._acted, self._following = [], None
            self._network.refresh()
        with torch.set_grad_enabled(self._learns_from_acting and t >= 0):
            if state is None:
                parameters, values = self._network(given)
            else:
                before = torch.from_numpy(state) if self._following is None else self._following
                if starts.any():
                    before = before * torch.from_numpy(~starts)[:, None]
                parameters, values, following = self._network.step(given, before)
                state[...] = following.detach().numpy()
                self._following = following
        if self._keeps:
            self._acted.append((parameters, values))
        out[...] = parameters.detach().numpy()

    @torch.enable_grad()  # an environment may have turned it off
    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
        self._rollout, acted_on = rollout, self._acted
        groups = len(rollout.starts[0]) if rollout.starts is not None else None
        batches = minibatches(self._objective, rollout.rewards.size, self._rng, self._cures.steps, groups)
        with torch.set_grad_enabled(batches[0].rows is None):  # then this is the forward pass to learn from
            if moved or len(acted_on) != len(rollout.rewards):
                self._network.refresh()
                parameters, values = forward(self._network, rollout)  # [T + 1, B, ...]
            else:
                parameters, values = map(torch.stack, zip(*[*acted_on, self._after(rollout)], strict=True))
        self._acted, self._following = [], None
        self._forward = parameters[:-1].flatten(0, 1), values[:-1].flatten()
        self._lap("forward")
        log_prob, acted, known = None, None, values.detach().numpy()
        slow = self._cures.slow
        if moved or slow is not None:
            shape, acted = rollout.rewards.shape, rollout.behavior_log_probs if moved else None
            flat = parameters[:-1].detach().flatten(0, 1).numpy()
            log_prob = self.head.evaluate(flat, rollout.flat_actions).log_prob.reshape(shape)
        if slow is not None:
            slow_parameters, known = _of_slow(slow, rollout)
            if self._model.value_head is None:
                log_prob = action_values(self.head, slow_parameters, rollout)
        self._targets = self._objective.targets(rollout, known, self._model.unit, log_prob, acted).flat()
        self._lap("returns")
        remember(self._cures, rollout, self._targets)
        return batches

    @torch.no_grad()
    def _after(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Parameters and values of what follows the last step."""
        last = torch.from_numpy(rollout.observations[-1])
        if self._following is None or rollout.starts is None:
            parameters, values = self._network(last)
        else:
            state = self._following * torch.from_numpy(~rollout.starts[-1])[:, None]
            parameters, values, _ = self._network.step(last, state)
        return parameters, values

    @torch.enable_grad()
    def gradient(self, batch: Minibatch) -> RolloutStatistics:
        self._network.zero_gradient()
        rows, actions, targets = batch.rows, self._rollout.flat_actions, self._targets
        parameters, values = self._forward
        if rows is not None:
            self._network.refresh()
            parameters, values = forward_rows(self._network, self._rollout, rows)
            actions, targets = actions[rows], targets.take(rows)
        log_prob, entropy = self.head.log_prob_entropy(parameters, torch.from_numpy(actions))
        self._lap("forward")
        if batch.critic_alone:
            log_prob, entropy = log_prob.detach(), entropy.detach()
        elif self._objective.preconditions:
            learned = [part for part in self._network.model.parameters() if part.requires_grad]
            products = _score_products(log_prob, learned)
            targets = self._objective.preconditioned(targets, products)  # type: ignore[attr-defined]
        loss, terms = self._objective.loss(log_prob, entropy, values, targets)
        if self._cures.memory is not None:
            loss = loss + self._reminded(self._cures.memory, len(targets.returns))
        loss.backward()  # type: ignore[no-untyped-call]
        self._network.deliver_gradient()
        self._lap("backward")
        predicted = log_prob * targets.unit if self._model.value_head is None else values
        return RolloutStatistics(terms, self._measure(targets.returns, predicted.detach().numpy(), targets.valid))

    @torch.no_grad()
    def rollout_values(self, rollout: Rollout) -> Array:
        self._network.refresh()
        values: Array = forward(self._network, rollout)[1].numpy()
        return values

    def _reminded(self, memory: "CriticMemory", count: int) -> Tensor:
        """The loss on remembered steps."""
        observations, returns = memory.draw(self._rng, count)
        values = self._network(torch.from_numpy(observations))[1]
        error = (values - torch.from_numpy(returns)) / self._model.unit
        loss: Tensor = 0.5 * self._cures.memory_coef * error.square().mean()
        return loss


def forward(model: "ActorCritic | Local", rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Parameters [T + 1, B, K] and values [T + 1, B] of a rollout and of what follows its last step."""
    observations = torch.from_numpy(rollout.observations)
    if rollout.starts is None or rollout.state is None:
        parameters, values = model(observations)
    else:
        known = torch.from_numpy(rollout.state), torch.from_numpy(rollout.starts)
        parameters, values, _ = model.sequence(observations, *known)
    return parameters, values


def forward_rows(model: Local, rollout: Rollout, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Parameters [N, K] and values [N] of a minibatch's steps: of a recurrent network, all those of environments."""
    if rollout.starts is None or rollout.state is None:
        parameters, values = model(torch.from_numpy(rollout.flat_observations[rows]))
        return parameters, values
    chosen = rows[: len(rows) // len(rollout.rewards)]  # the environments, which are the rows of the first step
    arrays = (rollout.observations[:-1, chosen], rollout.state[chosen], rollout.starts[:-1, chosen])
    parameters, values, _ = model.sequence(*map(torch.from_numpy, arrays))
    return parameters.flatten(0, 1), values.flatten()


@torch.no_grad()
def _of_slow(slow: ActorCritic, rollout: Rollout) -> tuple[Array, Array]:
    parameters, values = forward(slow, rollout)
    return parameters.numpy(), values.numpy()


def keep_freed_memory() -> None:
    """Have the C library keep what is freed: torch's large arrays otherwise cost new pages, cleared, in every step.

    A forward and backward pass of images takes 1.2 to 1.6 times as long without. Where there is another C library,
    nothing is done.
    """
    with suppress(OSError, AttributeError):
        options = ctypes.CDLL(None).mallopt
        for parameter, bytes_ in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_THRESHOLD, 2**30), (M_TOP_PAD, 2**26)):
            options(parameter, bytes_)


def _score_products(log_prob: Tensor, parameters: list[Any]) -> Array:
    """Inner products [N, N] of the gradients of N log-probabilities, one backward pass each."""
    scores = []
    for one in log_prob:
        parts = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        scores.append(torch.cat([part.reshape(-1) for part in parts if part is not None]))
    stacked = torch.stack(scores).cpu().numpy()
    products: Array = stacked.dot(stacked.T)
    return products
