"""Evaluation over a fixed number of whole episodes."""

import functools
import itertools

import numpy as np
import pytest
from gymnasium.spaces import Box

from a3c.actors import actor_for
from a3c.environments import EnvironmentSpec, describe
from a3c.evaluation import Returns, evaluate
from a3c.networks import initialize
from tests.unit.networks import mlp
from tests.unit.scripted_environments import Endless, Script, SeededLength, Tampered, Walk, scripted


def always(action, actions=2):
    """A policy that takes one action everywhere, by the smallest of margins."""
    return lambda observations: np.full(len(observations), action)


def tilting(observations):
    """Pushes CartPole to where it leans: good for some tens of steps, how many depends on the start."""
    return (observations[:, 2] >= 0).astype(np.int64)


def after(steps):
    """Cancels an evaluation that should long be over, so that a fault fails instead of running for ever."""
    asked = itertools.count()
    return lambda: next(asked) > steps


@pytest.mark.parametrize("episodes", [1, 2, 10, 11, 23])
def test_each_episode_counts_once_whatever_its_length(episodes):
    """Lengths 1 to 5 by seed; an environment's later episodes would pay 1000, and a batch holds ten environments."""
    result = evaluate(always(0), scripted(SeededLength), episodes, seed=7, cancelled=after(100))
    lengths = [1 + (7 + episode) % 5 for episode in range(episodes)]
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_array_equal(result.returns, [2.0 * length for length in lengths])
    assert result.seed == 7


def test_statistics_are_mean_sample_deviation_minimum_and_maximum():
    statistics = Returns(np.array([1.0, 2.0, 6.0]), np.array([1, 1, 1]), 0).statistics()
    assert statistics == {"mean": 3.0, "std": pytest.approx(7**0.5), "min": 1.0, "max": 6.0}
    assert Returns(np.array([4.0]), np.array([1]), 0).statistics() == {"mean": 4.0, "std": 0.0, "min": 4.0, "max": 4.0}


@pytest.mark.parametrize(("action", "expected"), [(0, -1.5), (1, 4.5)])
def test_most_probable_action_is_taken(action, expected):
    result = evaluate(always(action), scripted(Walk), 12, seed=0)
    np.testing.assert_array_equal(result.returns, np.full(12, expected))
    np.testing.assert_array_equal(result.lengths, np.full(12, 3))


def test_returns_are_undiscounted_sums_up_to_the_end():
    result = evaluate(always(0), scripted(Script, rewards=[[1.0, -2.5, 4.0, 0.25]]), 1, seed=0)
    assert (result.returns[0], result.lengths[0]) == (2.75, 4)


def test_truncated_episodes_count_with_what_they_earned():
    result = evaluate(always(0), scripted(Endless, max_episode_steps=6), 3, seed=0, cancelled=after(20))
    np.testing.assert_array_equal(result.returns, [6, 6, 6])


@pytest.mark.parametrize("episodes", [1, 30, 130])  # scalar, one native batch, two
def test_equal_seeds_give_equal_returns_and_others_do_not(episodes):
    environment = describe("CartPole-v1")
    first, second, *others = (
        evaluate(tilting, environment, episodes, seed).returns for seed in (3, 3, 1000, 2000, 3000)
    )
    assert len(first) == episodes
    np.testing.assert_array_equal(first, second)
    assert any((first != other).any() for other in others)


def test_native_episodes_are_the_first_of_each_environment_played_by_hand():
    environment = describe("CartPole-v1")
    result = evaluate(tilting, environment, 130, seed=3)
    expected = []
    for first, count in ((0, 100), (100, 30)):
        environments = environment.make(100)
        observations, _ = environments.reset(seed=3 + first)
        lengths = [None] * 100
        for step in range(1, 501):
            observations, _, terminated, truncated, _ = environments.step(tilting(observations))
            for b in np.flatnonzero(terminated | truncated):
                lengths[b] = lengths[b] or step
        expected += lengths[:count]
    np.testing.assert_array_equal(result.lengths, expected)
    np.testing.assert_array_equal(result.returns, expected)


def test_seed_near_the_largest_is_no_error():
    assert len(evaluate(always(0), describe("CartPole-v1"), 130, seed=2**32 - 1).returns) == 130


def test_cancelled_evaluation_ends_within_one_step_and_closes_its_environments(monkeypatch):
    asked, steps, closed = [], [], []
    step = Endless.step
    monkeypatch.setattr(Endless, "step", lambda self, action: steps.append(action) or step(self, action))
    monkeypatch.setattr(Endless, "close", lambda self: closed.append(self))
    environment = scripted(Endless)
    closed.clear(), steps.clear()

    def cancelled():
        asked.append(None)
        return len(steps) >= 8

    assert evaluate(always(0), environment, 2, seed=0, cancelled=cancelled) is None
    assert (len(steps), len(closed)) == (4 * 2, 2)


@pytest.mark.parametrize(("env_id", "episodes", "batches"), [("CartPole-v1", 130, [100]), (None, 23, [10])])
def test_environments_are_made_once_and_closed_after_the_last_batch(monkeypatch, env_id, episodes, batches):
    made, make = [], EnvironmentSpec.make
    monkeypatch.setattr(EnvironmentSpec, "make", lambda self, count, beat: made.append(count) or make(self, count))
    evaluate(always(0), describe(env_id) if env_id else scripted(SeededLength), episodes, seed=0)
    assert made == batches


def tipping(observations):
    """Decides by the smallest of margins, as rounding has it."""
    return actor_for(seeded_network()).actions(observations)


@functools.cache
def seeded_network():
    model = mlp(6, 3, [32])
    initialize(model, 5)
    return model


@pytest.mark.parametrize("most", [1, 3, 7, 10, 100])
def test_serial_environments_give_the_same_returns_however_many_are_open(most):
    environment = describe("Acrobot-v1", max_episode_steps=60)
    expected = evaluate(tipping, environment, 13, seed=2)
    result = evaluate(tipping, environment, 13, seed=2, environments_at_once=most)
    np.testing.assert_array_equal(result.returns, expected.returns)
    np.testing.assert_array_equal(result.lengths, expected.lengths)


def test_each_episode_has_its_place_in_batches_of_one_size():
    """So that its logits are the same bit for bit, for a product may be rounded otherwise elsewhere in a batch."""
    asked = []

    def remember(observations):
        asked.append(observations.copy())
        return np.zeros(len(observations), np.int64)

    class Numbered(SeededLength):
        observation_space = Box(0, 1000, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.full(2, seed, np.float32), {}

        def step(self, action):
            return np.zeros(2, np.float32), 1.0, True, False, {}

    evaluate(remember, scripted(Numbered), 7, seed=100, environments_at_once=3)
    assert {batch.shape for batch in asked} == {(10, 2)}
    for batch, first in zip(asked, (0, 3, 6), strict=True):
        places = range(first, first + 3)
        assert batch[places, 0].tolist() == [100 + place for place in places]


def test_no_more_environments_are_open_than_allowed(monkeypatch):
    opened = []
    monkeypatch.setattr(SeededLength, "__init__", lambda self: opened.append(+1))
    monkeypatch.setattr(SeededLength, "close", lambda self: opened.append(-1))
    environment = scripted(SeededLength)
    opened.clear()
    evaluate(always(0), environment, 9, seed=0, environments_at_once=2)
    assert max(itertools.accumulate(opened)) == 2
    assert sum(opened) == 0


def test_native_environments_are_bounded_too():
    environment = describe("CartPole-v1")
    one = evaluate(tilting, environment, 5, seed=0, environments_at_once=1)
    np.testing.assert_array_equal(
        one.returns, evaluate(tilting, environment, 5, seed=0, environments_at_once=1).returns
    )
    assert len(evaluate(tilting, environment, 5, seed=0, environments_at_once=2).returns) == 5


@pytest.mark.parametrize("phase", ["make", "reset"])
def test_an_evaluation_can_be_cancelled_before_its_first_step(phase, monkeypatch):
    environment, calls, closed = scripted(Endless), [], []
    monkeypatch.setattr(Endless, "close", lambda self: closed.append(self))
    reset = Endless.reset
    monkeypatch.setattr(Endless, "reset", lambda self, **options: calls.append(self) or reset(self, **options))
    asked = itertools.count(1)
    limit = {"make": 2, "reset": 10 + 3}[phase]
    assert evaluate(always(0), environment, 20, seed=0, cancelled=lambda: next(asked) == limit) is None
    assert (len(closed), len(calls)) == {"make": (2, 0), "reset": (10, 3)}[phase]


def test_an_environment_that_cannot_be_closed_costs_no_result(monkeypatch, capsys):
    def close(self):
        raise RuntimeError("not connected")

    environment = scripted(SeededLength)
    monkeypatch.setattr(SeededLength, "close", close)
    assert len(evaluate(always(0), environment, 3, seed=0).returns) == 3
    assert "RuntimeError: not connected" in capsys.readouterr().err


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_not_finite_are_a_mean_that_is_not(reward, recwarn):
    result = evaluate(always(0), scripted(Tampered, reward=reward, truncated=True), 3, seed=0)
    assert not np.isfinite(result.statistics()["mean"])
    assert not list(recwarn)


def test_between_two_batches_is_asked_with_the_returns_so_far_whether_there_is_to_be_another():
    asked = []

    def goes_on(returns):
        asked.append(returns)
        return len(asked) < 2

    result = evaluate(always(0), scripted(SeededLength), 23, seed=7, goes_on=goes_on)
    whole = evaluate(always(0), scripted(SeededLength), 23, seed=7)
    assert [len(returns.returns) for returns in asked] == [10, 20]
    np.testing.assert_array_equal(result.returns, whole.returns[:20])
    np.testing.assert_array_equal(result.lengths, whole.lengths[:20])
    np.testing.assert_array_equal(asked[0].returns, whole.returns[:10])
    assert result.seed == whole.seed == 7


def test_after_the_last_batch_nothing_is_asked():
    evaluate(always(0), scripted(SeededLength), 10, seed=7, goes_on=lambda returns: pytest.fail("it is over"))
