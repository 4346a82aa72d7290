"""The examples of CONTRIBUTING.md are complete, and do what they are there for."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from a3c import networks, objectives
from a3c.autograd import AutogradLearner
from a3c.closed_form import ClosedFormLearner
from a3c.config import Config
from a3c.environments import describe
from a3c.heads import Categorical
from a3c.networks import ActorCritic, initialize
from a3c.rollouts import Rollout, Stopwatch
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP
from shared.store import Pulled
from tests.unit.networks import a2c_loss, learn
from workers import actor_learner

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def examples():
    """The names that the examples define."""
    names = {"gymnasium": gymnasium, "np": np, "torch": torch, "nn": nn, "Box": Box, "Discrete": Discrete}
    names |= {"dataclass": dataclasses.dataclass, "SimpleNamespace": SimpleNamespace, "Pulled": Pulled}
    names |= vars(networks) | vars(objectives)
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    return SimpleNamespace(**names)


def gradients(learner_type, model, objective, seed=0):
    """What a learner makes of a random rollout that it has acted in."""
    rng, rollout = np.random.default_rng(seed), Rollout.empty(6, 3, model.observation, model.head)
    rollout.observations[:] = rng.normal(size=rollout.observations.shape)
    rollout.rewards[:] = rng.normal(size=rollout.rewards.shape)
    rollout.valid[:] = True
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    learner = learner_type(model, objective, 6, 3, Stopwatch(), rng)
    noise = np.empty((3, *model.head.noise_shape), np.float32)
    for t in range(6):
        learner.act(t, rollout.observations[t], rollout.parameters[t])
        model.head.draw_noise(rng, noise)
        rollout.actions[t] = model.head.sample(rollout.parameters[t], noise)
    learn(learner, rollout)
    return np.concatenate([parameter.grad.numpy().reshape(-1) for parameter in model.parameters()])


@pytest.mark.parametrize(("head", "objective"), [("Bernoulli", "A2C"), ("Categorical", "PolicyGradient")])
def test_closed_form_of_the_new_head_and_objective_is_autograds(examples, head, objective):
    chosen = examples.Bernoulli(4) if head == "Bernoulli" else Categorical(4)
    model = ActorCritic(MLP(ObservationSpec((5,)), [16]), chosen)
    loss = getattr(examples, objective)(a2c_loss())
    closed, auto = (gradients(kind, model, loss) for kind in (ClosedFormLearner, AutogradLearner))
    assert closed.any()
    np.testing.assert_allclose(closed, auto, rtol=1e-3, atol=1e-4 * np.abs(auto).max())


def test_new_trunk_learns_by_autograd(examples):
    model = ActorCritic(examples.Tanh(ObservationSpec((2, 3))), Categorical(2))
    assert gradients(AutogradLearner, model, objectives.A2C(a2c_loss())).all()


def test_worker_learns_the_new_environment_over_the_new_link(examples):
    config = Config.from_options(
        {"env": "Corridor-v0", "max_env_steps": 20_000, "n_steps": 20, "learning_rate": 0.03, "envs_per_worker": 1}
    )
    environment = describe("Corridor-v0")
    model = networks.build(config, environment)
    initialize(model, 0)
    link = examples.PlainLink(model)
    actor_learner.learn(0, config, environment, link)
    assert link.collector.env_steps >= 20_000
    assert np.mean(link.collector.recent_returns) > 0.9
