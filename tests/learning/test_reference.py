"""One asynchronous worker against A2C written plainly, on one page, with torch.optim.Adam."""

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from a3c import Config, load_checkpoint
from a3c.environments import describe
from a3c.learners import RolloutStatistics
from a3c.networks import ActorCritic, bind, build, flat_zeros, initialize
from a3c.rollouts import Collector, Stopwatch
from shared.store import Pulled
from workers import train
from workers.actor_learner import learn

UPDATES, N_STEPS = 50, 5
OPTIONS: dict[str, Any] = {
    "workers": 1,
    "envs_per_worker": 1,
    "n_steps": N_STEPS,
    "max_env_steps": UPDATES * N_STEPS,
    "max_episode_steps": 30,  # episodes are truncated as well as terminated
    "gradients": "autograd",
    "gae_lambda": 1.0,
    "seed": 5,
    "learning_rate": 3e-3,
    "anneal": False,
    "max_grad_norm": 0.5,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "epsilon": 1e-8,
    "entropy_coef": 0.01,
    "value_coef": 0.5,
    "value_scale": 1.0,
    "normalize_advantages": False,
    "target_return": 1e9,
    "dashboard": "off",
}


def plain_a2c(config: Config) -> tuple[ActorCritic, int]:
    """A2C as a textbook has it; returns the trained model and the number of updates."""
    model = build(config, describe(config.env))
    initialize(model, config.seed)
    vector, gradient = flat_zeros(model), flat_zeros(model)
    bind(model, vector, gradient)
    parameters = nn.Parameter(vector)
    parameters.grad = gradient
    optimizer = torch.optim.Adam([parameters], lr=config.optimizer.learning_rate, fused=True)
    rng = np.random.default_rng([config.seed, 0])
    env = gymnasium.make(config.env, max_episode_steps=config.max_episode_steps)
    seed = int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed)
    seeds = np.random.default_rng([seed, 1])  # of all later episodes
    ended, env_steps, updates = False, 0, 0
    while env_steps < config.max_env_steps:
        gumbel = -np.log(rng.standard_exponential((N_STEPS, 1, 2), dtype=np.float32))
        observations, actions, rewards, terminations, truncations, valid = [], [], [], [], [], []
        for t in range(N_STEPS):
            observations.append(observation)
            with torch.no_grad():
                logits = model(torch.as_tensor(observation))[0].numpy()
            action = int((logits + gumbel[t, 0]).argmax())
            valid.append(not ended)
            if ended:  # the step after an end resets and belongs to no episode
                observation, _ = env.reset(seed=int(seeds.integers(2**31)))
                reward, terminated, truncated = 0.0, False, False
            else:
                observation, reward, terminated, truncated, _ = env.step(action)  # type: ignore[assignment]
            actions.append(action)
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
            ended = terminated or truncated
        observations.append(observation)
        env_steps += sum(valid)

        logits, values = model(torch.as_tensor(np.array(observations)[:, None]))  # [T + 1, 1, A], [T + 1, 1]
        logits, values = logits[:-1], values.squeeze(-1)
        returns: list[torch.Tensor] = []
        following = values[-1].detach()
        for t in reversed(range(N_STEPS)):
            if truncations[t]:
                following = values[t + 1].detach()
            following = rewards[t] + (0.0 if terminations[t] else torch.tensor(config.loss.gamma)) * following
            returns.insert(0, following)
        target, counts = torch.stack(returns)[:, None], torch.tensor(valid, dtype=torch.float32)[:, None]
        values = values[:-1, None]
        log_probs = torch.log_softmax(logits, -1)
        chosen = log_probs.gather(-1, torch.tensor(actions)[:, None, None]).squeeze(-1)
        policy_loss = -(chosen * (target - values.detach()) * counts).sum() / counts.sum()
        value_loss = 0.5 * ((values - target).square() * counts).sum() / counts.sum()
        entropy = -((log_probs.exp() * log_probs).sum(-1) * counts).sum() / counts.sum()
        gradient.zero_()
        (policy_loss + config.loss.value_coef * value_loss - config.loss.entropy_coef * entropy).backward()
        norm = math.sqrt(gradient.numpy() @ gradient.numpy())
        if norm > config.optimizer.max_grad_norm:
            gradient *= float(np.float32(config.optimizer.max_grad_norm / norm))
        optimizer.step()
        updates += 1
    return model, updates


class PlainLink:
    """A run without shared memory, other processes or anybody who watches: parameters and an optimizer of torch's."""

    incarnation, slow, memory = 0, None, None

    def __init__(self, config: Config):
        model = build(config, describe(config.env))
        initialize(model, config.seed)
        vector = flat_zeros(model)
        bind(model, vector)
        self.parameters = nn.Parameter(vector)
        self._optimizer = torch.optim.Adam([self.parameters], lr=config.optimizer.learning_rate, fused=True)
        self.updates = 0

    def book_waiting(self, phase: str) -> None:
        pass

    def beat(self) -> None:
        pass

    def join(self, collector: Collector, watch: Stopwatch) -> None:
        self._collector = collector

    def first(self, pulled: Pulled, minibatches: int) -> int:
        return 0

    def pull(self, into: torch.Tensor) -> Pulled:
        into.copy_(self.parameters.detach())
        return Pulled(self.updates, self._collector.env_steps)

    def start_learning(self) -> None:
        pass

    def push(self, gradient: torch.Tensor, learning_rate: float, pulled: Pulled) -> int | None:
        self.parameters.grad = gradient
        self._optimizer.step()
        self.updates += 1
        return 0

    def publish(
        self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float, acted: int, learned: int
    ) -> None:
        pass

    def drop(self, fault: str) -> None:
        pytest.fail(f"{fault} were not finite")

    def leave(self) -> None:
        self.has_left = True


def trained(run_dir: Path, **changed: Any) -> dict[str, np.ndarray[Any, Any]]:
    summary = train(run_dir=run_dir, **{**OPTIONS, **changed})
    assert summary.status == "budget_exhausted"
    state = load_checkpoint(run_dir / "checkpoints" / "latest.json").model.state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.fixture
def config() -> Config:
    return Config.from_options({name: value for name, value in OPTIONS.items() if name != "dashboard"})


def test_one_async_worker_equals_plain_a2c_bit_for_bit(config: Config, tmp_path: Path) -> None:
    expected, updates = plain_a2c(config)
    assert updates >= UPDATES
    for name, array in trained(tmp_path / "run").items():
        assert np.array_equal(array, expected.state_dict()[name].numpy()), name


def test_the_loop_needs_nothing_but_its_link(config: Config) -> None:
    """Whatever a link does, the loop is the algorithm: with one of the test's own it is A2C bit for bit too."""
    expected, updates = plain_a2c(config)
    vector, link = flat_zeros(expected), PlainLink(config)
    learn(0, config, describe(config.env, config.max_episode_steps), link)
    bind(expected, vector)
    assert link.updates == updates
    assert link.has_left
    assert torch.equal(link.parameters, vector)


def test_the_closed_form_gradient_leads_to_the_same_parameters(config: Config, tmp_path: Path) -> None:
    expected, _ = plain_a2c(config)
    for name, array in trained(tmp_path / "run", gradients="closed-form").items():
        np.testing.assert_allclose(array, expected.state_dict()[name].numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_one_worker_repeats_itself_bit_for_bit(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name, gradients="closed-form") for name in ("a", "b"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other = trained(tmp_path / "c", gradients="closed-form", seed=6)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
