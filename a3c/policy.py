"""A trained policy as a function of observations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.closed_form import ClosedForm
from a3c.networks import ActorCritic


class Policy:
    """Actions, probabilities and values of a trained actor-critic for batches of NumPy observations.

    Actions are numbered as the environment numbers them: the first of them is `action_start`, and the first column of
    logits and probabilities is its own.
    """

    def __init__(self, model: ActorCritic):
        self.model = model
        self.observation_size, self.action_start = model.observation_size, model.action_start
        self._network = ClosedForm(model)

    def __call__(
        self, observations: Any, *, greedy: bool = True, rng: np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """Actions [B] for observations [B, O]: the most probable ones, or sampled with `rng` where not greedy.

        Raises:
            ValueError: the observations are not [B, O].
        """
        return self.indices(observations, greedy=greedy, rng=rng) + self.action_start

    def indices(
        self, observations: Any, *, greedy: bool = True, rng: np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """The same actions, counted from 0."""
        scores = self.logits(observations)
        if not greedy:
            scores = scores + (rng or np.random.default_rng()).gumbel(size=scores.shape).astype(np.float32)
        indices: NDArray[np.int64] = scores.argmax(-1)
        return indices

    @np.errstate(all="ignore")  # as training computes them, whatever the caller has NumPy raise
    def logits(self, observations: Any) -> NDArray[np.float32]:
        """Unnormalised log-probabilities [B, A] of observations [B, O]."""
        return self._network.policy_logits(self._batch(observations))

    @np.errstate(all="ignore")
    def probabilities(self, observations: Any) -> NDArray[np.float32]:
        """pi(a|s), [B, A], of observations [B, O]."""
        logits = self.logits(observations)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities: NDArray[np.float32] = weights / weights.sum(-1, keepdims=True)
        return probabilities

    @np.errstate(all="ignore")
    def values(self, observations: Any) -> NDArray[np.float32]:
        """V(s), [B], the critic's estimate of the discounted return, of observations [B, O]."""
        return self._network.values(self._batch(observations))

    def _batch(self, observations: Any) -> NDArray[np.float32]:
        batch = np.asarray(observations, dtype=np.float32)
        if batch.ndim != 2 or batch.shape[1] != self.observation_size:
            raise ValueError(f"observations must have the shape [B, {self.observation_size}], got {list(batch.shape)}")
        return batch
