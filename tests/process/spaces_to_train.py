"""Environments of odd spaces, which refuse whatever is not allowed; a module that a run's processes import."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Masked(gymnasium.Env[Any, Any]):
    """Three of four actions are forbidden at each step, by a part of the observation; taking one is an error."""

    observation_space = spaces.Dict(board=spaces.Box(-1, 1, (2,)), action_mask=spaces.MultiBinary(4))
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        self.allowed = np.int8(np.arange(4) == self.np_random.integers(4))
        return {"board": np.zeros(2, np.float32), "action_mask": self.allowed}

    def step(self, action: Any) -> Any:
        if not self.allowed[action]:
            raise RuntimeError(f"action {action} is forbidden")
        self.steps += 1
        return self.seen(), 1.0, self.steps == 10, False, {}


class Mixed(gymnasium.Env[Any, Any]):
    """Every kind of space at once; 1 a step where the switch is on and the number is high."""

    observation_space = spaces.Tuple(
        [spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 3]), spaces.Dict(x=spaces.Box(-np.inf, np.inf, ()))]
    )
    action_space = spaces.Dict(
        switch=spaces.Discrete(2, start=-1), level=spaces.Box(0, 10, (1,)), keys=spaces.MultiBinary(2)
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = float(action["switch"] == 0) + float(action["level"][0] > 9)
        return self.observation_space.sample(), reward, False, self.steps == 20, {}


class AllForbidden(Masked):
    """After three steps its mask forbids everything."""

    def seen(self) -> dict[str, Any]:
        self.allowed = np.ones(4, np.int8) if self.steps < 3 else np.zeros(4, np.int8)
        return {"board": np.zeros(2, np.float32), "action_mask": self.allowed}


class InfoMasked(Masked):
    """The same with the mask in `info`, and a number from 0 to 4 to observe."""

    observation_space = spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return 2, {"action_mask": self.allowed}

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        return 2, *others[:3], {"action_mask": self.allowed}


class Spot(gymnasium.Env[Any, Any]):
    """A bright spot moves across a picture, beside a number of it: 1 for the action that names its half."""

    observation_space = spaces.Dict(eye=spaces.Box(0, 255, (24, 20, 3), np.uint8), side=spaces.Box(-1, 1, (1,)))
    action_space = spaces.Discrete(2)
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        self.place = int(self.np_random.integers(20))
        self.eye = np.zeros((24, 20, 3), np.uint8)
        self.eye[:, self.place] = 255
        return {"eye": self.eye, "side": np.zeros(1, np.float32)}

    def step(self, action: Any) -> Any:
        reward = float(action == (self.place >= 10))
        self.steps += 1
        return self.seen(), reward, self.steps == 10, False, {}

    def render(self) -> Any:
        return self.eye
