"""CartPole with wide observations, its four numbers and then zeros: `--env benchmarks.wide_cartpole:WideCartPole64-v0`.

What grows with the observation is then the size alone; what there is to learn stays the same.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

SIZES = (64, 1024, 16384)


class WideCartPole(gymnasium.ObservationWrapper[Any, Any, Any]):
    """CartPole whose observations have `size` numbers."""

    def __init__(self, size: int):
        super().__init__(CartPoleEnv())
        self._size = size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The observation with zeros behind it."""
        wide = np.zeros(self._size, np.float32)
        wide[: len(observation)] = observation
        return wide


def env_id(size: int) -> str:
    """What `--env` needs for CartPole with observations of `size` numbers."""
    return "CartPole-v1" if size == 4 else f"{__name__}:WideCartPole{size}-v0"


for _size in SIZES:
    gymnasium.register(
        f"WideCartPole{_size}-v0", f"{__name__}:WideCartPole", kwargs={"size": _size}, max_episode_steps=500
    )
