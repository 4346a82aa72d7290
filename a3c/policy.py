"""A trained policy as a function of observations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.actors import actor_for
from a3c.heads import Array, Categorical
from a3c.networks import ActorCritic


class Policy:
    """Actions, distributions and values of a trained actor-critic for batches of NumPy observations; an `Actor`."""

    def __init__(self, model: ActorCritic):
        self.model, self.head, self.observation = model, model.head, model.observation
        self._actor = actor_for(model)

    def __call__(
        self, observations: Any, *, greedy: bool = True, rng: np.random.Generator | None = None
    ) -> NDArray[Any]:
        """Actions [B, *action_shape] for observations [B, *shape], as the environment takes them.

        The most probable ones, or sampled with `rng` where not greedy.

        Raises:
            ValueError: the observations are of another shape.
        """
        return self.head.to_env(self.actions(observations, greedy=greedy, rng=rng))

    def actions(
        self, observations: Any, *, greedy: bool = True, rng: np.random.Generator | None = None
    ) -> NDArray[Any]:
        """The same actions, as the head counts them."""
        parameters = self.parameters(observations)
        if greedy:
            return self.head.mode(parameters)
        noise = np.empty((len(parameters), *self.head.noise_shape), np.float32)
        self.head.draw_noise(rng or np.random.default_rng(), noise)
        return self.head.sample(parameters, noise)

    @np.errstate(all="ignore")  # as training computes them, whatever the caller has NumPy raise
    def parameters(self, observations: Any) -> Array:
        """Parameters of the head's distribution [B, outputs]: of a categorical one, unnormalised log-probabilities."""
        return self._actor.parameters(self._batch(observations))

    @np.errstate(all="ignore")
    def probabilities(self, observations: Any) -> Array:
        """pi(a|s), [B, A]."""
        assert isinstance(self.head, Categorical)
        return self.head.probabilities(self.parameters(observations))

    @np.errstate(all="ignore")
    def values(self, observations: Any) -> Array:
        """V(s), [B], the critic's estimate of the discounted return."""
        return self._actor.values(self._batch(observations))

    def _batch(self, observations: Any) -> NDArray[Any]:
        batch, shape = np.asarray(observations, dtype=self.observation.dtype), self.observation.shape
        if batch.shape[1:] != shape or batch.ndim != len(shape) + 1:
            wanted = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"observations must have the shape [{wanted}], got {list(batch.shape)}")
        return batch
