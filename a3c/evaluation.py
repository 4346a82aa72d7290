"""Greedy evaluation over a fixed number of episodes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a3c.environments import EnvironmentSpec

NATIVE_BATCH = 100
SERIAL_BATCH = 10  # scalar environments cost memory and gain nothing from a larger batch
PolicyLogits = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # observations [B, O] -> logits [B, A]


@dataclass(frozen=True, slots=True)
class Returns:
    """Undiscounted returns and lengths of the evaluated episodes, [E]."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    seed: int

    def statistics(self) -> dict[str, float]:
        """Mean, standard deviation (of the sample), minimum and maximum of the returns."""
        values = self.returns
        std = values.std(ddof=1) if len(values) > 1 else 0.0
        return {"mean": float(values.mean()), "std": float(std), "min": float(values.min()), "max": float(values.max())}


def evaluate(
    policy_logits: PolicyLogits,
    environment: EnvironmentSpec,
    episodes: int,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> Returns | None:
    """Play `episodes` whole episodes with the most probable action; None where `cancelled` said so before the end.

    Each environment of a batch plays exactly one episode, so that short episodes are not favoured. Equal arguments
    give equal returns, bit for bit on the same machine.
    """
    batch_size = min(episodes, NATIVE_BATCH if environment.spec.vector_entry_point else SERIAL_BATCH)
    environments = environment.make(batch_size)
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, np.int64)
    try:
        for first in range(0, episodes, batch_size):
            batch = slice(first, min(first + batch_size, episodes))
            observations, _ = environments.reset(seed=(seed + first) % 2**32)
            alive = np.zeros(batch_size, np.bool_)
            alive[: batch.stop - first] = True
            batch_returns, batch_lengths = np.zeros(batch_size), np.zeros(batch_size, np.int64)
            while alive.any():
                if cancelled():
                    return None
                actions = policy_logits(observations.astype(np.float32, copy=False)).argmax(-1)
                observations, rewards, terminated, truncated, _ = environments.step(actions)
                batch_returns += np.where(alive, rewards, 0.0)
                batch_lengths += alive
                alive &= ~(terminated | truncated)
            returns[batch] = batch_returns[: batch.stop - first]
            lengths[batch] = batch_lengths[: batch.stop - first]
    finally:
        environments.close()
    return Returns(returns, lengths, seed)
