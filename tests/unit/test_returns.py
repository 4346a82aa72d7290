"""Returns and advantages against slow, plain oracles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.objectives import A2C, lambda_returns, normalize
from a3c.rollouts import STEPS
from tests.unit.networks import a2c_loss
from tests.unit.scripted_environments import random_rollout


def n_step_oracle(rewards, terminated, truncated, values, gamma):
    """The discounted rewards up to the episode's end or the rollout's, plus the discounted value there, summed."""
    n_steps, count = rewards.shape
    returns = np.zeros((n_steps, count))
    for t in range(n_steps):
        for b in range(count):
            total, k = 0.0, t
            while True:
                total += gamma ** (k - t) * float(rewards[k, b])
                if terminated[k, b]:
                    break
                if truncated[k, b] or k == n_steps - 1:
                    total += gamma ** (k - t + 1) * float(values[k + 1, b])
                    break
                k += 1
            returns[t, b] = total
    return returns


def gae_oracle(rewards, terminated, truncated, values, gamma, gae_lambda):
    """Schulman et al. 2016, equation 16: the explicit sum of (gamma lambda)^l delta_{t+l} within the episode."""
    n_steps, count = rewards.shape
    advantages = np.zeros((n_steps, count))
    for t in range(n_steps):
        for b in range(count):
            for k in range(t, n_steps):
                following = 0.0 if terminated[k, b] else float(values[k + 1, b])
                delta = float(rewards[k, b]) + gamma * following - float(values[k, b])
                advantages[t, b] += (gamma * gae_lambda) ** (k - t) * delta
                if terminated[k, b] or truncated[k, b]:
                    break
    return advantages


def random_case(seed, n_steps, count, ends=0.2):
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng, n_steps, count, ends)
    return rollout, rng.normal(size=(n_steps + 1, count)).astype(np.float32) * 5


def flags(rollout):
    return rollout.rewards, rollout.terminated, rollout.truncated


def targets(rollout, values, config):
    return A2C(config).targets(rollout, values, config.value_scale)


PROPERTY = settings(max_examples=60, deadline=None)
cases = st.builds(random_case, st.integers(0, 2**32 - 1), st.integers(1, 16), st.integers(1, 4))
fractions = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@PROPERTY
@given(cases, fractions)
def test_with_lambda_1_the_returns_are_the_n_step_returns(case, gamma):
    rollout, values = case
    result = targets(rollout, values, a2c_loss(gamma=gamma, gae_lambda=1.0))
    np.testing.assert_allclose(result.returns, n_step_oracle(*flags(rollout), values, gamma), rtol=1e-5, atol=1e-4)


@PROPERTY
@given(cases, fractions)
def test_advantages_are_the_explicit_gae_sum(case, gae_lambda):
    rollout, values = case
    result = targets(rollout, values, a2c_loss(gamma=0.97, gae_lambda=gae_lambda))
    expected = gae_oracle(*flags(rollout), values, 0.97, gae_lambda)
    np.testing.assert_allclose(result.advantages, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(result.returns, expected + values[:-1], rtol=1e-5, atol=1e-4)


def test_with_lambda_0_the_returns_are_one_step_temporal_differences():
    rollout, values = random_case(0, 9, 4)
    result = targets(rollout, values, a2c_loss(gamma=0.9, gae_lambda=0.0))
    expected = rollout.rewards + 0.9 * values[1:] * ~rollout.terminated
    np.testing.assert_allclose(result.returns, expected, rtol=1e-6, atol=1e-6)


def test_discounts_and_lambdas_of_single_steps_are_their_own():
    rng = np.random.default_rng(3)
    rewards, discounts, lambdas = rng.random((3, 6, 2))
    values = rng.normal(size=(7, 2))
    expected = np.zeros((6, 2))
    for b in range(2):
        following = values[6, b]
        for t in reversed(range(6)):
            mixed = (1 - lambdas[t, b]) * values[t + 1, b] + lambdas[t, b] * following
            following = expected[t, b] = rewards[t, b] + discounts[t, b] * mixed
    np.testing.assert_allclose(lambda_returns(rewards, discounts, lambdas, values), expected, rtol=1e-12)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_truncated_step_takes_the_final_observations_value_and_nothing_of_the_next_episode(gae_lambda):
    rollout, values = random_case(1, 8, 2, ends=0.0)
    rollout.truncated[3] = True
    config = a2c_loss(gamma=0.9, gae_lambda=gae_lambda)
    before = targets(rollout, values, config).returns
    np.testing.assert_allclose(before[3], rollout.rewards[3] + 0.9 * values[4], rtol=1e-6)
    rollout.rewards[4:] += 1e6
    values[5:] -= 1e6  # values[4] is V(true final observation)
    np.testing.assert_array_equal(targets(rollout, values, config).returns[:4], before[:4])
    values[4] += 1
    np.testing.assert_allclose(targets(rollout, values, config).returns[3], before[3] + 0.9, rtol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("also_truncated", [False, True])
def test_terminated_step_takes_its_reward_and_nothing_that_follows(gae_lambda, also_truncated):
    rollout, values = random_case(2, 8, 2, ends=0.0)
    rollout.terminated[3] = True
    rollout.truncated[3] = also_truncated
    config = a2c_loss(gamma=0.9, gae_lambda=gae_lambda)
    before = targets(rollout, values, config).returns
    np.testing.assert_array_equal(before[3], rollout.rewards[3])
    rollout.rewards[4:] += 1e6
    values[4:] -= 1e6
    np.testing.assert_array_equal(targets(rollout, values, config).returns[:4], before[:4])


@PROPERTY
@given(st.sampled_from([0.5, 0.9, 0.99]), fractions, st.integers(1, 64))
def test_exact_values_of_the_infinite_environment_are_a_fixed_point(gamma, gae_lambda, n_steps):
    rollout, _ = random_case(0, n_steps, 2, ends=0.0)
    rollout.rewards[:] = 1.0
    rollout.truncated[n_steps // 2] = True  # a time limit is no end of the infinite environment
    values = np.full((n_steps + 1, 2), 1 / (1 - gamma), np.float32)
    result = targets(rollout, values, a2c_loss(gamma=gamma, gae_lambda=gae_lambda))
    np.testing.assert_allclose(result.returns, 1 / (1 - gamma), rtol=2e-5)


def test_mismatched_shapes_are_refused():
    square = np.zeros((4, 4), np.float32)
    with pytest.raises(AssertionError):
        lambda_returns(square, square, square, square)  # values need one row more
    with pytest.raises(AssertionError):
        lambda_returns(square, square[:, :1], square, np.zeros((5, 4), np.float32))


def test_normalized_advantages_have_mean_0_and_deviation_1_over_the_valid_steps_alone():
    rng = np.random.default_rng(0)
    advantages = rng.normal(3, 7, (16, 4)).astype(np.float32)
    valid = (rng.random((16, 4)) < 0.7).astype(np.float32)
    counted = advantages[valid == 1].astype(np.float64)
    result = normalize(advantages, valid)
    np.testing.assert_allclose(result[valid == 1], (counted - counted.mean()) / counted.std(), rtol=1e-4, atol=1e-5)
    advantages[valid == 0] = 1e6
    np.testing.assert_array_equal(normalize(advantages, valid), result)


def test_equal_advantages_normalize_to_0():
    assert not normalize(np.full((3, 2), 5, np.float32), np.ones((3, 2), np.float32)).any()


def test_normalization_is_an_option_and_leaves_the_returns_alone():
    rollout, values = random_case(4, 10, 3)
    plain = targets(rollout, values, a2c_loss())
    scaled = targets(rollout, values, a2c_loss(normalize_advantages=True))
    np.testing.assert_array_equal(plain.returns, scaled.returns)
    np.testing.assert_array_equal(plain.advantages, plain.returns - values[:-1])
    np.testing.assert_array_equal(scaled.advantages, normalize(plain.advantages, plain.valid))


def test_targets_do_not_change_the_rollout():
    rollout, values = random_case(5, 10, 3)
    names = ("observations", *STEPS)
    before = [getattr(rollout, name).copy() for name in names]
    targets(rollout, values, a2c_loss(normalize_advantages=True))
    for name, array in zip(names, before, strict=True):
        np.testing.assert_array_equal(getattr(rollout, name), array)
