"""What a critic is reminded of: steps of earlier rollouts and the returns that followed them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.spaces import ObservationSpec

Array = NDArray[np.float32]
CAPACITY = 8192  # steps, the oldest of which go first


class CriticMemory:
    """Steps to rehearse, so that the critic does not forget states that the policy no longer visits.

    Rehearsal is the oldest cure of forgetting (Robins 1995); phasic policy gradient (Cobbe et al. 2021) trains its
    critic on stored returns likewise.
    """

    def __init__(self, observation: ObservationSpec):
        self._observations = np.zeros((CAPACITY, *observation.shape), observation.dtype)
        self._returns, self._count = np.zeros(CAPACITY, np.float32), 0

    def add(self, observations: NDArray[Any], returns: Array, valid: Array) -> None:
        """Keep the valid ones of observations [N, *shape] and returns [N]."""
        chosen = np.flatnonzero(valid)[-CAPACITY:]
        places = (self._count + np.arange(len(chosen))) % CAPACITY
        self._observations[places], self._returns[places] = observations[chosen], returns[chosen]
        self._count += len(chosen)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[Any], Array]:
        """So many steps at random, of those that are kept: observations [count, *shape] and returns [count]."""
        chosen = rng.integers(min(self._count, CAPACITY), size=count)
        return self._observations[chosen], self._returns[chosen]

    def state(self) -> dict[str, Any]:
        """All of it, for a worker's snapshot."""
        kept = min(self._count, CAPACITY)
        return {"observations": self._observations[:kept], "returns": self._returns[:kept], "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        kept = len(state["returns"])
        self._observations[:kept], self._returns[:kept] = state["observations"], state["returns"]
        self._count = state["count"]
