"""Environments whose velocities are hidden, so that only a policy that remembers can know them: `a3c.masked:NAME`.

As rl-baselines3-zoo has them under names that end in NoVel; there what is hidden is 0, here it is left out.
"""

from typing import Any

import gymnasium
import numpy as np


class _WithoutVelocities(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observes all numbers but those at some places."""

    env_id: str
    hidden: tuple[int, ...]

    def __init__(self, render_mode: str | None = None):
        super().__init__(gymnasium.make(self.env_id, render_mode=render_mode))
        space: Any = self.env.observation_space
        self._seen = np.delete(np.arange(space.shape[0]), self.hidden)
        low, high = space.low[self._seen], space.high[self._seen]
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=space.dtype)

    def observation(self, observation: Any) -> Any:
        return observation[self._seen]


class CartPoleNoVel(_WithoutVelocities):
    """CartPole-v1: position and angle alone."""

    env_id, hidden = "CartPole-v1", (1, 3)


class PendulumNoVel(_WithoutVelocities):
    """Pendulum-v1: cosine and sine of the angle alone."""

    env_id, hidden = "Pendulum-v1", (2,)


class LunarLanderNoVel(_WithoutVelocities):
    """LunarLander-v3: position, angle and legs alone."""

    env_id, hidden = "LunarLander-v3", (2, 3, 5)
