"""Actors: the one way in which a network acts, for the collector, evaluations, playing, export and serving."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.heads import Head
from a3c.networks import ActorCritic
from a3c.trunks import ClosedFormLinear

Array = NDArray[np.float32]


class Actor(Protocol):
    """A policy and its critic as functions of NumPy observations; whatever the parameters become is seen at once."""

    head: Head

    def parameters(self, observations: NDArray[Any]) -> Array:
        """Parameters [B, outputs] of the head's distribution over the actions, for observations [B, *shape]."""

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The most probable actions [B, *action_shape]."""

    def values(self, observations: NDArray[Any]) -> Array:
        """V(s) [B], in units of return."""


class ClosedFormActor:
    """Acts in NumPy on the memory of the network's parameters: an eighth of torch's time for small networks.

    Args:
        n_steps, count: of the rollouts, where it is to learn as well.
    """

    def __init__(self, model: ActorCritic, n_steps: int = 0, count: int = 0):
        self.head = model.head
        self._trunk = model.trunk.closed_form(n_steps, count)  # type: ignore[attr-defined]
        self._policy, self._value = ClosedFormLinear(model.policy_head), ClosedFormLinear(model.value_head)
        self._value_scale = np.float32(model.value_scale)

    def parameters(self, observations: NDArray[Any]) -> Array:
        return self._policy(self._trunk(observations))

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        return self.head.mode(self.parameters(observations))

    def values(self, observations: NDArray[Any]) -> Array:
        return self._values(self._trunk(observations))

    def _values(self, features: Array) -> Array:
        return self._value(features)[:, 0] * self._value_scale


class ModuleActor:
    """Acts by torch: right for any network."""

    def __init__(self, model: ActorCritic):
        self.head, self._model = model.head, model

    def parameters(self, observations: NDArray[Any]) -> Array:
        return self._forward(observations)[0]

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        return self.head.mode(self.parameters(observations))

    def values(self, observations: NDArray[Any]) -> Array:
        return self._forward(observations)[1]

    @torch.no_grad()
    def _forward(self, observations: NDArray[Any]) -> tuple[Array, Array]:
        parameters, values = self._model(torch.from_numpy(np.ascontiguousarray(observations)))
        return parameters.numpy(), values.numpy()


def has_closed_form(model: ActorCritic) -> bool:
    """Whether a network acts, and learns, without torch."""
    return hasattr(model.trunk, "closed_form")


def actor_for(model: ActorCritic) -> Actor:
    """The fastest actor that a network has."""
    return ClosedFormActor(model) if has_closed_form(model) else ModuleActor(model)
