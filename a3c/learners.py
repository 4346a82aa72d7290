"""Learners: from a rollout to the gradient of the objective."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from a3c.actors import Actor, has_closed_form
from a3c.config import Config, NumericsError
from a3c.heads import Head
from a3c.moments import Moments
from a3c.networks import ActorCritic
from a3c.objectives import LossTerms, Objective, Targets, objective_for
from a3c.rollouts import Rollout, Stopwatch
from a3c.spaces import ObservationSpec

if TYPE_CHECKING:
    from a3c.critic_memory import CriticMemory
    from a3c.memory import Memory

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


WHOLE = Minibatch()


class Cures(NamedTuple):
    """What keeps a critic from failing (docs/family.md)."""

    steps: int = 1  # updates of the critic per update of the actor
    slow: ActorCritic | None = None  # whose values the returns are made from; None: the critic's own
    memory: "CriticMemory | None" = None
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

    def rollout_values(self, rollout: Rollout) -> Array:
        """V(s) [T + 1, B] of the observations of a rollout."""


def remember(cures: Cures, rollout: Rollout, targets: Targets) -> None:
    """Keep a rollout's steps, where there is a memory."""
    if cures.memory is not None:
        cures.memory.add(rollout.flat_observations, targets.returns, targets.valid)


def action_values(head: Head, parameters: Array, rollout: Rollout) -> Array:
    """Those of the actions of a rollout [T, B], of a slow network's parameters [T + 1, B, K]."""
    shape = rollout.rewards.shape
    flat = parameters[: len(rollout.rewards)].reshape(rollout.rewards.size, -1)
    return head.evaluate(flat, rollout.flat_actions).log_prob.reshape(shape)


def minibatches(
    objective: Objective, steps: int, rng: Generator, critic_steps: int = 1, groups: int | None = None
) -> list[Minibatch]:
    """Every pass over a rollout's steps in another order, in minibatches of one size; a remainder is left out.

    After each come further ones of the critic alone. A recurrent network learns from all steps of an environment at
    once: `groups` of these there are.
    """
    batches = [WHOLE]
    if not objective.passes == objective.minibatches == 1:
        size = (groups or steps) // objective.minibatches
        orders = (rng.permutation(groups or steps) for _ in range(objective.passes))
        chosen = [order[n * size :][:size] for order in orders for n in range(objective.minibatches)]
        if groups is not None:
            chosen = [(np.arange(0, steps, groups)[:, None] + rows).reshape(-1) for rows in chosen]
        batches = [Minibatch(rows) for rows in chosen]
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
    steps = rollout_steps(config, max_episode_steps)
    given = (model, objective_for(config), steps, config.envs_per_worker, watch, rng, cures)
    device = config.network.device
    if device != "cpu":
        from a3c.device import device_of

        device = device_of(device)
    if has_closed_form(model) and (config.network.gradients, device) == ("closed-form", "cpu"):
        from a3c.closed_form import ClosedFormLearner

        return ClosedFormLearner(*given)
    from a3c.autograd import AutogradLearner
    from a3c.device import use_precision

    use_precision(model, config.network.precision, device)
    return AutogradLearner(*given, device=device)


def memory_for(
    learner: Learner, n_steps: int, count: int, observation: ObservationSpec, burn_in: int = 0
) -> "Memory | None":
    """What a recurrent learner remembers of T steps of B environments; None: it remembers nothing."""
    if not learner.state_size:
        return None
    from a3c.memory import Memory

    return Memory(learner.state_size, n_steps, count, burn_in, observation)


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
