"""Atari games: what training sees and what counts, one game and a batch, and what is missing."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a3c.config import ConfigError
from a3c.environments import describe


def played(environments: Any, steps: int, seed: int = 0) -> tuple[list[Any], ...]:
    """Observations, rewards and ends of random play."""
    rng = np.random.default_rng(seed)
    observations, rewards, ends = [environments.reset(seed=3)[0].copy()], [], []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = environments.step(rng.integers(4, size=environments.num_envs))
        observations.append(observation.copy())
        rewards.append(reward.copy())
        ends.append(terminated | truncated)
    environments.close()
    return observations, rewards, ends


def test_lives_and_clipped_rewards_are_of_training_alone() -> None:
    environment = describe("ALE/Breakout-v5")
    assert environment.observation.shape == (4, 84, 84)
    assert "in training alone: life_loss_info, reward_clipping" in environment.notes()[0]
    _, _, training = played(environment.make(2, training=True), 150)
    _, _, whole = played(environment.make(2), 150)
    assert np.sum(training) > 3 * max(np.sum(whole), 1)  # a game has five lives
    counts = np.cumsum(training, 0)[-1]
    assert (counts > 1).all()
    demanding = describe("ALE/Breakout-v5", env_kwargs=("life_loss_info=False", "reward_clipping=False"))
    assert demanding.training == {}
    game = describe("ALE/Qbert-v5")
    assert max(np.max(rewards) for rewards in played(game.make(2), 150)[1]) > 1
    assert max(np.max(rewards) for rewards in played(game.make(2, training=True), 150)[1]) == 1


def test_one_game_is_a_batch_of_one_and_repeats_itself_by_its_seed() -> None:
    environment = describe("ALE/Breakout-v5", env_kwargs=("repeat_action_probability=0.25",))
    one, again = (played(environment.make(1), 60) for _ in range(2))
    batch = played(environment.make(3), 1, seed=1)
    for first, second in zip(one[0], again[0], strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(one[0][0][0], batch[0][0][0])
    assert environment.max_episode_steps == 27_000


def test_an_episode_is_cut_at_its_limit() -> None:
    for count in (1, 2):
        environments = describe("ALE/Pong-v5", max_episode_steps=7).make(count)
        environments.reset(seed=0)
        truncated = [environments.step(np.zeros(count, np.int64))[3].all() for _ in range(7)]
        environments.close()
        assert truncated == [False] * 6 + [True]


def test_a_game_draws_its_screen_while_it_is_played() -> None:
    environment = describe("ALE/Pong-v5").make_one("rgb_array")
    environment.reset(seed=0)
    pictures: list[Any] = [environment.render()]
    for _ in range(40):
        environment.step(2)
        pictures.append(environment.render())
    environment.close()
    assert pictures[0].shape == (210, 160, 3)
    assert len({picture.tobytes() for picture in pictures}) > 20


def test_an_unknown_game_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^env: unknown environment 'ALE/Bong-v5'; did you mean [^\n]*Pong[^\n]*$"):
        describe("ALE/Bong-v5")


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [("ALE/Pong-v5", "ale_py", "atari"), ("minigrid:MiniGrid-MemoryS7-v0", "minigrid", "minigrid")],
)
def test_a_missing_package_is_one_line(env_id: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    needed = f"env: '{env_id}' needs the packages of the extra \"{extra}\": pip install"
    with pytest.raises(ConfigError, match=f"^{re.escape(needed)}"):
        describe(env_id)


@pytest.mark.skipif(importlib.util.find_spec("minigrid") is not None, reason="minigrid itself is found first")
def test_a_users_own_module_of_that_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from gymnasium.envs.classic_control import CartPoleEnv\nclass Mine(CartPoleEnv): pass\n"
    (tmp_path / "minigrid.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert describe("minigrid:Mine").observation.shape == (4,)
    finally:
        sys.modules.pop("minigrid", None)
