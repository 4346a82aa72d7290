"""The variance of the gradient at equal parameters: its arithmetic, and that a baseline takes noise out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from a3c import Config
from a3c.environments import describe
from a3c.networks import ActorCritic
from tests.unit.scripted_environments import Walk, scripted
from workers.comparison import gradient_variance
from workers.comparison.gradient_variance import measure, snapshot
from workers.comparison.results import Interval
from workers.comparison.study import plan


def test_trace_of_the_covariance_and_its_resamples() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 7)).astype(np.float32) + 3
    weights = rng.multinomial(50, np.full(50, 1 / 50), 5) / 50
    found = gradient_variance._variances(rows, weights)
    assert found[0] == pytest.approx(np.trace(np.cov(rows.T)), rel=1e-5)
    for weight, one in zip(weights, found[1:], strict=True):
        chosen = np.repeat(rows, np.round(weight * 50).astype(int), 0)
        assert one == pytest.approx(np.trace(np.cov(chosen.T)), rel=1e-4)


def test_a_snapshot_is_the_same_every_time_and_has_learned() -> None:
    config, environment = Config.from_options({}), describe("CartPole-v1")
    first, second, untrained = (snapshot(config, environment, steps) for steps in (1500, 1500, 1))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), untrained.parameters()))


def test_the_gradient_of_an_episode_is_the_sum_that_the_definition_says() -> None:
    """A one-step-a-time loop with autograd, for an n-step arm whose windows cut the episode."""
    config = Config.from_options({"n_steps": 4, "gae_lambda": 1.0, "entropy_coef": 0.1, "objective": "a2c"})
    environment = scripted(Walk)
    model: ActorCritic = snapshot(config, environment, 200)
    (rollout, *_), _ = gradient_variance._played(model, config, environment, 3)
    parameters, values = model(torch.from_numpy(rollout.observations[:, 0]))
    steps, total = len(rollout.rewards), torch.zeros(())
    for t in range(steps):
        end = min((t // 4 + 1) * 4, steps)
        followed = sum(0.97 ** (k - t) * float(rollout.rewards[k, 0]) for k in range(t, end))
        if not rollout.terminated[end - 1, 0]:
            followed += 0.97 ** (end - t) * float(values[end].detach())
        log_probs = parameters[t].log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum()
        total = total - log_probs[int(rollout.actions[t, 0])] * (followed - float(values[t].detach())) - 0.1 * entropy
    actor = [*model.trunk.parameters(), *model.policy_head.parameters()]
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(total, actor)])
    found = gradient_variance._gradient(model, rollout, config)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_baseline_and_bootstrapping_each_take_noise_out() -> None:
    options: dict[str, Any] = {"objective": ["reinforce", "a2c"], "baseline": [False, True], "gae_lambda": [0.0]}
    arms = plan({**options, "max_env_steps": [8000]}, seeds=1).arms
    results: Any = [Result(arm.name) for arm in arms]
    found = measure(arms, describe("CartPole-v1"), results, episodes=60)
    plain, baseline, bootstrapped = (found[arm.name] for arm in arms)
    assert plain.ratio == Interval(1, 1, 1)
    assert baseline.ratio.high < 1
    assert bootstrapped.ratio.high < baseline.ratio.low
    assert plain.episodes == 60
    assert plain.env_steps > 60 * 8
    assert replace(plain, ratio=baseline.ratio) != baseline


class Result:
    """What `measure` asks of an arm's result."""

    def __init__(self, name: str):
        self.name = name
        self.env_steps: Any = type("Passage", (), {"median": Interval(8000.0, 1.0, 9000.0)})
