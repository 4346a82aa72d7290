"""Atari games by the Arcade Learning Environment. Needs the package ale-py.

A batch is its own vector environment, which makes the pictures in C++. One game alone is such a batch of one, so that
whoever plays sees the same.
"""

from typing import Any

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec

FRAMES = 4  # of the game per action (Mnih et al. 2015)
LONGEST = 108_000  # frames of an episode: half an hour
CHOICES: dict[str, Any] = {
    "frameskip": FRAMES,
    "stack_num": 4,
    "noop_max": 30,
    "repeat_action_probability": 0.0,
    "use_fire_reset": True,
    "life_loss_info": False,
    "reward_clipping": False,
}
# In training a lost life ends an episode, and the game goes on (what ale-py calls episodic_life begins a new game, so
# that nothing is seen of what follows the first life). An evaluation plays whole games, for the true score.
TRAINING = {"life_loss_info": True, "reward_clipping": True}
HIGHEST_SEED = 2**31 - 2**20  # room for one more for each environment


class AtariBatch(AtariVectorEnv):
    """B games; options are those of `AtariVectorEnv`."""

    def __init__(self, game: str, num_envs: int, max_episode_steps: int | None = None, **options: Any):
        chosen = {**CHOICES, **options}
        frames = LONGEST if max_episode_steps is None else max_episode_steps * chosen["frameskip"]
        super().__init__(game, num_envs, num_threads=1, max_num_frames_per_episode=frames, **chosen)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=None if seed is None else int(seed) % HIGHEST_SEED, options=options)


class AtariGame(gymnasium.Env[Any, Any]):
    """One game; it is drawn from a second one that is played alongside, in the colours and size of the screen."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60 // FRAMES}  # noqa: RUF012

    def __init__(self, game: str, render_mode: str | None = None, **options: Any):
        self.render_mode, screen = render_mode, {"img_height": 210, "img_width": 160, "grayscale": False}
        self._batches = [AtariBatch(game, 1, **options)]
        if render_mode is not None:
            self._batches.append(AtariBatch(game, 1, **{**options, **screen, "stack_num": 1}))
        self.observation_space = self._batches[0].single_observation_space
        self.action_space = self._batches[0].single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(HIGHEST_SEED)) if seed is None else seed
        self._pictures = [batch.reset(seed=seed)[0][0] for batch in self._batches]
        return self._pictures[0], {}

    def step(self, action: Any) -> Any:
        steps = [batch.step(np.array([action])) for batch in self._batches]
        self._pictures = [step[0][0] for step in steps]
        _, rewards, terminated, truncated, _ = steps[0]
        return self._pictures[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        return None if self.render_mode is None else self._pictures[1][0]

    def close(self) -> None:
        for batch in self._batches:
            batch.close()


def atari_spec(spec: EnvSpec) -> EnvSpec:
    """The spec of a game that ale-py has registered, with the choices of this module."""
    module, game = AtariGame.__module__, spec.kwargs["game"]
    return EnvSpec(
        spec.id,
        f"{module}:{AtariGame.__name__}",
        vector_entry_point=f"{module}:{AtariBatch.__name__}",
        kwargs={"game": game},
        max_episode_steps=LONGEST // FRAMES,
    )
