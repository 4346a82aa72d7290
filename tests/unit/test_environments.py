"""Looking environments up, refusing what cannot be used, and stepping several as one."""

import pickle
import re
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode

from a3c import environments as module
from a3c.config import ConfigError
from a3c.environments import NATIVE_FROM, UNLIMITED, SlowEnvironments, describe
from a3c.heads import Categorical
from a3c.native import NativeEnvironments
from a3c.serial import SerialEnvironments
from a3c.spaces import ObservationSpec
from tests.unit.scripted_environments import Endless, Script, Tampered, Walk, register, scripted


class Broken(gymnasium.Env):
    def __init__(self):
        raise RuntimeError("no licence\n  found")


class Silent(gymnasium.Env):
    def __init__(self):
        raise KeyError


class Image(Endless):
    observation_space = Box(0, 255, (8, 8, 3), np.uint8)


class SameStepCartPole(CartPoleVectorEnv):
    metadata = CartPoleVectorEnv.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}


def complaint(env_id):
    with pytest.raises(ConfigError) as caught:
        describe(env_id)
    message = str(caught.value)
    assert message.startswith("env: ")
    assert "\n" not in message
    return message


def test_description_of_cartpole():
    environment = describe("CartPole-v1")
    assert (environment.env_id, environment.max_episode_steps) == ("CartPole-v1", 500)
    assert (environment.observation, environment.head) == (ObservationSpec((4,)), Categorical(2))
    assert (environment.target(None), environment.target(9.0)) == (475.0, 9.0)


def test_description_of_an_environment_without_limit_and_threshold():
    environment = scripted(Endless, actions=5)
    assert (environment.observation, environment.head) == (ObservationSpec((1,)), Categorical(5))
    assert (environment.target(None), environment.max_episode_steps) == (None, UNLIMITED)


@pytest.mark.parametrize("env_id", ["CartPole-v9", "CartPole", "cartpole-v1", "Cartpol-v1", "gymnasium:CartPol-v1"])
def test_unknown_id_is_refused_with_near_names(env_id):
    message = complaint(env_id)
    assert f"'{env_id}'" in message
    assert "did you mean" in message
    assert "CartPole-v1" in message


@pytest.mark.parametrize("env_id", ["Qqqqqqqq-v0", "not an id", "", "a:b:c"])
def test_id_near_to_nothing_is_refused(env_id):
    assert f"'{env_id}'" in complaint(env_id)


def test_environment_that_cannot_be_made_is_refused_with_the_cause_on_one_line():
    assert "no licence found" in complaint(register(Broken))
    assert "KeyError" in complaint(register(Silent))
    assert "no_such_module" in complaint(register("no_such_module:Env"))


def test_module_of_an_id_is_imported(tmp_path, monkeypatch):
    (tmp_path / "islands.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Island-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "Island-v0" in complaint("Island-v0")
    environment = describe("islands:Island-v0")
    assert (environment.env_id, environment.max_episode_steps) == ("islands:Island-v0", 9)
    assert "did you mean Island-v0" in complaint("islands:Iland-v0")
    assert "no_such_module" in complaint("no_such_module:Island-v0")


def test_module_that_fails_to_import_is_refused_with_the_cause(tmp_path, monkeypatch):
    (tmp_path / "sunken_islands.py").write_text("raise RuntimeError('sunk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "sunk" in complaint("sunken_islands:Island-v0")


def test_description_makes_environments_where_their_id_was_never_registered():
    env_id = register("gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=7)
    sent = pickle.dumps(describe(env_id))
    del gymnasium.registry[env_id]
    environments = pickle.loads(sent).make(2)
    assert environments.reset(seed=0)[0].shape == (2, 4)


@pytest.mark.parametrize("count", [1, 3])
def test_environment_need_not_know_of_render_modes(count):
    """A constructor without a `render_mode` argument is fine as long as nobody watches."""
    assert scripted(Endless).make(count).reset(seed=0)[0].shape == (count, 1)


@pytest.mark.parametrize("count", [1, 8])
def test_max_episode_steps_cuts_serial_and_native_environments(count):
    environment = describe("CartPole-v1", max_episode_steps=5)
    assert environment.max_episode_steps == 5
    environments = environment.make(count)
    assert isinstance(environments, SerialEnvironments if count == 1 else NativeEnvironments)
    environments.reset(seed=0)
    for step in range(1, 12):
        _, _, terminated, truncated, _ = environments.step(np.full(count, step % 2))
        assert (truncated == (step in (5, 11))).all()
        assert not terminated.any()


def test_max_episode_steps_may_exceed_the_environments_own():
    environments = describe(register(Endless, max_episode_steps=3), max_episode_steps=6).make(1)
    environments.reset()
    assert [bool(environments.step(np.array([0]))[3][0]) for _ in range(6)] == [False] * 5 + [True]


@pytest.mark.parametrize("max_episode_steps", [None, 800])
def test_native_environment_has_the_limit_of_the_description(max_episode_steps):
    environments = describe("CartPole-v1", max_episode_steps).make(NATIVE_FROM)
    environments.reset(seed=0)
    assert environments.state()["max_episode_steps"] == (max_episode_steps or 500)


def test_native_environments_that_reset_within_a_step_are_not_used():
    env_id = register("gymnasium.envs.classic_control:CartPoleEnv", vector_entry_point=SameStepCartPole)
    assert isinstance(describe(env_id).make(3), SerialEnvironments)


def test_native_environments_whose_actions_start_elsewhere_are_not_used():
    class Shifted(CartPoleVectorEnv):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.single_action_space = Discrete(2, start=1)

    env_id = register("gymnasium.envs.classic_control:CartPoleEnv", vector_entry_point=Shifted)
    assert isinstance(describe(env_id).make(3), SerialEnvironments)


def test_serial_environments_are_seeded_one_after_the_other():
    scalars = [Endless() for _ in range(3)]
    SerialEnvironments(scalars).reset(seed=40)
    assert [scalar.np_random_seed for scalar in scalars] == [40, 41, 42]


class Seeded(Script):
    """Remembers what it was reset with."""

    def __init__(self, rewards):
        super().__init__(rewards)
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return super().reset()


@pytest.mark.parametrize("seed", [40, None])
def test_every_episode_starts_from_a_seed_of_its_own(seed):
    def seeds():
        scalars = [Seeded([[1.0]]) for _ in range(2)]
        environments = SerialEnvironments(scalars)
        environments.reset(seed=seed)
        for _ in range(10):
            environments.step(np.zeros(2, np.int64))
        return scalars[0].seeds + scalars[1].seeds

    drawn = seeds()
    assert len(set(drawn)) == 2 * 6
    assert all(type(number) is int and 0 <= number < 2**32 for number in drawn)
    assert (drawn == seeds()) == (seed is not None)


def test_serial_reset_gives_each_environment_its_own_first_observation():
    observations, _ = describe("Acrobot-v1").make(3).reset(seed=11)
    for b in range(3):
        np.testing.assert_array_equal(observations[b], gymnasium.make("Acrobot-v1").reset(seed=11 + b)[0])


def test_serial_environments_shift_actions_to_where_they_start():
    scalars = [Endless(actions=3, action_start=start) for start in (5, 5)]
    environments = SerialEnvironments(scalars)
    environments.reset()
    environments.step(np.array([0, 2]))
    environments.step(np.array([1, 1]))
    assert [scalar.received for scalar in scalars] == [[5, 6], [7, 6]]
    assert all(type(action) is int for scalar in scalars for action in scalar.received)


def test_serial_environment_that_ended_is_reset_by_the_next_step_alone():
    environments = SerialEnvironments([Script([[1.0], [2.0, 3.0]]), Script([[4.0] * 9])])
    environments.reset()
    seen = []
    for _ in range(4):
        observations, rewards, terminated, _, _ = environments.step(np.zeros(2, np.int64))
        seen.append((*observations[0].tolist(), float(rewards[0]), bool(terminated[0]), float(rewards[1])))
    assert seen == [
        (0, 1, 1, True, 4),  # the final observation of episode 0
        (1, 0, 0, False, 4),  # the resetting step
        (1, 1, 2, False, 4),
        (1, 2, 3, True, 4),
    ]


def test_resetting_step_ignores_its_action():
    walk = Walk()
    environments = SerialEnvironments([walk])
    environments.reset()
    for _ in range(3):
        environments.step(np.array([1]))
    environments.step(np.array([1]))
    assert walk.position == 0


def test_reset_forgets_an_end():
    environments = SerialEnvironments([Script([[1.0], [2.0, 3.0]])])
    environments.reset()
    environments.step(np.array([0]))
    environments.reset()
    _, rewards, _, _, _ = environments.step(np.array([0]))
    assert rewards[0] == 2.0


REFUSED = [
    ({"observation": np.zeros(1)}, "observation of shape (1,), expected (4,)"),  # NumPy would broadcast these three
    ({"observation": 0.0}, "observation of shape (), expected (4,)"),
    ({"observation": np.zeros((1, 4), np.float32)}, "observation of shape (1, 4), expected (4,)"),
    ({"observation": np.zeros(5)}, "observation of shape (5,), expected (4,)"),
    ({"observation": None}, "observation of shape (), expected (4,)"),
    ({"observation": np.array(["1", "2", "3", "4"])}, "observation of dtype <U1, expected numbers"),
    ({"observation": np.zeros(4, complex)}, "observation of dtype complex128, expected numbers"),
    ({"reward": np.ones(1)}, "reward of shape (1,), expected ()"),
    ({"reward": "1.0"}, "reward of dtype <U3, expected numbers"),
    ({"reward": None}, "reward of dtype object, expected numbers"),
    ({"terminated": None}, "terminated of dtype object, expected booleans or whole numbers"),
    ({"truncated": "False"}, "truncated of dtype <U5, expected booleans or whole numbers"),
    ({"truncated": np.zeros(1, bool)}, "truncated of shape (1,), expected ()"),
]


@pytest.mark.parametrize(("returned", "complaint"), REFUSED)
def test_what_numpy_would_quietly_convert_is_refused(returned, complaint):
    environments = SerialEnvironments([Tampered(), Tampered(**returned)])
    environments.reset(seed=0)
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}\nin step of "):
        environments.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(
    "returned",
    [
        {"observation": [1, 1, 1, 1], "reward": 1, "terminated": 1, "truncated": 1},
        {"observation": np.ones(4), "reward": np.float64(1), "terminated": np.True_, "truncated": np.True_},
        {"observation": np.ones(4, np.int8), "reward": np.ones(()), "terminated": np.ones((), bool), "truncated": True},
        {"observation": np.ones(4, bool), "reward": True, "terminated": True, "truncated": np.int64(1)},
    ],
)
def test_numbers_of_any_kind_are_taken(returned):
    environments = SerialEnvironments([Tampered(**returned)])
    environments.reset(seed=0)
    observations, rewards, terminated, truncated, _ = environments.step(np.zeros(1, np.int64))
    assert observations.tolist() == [[1, 1, 1, 1]]
    assert (rewards[0], terminated[0], truncated[0]) == (1, True, True)


def test_first_observation_of_another_shape_is_refused():
    environment = Tampered()
    environment.first = np.zeros(1)
    with pytest.raises(ValueError, match=r"^observation of shape \(1,\), expected \(4,\)\nin reset of Tampered$"):
        SerialEnvironments([environment]).reset(seed=0)


@pytest.mark.parametrize(
    ("position", "replacement", "complaint"),
    [
        (0, np.zeros((3, 1), np.float32), "observations of shape (3, 1), expected (3, 4)"),
        (0, np.zeros(4, np.float32), "observations of shape (4,), expected (3, 4)"),
        (1, np.ones(1), "rewards of shape (1,), expected (3,)"),
        (1, np.array([None] * 3), "rewards of dtype object, expected numbers"),
        (2, np.zeros(3), "terminated of dtype float64, expected booleans or whole numbers"),
        (3, False, "truncated of shape (), expected (3,)"),
    ],
)
def test_what_a_native_environment_returns_is_checked_too(position, replacement, complaint):
    class Altered(CartPoleVectorEnv):
        def step(self, action):
            returned = list(super().step(action))
            returned[position] = replacement
            return tuple(returned)

    environments = NativeEnvironments(Altered(num_envs=3))
    environments.reset(seed=0)
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}\nin step of "):
        environments.step(np.zeros(3, np.int64))


def test_closing_closes_every_environment(monkeypatch):
    closed = []
    monkeypatch.setattr(Endless, "close", lambda self: closed.append(self))
    scalars = [Endless() for _ in range(3)]
    SerialEnvironments(scalars).close()
    assert closed == scalars


@pytest.mark.parametrize("actions", [{"actions": 2}, {"action_space": "continuous"}])
def test_description_closes_the_environment_it_made(monkeypatch, actions):
    closed = []
    monkeypatch.setattr(Endless, "close", lambda self: closed.append(self))
    if "actions" in actions:
        describe(register(Endless, **actions))
    else:
        monkeypatch.setattr(Endless, "observation_space", Box(0, 1, (2, 2)))
        complaint(register(Endless))
    assert len(closed) == 1


def test_environments_that_are_asleep_for_long_show_signs_of_life(monkeypatch):
    monkeypatch.setattr(module, "NAP_SECONDS", 0.01)
    beats = []
    began = time.monotonic()
    environments = SlowEnvironments(scripted(Endless).make(2), latency_ms=20, beat=lambda: beats.append(None))
    environments.reset(seed=0)
    environments.step(np.zeros(2, np.int64))
    assert len(beats) == 3
    assert time.monotonic() - began >= 0.04


class Counted(Endless):
    """Counts the resets of all its instances."""

    resets = 0

    def reset(self, **options):
        Counted.resets += 1
        return super().reset(**options)


def test_an_environment_is_reset_once_before_a_run():
    describe(register(Counted))
    assert Counted.resets == 1
