"""A critic held against the returns that followed, on episodes whose every reward is known."""

import math

import numpy as np
import pytest

from a3c.critic_evaluation import TOGETHER, judge, quality
from tests.unit.networks import a2c_loss, learner_of, mlp
from tests.unit.scripted_environments import Script, scripted


def test_quality_is_explained_variance_slope_and_bias() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(3, 2, 5000)
    perfect = quality(returns, returns)
    assert (perfect.explained_variance, perfect.slope, perfect.bias) == pytest.approx((1, 1, 0))
    extreme = quality(2 * returns + 1, returns)
    assert extreme.slope == pytest.approx(0.5)
    assert extreme.bias == pytest.approx(1 + returns.mean())
    assert extreme.explained_variance == pytest.approx(0, abs=0.01)
    assert math.isnan(quality(np.zeros(5), returns[:5]).slope)


def test_judge_plays_whole_episodes_and_discounts_their_rewards() -> None:
    environment = scripted(Script, 10, rewards=[[1.0, 0.0, 4.0]])
    model = mlp(2, 2)
    model.value_head.weight.data.zero_()
    model.value_head.bias.data.fill_(2.0)
    learner = learner_of(model, "closed-form", 10, TOGETHER, a2c_loss())
    found = judge(learner, environment, episodes=25, steps=10, gamma=0.5, seed=0)
    returns = [1 + 0.25 * 4, 0.5 * 4, 4.0]
    assert found.bias == pytest.approx(2 - np.mean(returns))
    assert found.explained_variance == pytest.approx(0, abs=1e-6)
    assert math.isnan(found.slope)
