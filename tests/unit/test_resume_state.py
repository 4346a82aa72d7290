"""A collector's state: what is continued from it equals, bit for bit, what was never interrupted."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c import serial as module
from a3c.config import Config
from a3c.environments import SlowEnvironments, describe
from a3c.native import NativeEnvironments
from a3c.rollouts import STEPS, Collector
from a3c.serial import SerialEnvironments
from shared.scoreboard import STOP, Scoreboard
from tests.unit.scripted_environments import Endless, Script, Walk, array_to_json, copy, scripted
from workers.actor_learner import learn
from workers.link import SharedMemoryLink
from workers.training import build_store

TOTALS = ("env_steps", "episodes", "return_sum", "recent_returns")
KINDS = ["one CartPole", "seven CartPoles", "three Acrobots", "native CartPoles", "slow CartPoles"]


def environments_of(kind):
    """Episodes are cut short, so that a few rollouts see many of them, terminated and truncated."""
    cartpole = describe("CartPole-v1", max_episode_steps=17)
    return {
        "one CartPole": lambda: cartpole.make(1),
        "seven CartPoles": lambda: SerialEnvironments([cartpole.make_one() for _ in range(7)]),
        "three Acrobots": lambda: describe("Acrobot-v1", max_episode_steps=9).make(3),
        "native CartPoles": lambda: cartpole.make(8),
        "slow CartPoles": lambda: SlowEnvironments(
            SerialEnvironments([cartpole.make_one() for _ in range(2)]), 0.01, lambda: None
        ),
    }[kind]()


def collector_of(environments, seed, n_steps=5, beat=lambda: None):
    return Collector(environments, n_steps, np.random.default_rng(seed), beat)


def policy(_, observations, out):
    """Looks at every number, so that the smallest difference changes what follows."""
    shape = observations.shape[1], out.shape[1]
    out[:] = observations @ np.linspace(-3, 3, shape[0] * shape[1]).reshape(shape)


def arrays(rollout):
    return {name: getattr(rollout, name) for name in ("observations", *STEPS)}


def collect(collector, times):
    return [arrays(copy(collector.collect(policy))) for _ in range(times)]


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False, default=array_to_json))


def assert_equal_futures(one, other, times=6):
    for expected, continued in zip(collect(one, times), collect(other, times), strict=True):
        for name, array in expected.items():
            assert array.tobytes() == continued[name].tobytes(), name
    assert through_json(one.state()) == through_json(other.state())  # totals and generators


def assert_continued(original, other):
    """`other` resumes from the state of `original` as that one does itself; also from JSON, its older form."""
    state = original.state()
    for form in (state, through_json(state)):
        assert other.restore(form)
        assert through_json(other.state()) == through_json(state)
    assert [getattr(other, name) for name in TOTALS] == [getattr(original, name) for name in TOTALS]
    assert_equal_futures(original, other)


@pytest.mark.parametrize("kind", KINDS)
def test_restored_collector_goes_on_bit_for_bit(kind):
    for rollouts in (0, 1, 120):
        original = collector_of(environments_of(kind), seed=1)
        collect(original, rollouts)
        assert (original.episodes > 30) == (rollouts == 120)
        used = collector_of(environments_of(kind), seed=2)
        collect(used, 7)
        assert_continued(original, used)


@pytest.mark.parametrize("kind", KINDS)
def test_state_between_an_end_and_its_reset_is_exact(kind):
    for end in ("truncated",) if kind == "three Acrobots" else ("terminated", "truncated"):
        original = collector_of(environments_of(kind), seed=1, n_steps=1)
        assert any(getattr(original.collect(policy), end).any() for _ in range(500))
        assert_continued(original, collector_of(environments_of(kind), seed=2, n_steps=1))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_state_of_any_moment_is_exact(kind, rollouts, n_steps, seed):
    original = collector_of(environments_of(kind), seed, n_steps)
    collect(original, rollouts)
    assert_continued(original, collector_of(environments_of(kind), seed + 1, n_steps))


def future(collector):
    """What the next rollouts hold and what is counted of them, briefly."""
    digest = hashlib.sha256()
    for rollout in collect(collector, 10):
        for array in rollout.values():
            digest.update(array.tobytes())
    return [digest.hexdigest(), through_json(collector.state())]


def restored_futures(states):
    collectors = {kind: collector_of(environments_of(kind), seed=2) for kind in states}
    return {kind: [collector.restore(states[kind]), *future(collector)] for kind, collector in collectors.items()}


def test_another_process_goes_on_bit_for_bit():
    originals = {kind: collector_of(environments_of(kind), seed=1) for kind in KINDS}
    for original in originals.values():
        collect(original, 20)
    states = {kind: through_json(original.state()) for kind, original in originals.items()}
    child = (
        "import json, sys; from tests.unit.test_resume_state import restored_futures;"
        "json.dump(restored_futures(json.load(sys.stdin)), sys.stdout)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", child], cwd=root, input=json.dumps(states), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {kind: [True, *future(original)] for kind, original in originals.items()}


@pytest.mark.parametrize("kind", ["seven CartPoles", "slow CartPoles"])
def test_every_replayed_step_is_a_sign_of_life(kind):
    original = collector_of(environments_of(kind), seed=1)
    collect(original, 3)
    state = original.state()
    beats = []
    other = collector_of(environments_of(kind), seed=2, beat=lambda: beats.append(None))
    beats.clear()
    assert other.restore(state)
    assert len(beats) == sum(len(actions) for actions in state["environments"]["actions"]) > 7


class Moody(Walk):
    """Begins somewhere else whatever its seed."""

    def reset(self, *, seed=None, options=None):
        self.position = np.random.default_rng().normal()
        return np.array([self.position], np.float32), {}

    def step(self, action):
        observation, reward, _, _, _ = super().step(action)
        return observation, reward, False, False, {}


class Tiring(gymnasium.Env):
    """Every episode is shorter by one than the one before; what it observes is always the same."""

    action_space, observation_space = Endless().action_space, Endless.observation_space

    def __init__(self, length):
        self.length = length + 1

    def reset(self, *, seed=None, options=None):
        self.length, self.t = self.length - 1, 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        assert self.t < self.length, "stepped after its end"
        self.t += 1
        return np.ones(1, np.float32), 1.0, np.bool_(self.t == self.length), False, {}


def assert_begins_afresh(original, other):
    """The totals are the original's, the episodes are new, and what was under way is dropped."""
    state = through_json(original.state())
    assert any(state["running_returns"]) or any(state["ended"])
    assert not other.restore(state)
    assert [getattr(other, name) for name in TOTALS] == [getattr(original, name) for name in TOTALS]
    assert not any(other.state()["ended"])
    assert not any(other.state()["running_returns"])
    assert collect(other, 1)[0]["valid"][0].all()
    assert other.env_steps > original.env_steps


def test_environment_that_does_not_repeat_itself_begins_afresh():
    original, other = (collector_of(scripted(Moody).make(2), seed) for seed in (1, 2))
    collect(original, 3)
    assert_begins_afresh(original, other)


def test_environment_that_counts_its_episodes_begins_afresh():
    original, other = (collector_of(scripted(Script, rewards=[[1.0] * 7]).make(1), seed) for seed in (1, 2))
    collect(original, 4)
    assert_begins_afresh(original, other)
    before = other.return_sum
    collect(other, 2)
    assert other.return_sum == before + 14.0


@pytest.mark.parametrize(("steps", "length"), [(30, 30), (30, 20), (39, 45)])
def test_environment_that_ends_elsewhere_in_the_replay_begins_afresh_and_is_not_stepped_after_its_end(steps, length):
    """Equal observations are not enough: the replay ends with its last step, well before it, or not where it should."""
    original = collector_of(SerialEnvironments([Tiring(39)]), seed=1, n_steps=steps)
    assert original.collect(policy).terminated[-1, 0] == (steps == 39)
    assert_begins_afresh(original, collector_of(SerialEnvironments([Tiring(length + 1)]), seed=2))


@pytest.mark.parametrize(("rollouts", "restored"), [(4, True), (5, False)])
def test_episode_too_long_to_replay_begins_afresh_and_costs_no_more_memory(monkeypatch, rollouts, restored):
    monkeypatch.setattr(module, "REPLAYABLE_STEPS", 20)
    original, other = (collector_of(scripted(Endless).make(1), seed) for seed in (1, 2))
    collect(original, rollouts)
    if restored:
        assert_continued(original, other)
    else:
        assert_begins_afresh(original, other)
    collect(original, 20)
    assert original.state()["environments"]["actions"][0].shape == (21,)


def test_more_actions_than_a_byte_counts_are_replayed():
    class Wide(Endless):
        def step(self, action):
            return np.array([action / 1000], np.float32), 1.0, False, False, {}

    original, other = (SerialEnvironments([Wide(actions=1000, action_start=-5)]) for _ in range(2))
    original.reset(seed=0)
    for action in (3, 999, 256):
        observations = original.step(np.array([action]))[0]
    other.reset(seed=1)
    state = through_json(original.state())
    assert other.restore(state, observations)
    assert through_json(other.state()) == state
    assert not other.restore(state, observations + np.float32(1e-7))


class Keeping(CartPoleVectorEnv):
    """Has an attribute more."""

    def __init__(self, attribute, **kwargs):
        super().__init__(**kwargs)
        self.attribute = attribute


class Shared(CartPoleVectorEnv):
    """Knows an array and a generator by two names each, and counts its steps in a plain number."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.fuel = np.zeros(self.num_envs, np.float32)
        self.burnt, self.noise, self.clock = self.fuel, self.np_random, 0

    def step(self, action):
        observations, _, terminated, truncated, info = super().step(action)
        self.burnt += 1
        self.clock += 1
        return observations, self.fuel + self.clock + self.noise.normal(), terminated, truncated, info

    def reset(self, **kwargs):
        returned = super().reset(**kwargs)
        self.noise = self.np_random
        return returned


@pytest.mark.parametrize("attribute", [[10.0], np.array([None]), np.float32(1), np.inf, np.random.RandomState(0)])
def test_native_state_in_anything_unknown_begins_afresh(attribute):
    original, other = (collector_of(NativeEnvironments(Keeping(attribute, num_envs=3)), seed) for seed in (1, 2))
    collect(original, 2)
    assert_begins_afresh(original, other)


def test_native_arrays_and_generators_stay_shared():
    original, other = (collector_of(NativeEnvironments(Shared(num_envs=3)), seed) for seed in (1, 2))
    collect(original, 2)
    assert_continued(original, other)


def test_native_environments_never_reset_are_restored_too():
    original, other = (describe("CartPole-v1").make(6) for _ in range(2))
    observations, _ = original.reset(seed=0)
    assert other.restore(through_json(original.state()), observations)
    assert through_json(other.state()) == through_json(original.state())


@pytest.mark.parametrize("kind", ["native", "serial"])
def test_state_of_other_environments_does_not_fit(kind):
    cartpole = describe("CartPole-v1")
    made = {"native": cartpole.make(6), "serial": SerialEnvironments([cartpole.make_one() for _ in range(6)])}
    others = [cartpole.make(5), SerialEnvironments([cartpole.make_one() for _ in range(2)]), *made.values()]
    observations, _ = made[kind].reset(seed=0)
    observations, state = observations.copy(), through_json(made[kind].state())
    assert [other.restore(state, observations) for other in others] == [False] * 2 + [
        other is made[kind] for other in made.values()
    ]


def test_row_of_a_worker_that_takes_over_begins_at_its_last_push(tmp_path):
    """Its predecessor died, or the run was saved, between that push and the row; there may be no other push."""
    config, scoreboard = Config(workers=2), Scoreboard(2)
    environment = describe(config.env)
    store = build_store(config, environment, scoreboard)
    scoreboard.request(STOP)
    for env_steps in (7, 12):  # the second finds its predecessor's last snapshot too
        pulled = store.pull(torch.zeros(len(store.parameters)))
        store.push(1, torch.zeros(len(store.parameters)), 1e-3, env_steps, pulled)
        learn(1, config, environment, SharedMemoryLink(1, store, scoreboard))
        assert scoreboard.read()["env_steps"].tolist() == [0, env_steps]
