"""What an objective is: the return targets and the loss of a rollout.

An objective sees log-probabilities, entropies, values and a rollout's rewards; it knows no network and no distribution.
It states the loss for torch, and its derivative for the closed form; a test holds them together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from a3c.rollouts import Rollout

Array = NDArray[np.float32]


class Targets(NamedTuple):
    """What the loss regards as constant; no gradient flows through it. [T, B] each, or flattened to [N]."""

    returns: Array
    advantages: Array
    valid: Array  # 1 where the step counts, 0 at autoreset transitions
    unit: float  # of the value
    log_prob: Array | None = None  # of the policy that acted, where the objective has a use for it
    values: Array | None = None  # V(s) when the targets were computed, likewise
    weights: Array | None = None  # by which a step's policy loss is multiplied, likewise

    def flat(self) -> "Targets":
        """The same, [N] each."""
        return self._each(lambda part: part.reshape(-1))

    def take(self, rows: NDArray[np.int64]) -> "Targets":
        """Those of some steps, [M] each."""
        return self._each(lambda part: part[rows])

    def _each(self, change: Callable[[Array], Array]) -> "Targets":
        arrays: Any = {name: change(part) for name, part in self._asdict().items() if isinstance(part, np.ndarray)}
        return self._replace(**arrays)


class LossTerms(NamedTuple):
    """The three parts of the loss, each a mean over the valid steps, before their coefficients."""

    policy_loss: float
    value_loss: float
    entropy: float  # nats


class Derivative(NamedTuple):
    """dL by each input of the loss, [N]."""

    log_prob: Array
    entropy: Array
    values: Array


class Objective(Protocol):
    """What a learner minimises, in so many passes over a rollout, each in so many minibatches."""

    passes: int
    minibatches: int
    whole_episodes: bool  # a rollout is one episode of each environment, from its start to its end
    corrects: bool  # learns at parameters that are pulled after the rollout has been collected by older ones
    preconditions: bool  # has a method `preconditioned`, which wants the products of the steps' scores

    def targets(
        self, rollout: Rollout, values: Array, unit: float, log_prob: Array | None = None, acted: Array | None = None
    ) -> Targets:
        """What the loss of a rollout regards as constant.

        Args:
            values: V(s_0) ... V(s_T), [T + 1, B].
            unit: of the value.
            log_prob: of the actions by the policy that learns, before it does, [T, B], where it is known.
            acted: of the same by the policy that acted, [T, B]; None: that is the policy that learns.
        """

    def loss(self, log_prob: Tensor, entropy: Tensor, values: Tensor, targets: Targets) -> tuple[Tensor, LossTerms]:
        """The loss of N steps, [N] each, for autograd."""

    def derivative(
        self, log_prob: Array, entropy: Array, values: Array, targets: Targets
    ) -> tuple[LossTerms, Derivative]:
        """The same loss and its derivative, [N] each."""
