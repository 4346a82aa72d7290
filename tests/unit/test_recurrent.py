"""Policies that remember: a step is one of a sequence, and learning sees what acting saw."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.actors import Policy, actor_for
from a3c.config import Config, ConfigError
from a3c.environments import EnvironmentSpec, describe
from a3c.learners import Cures, learner_for, memory_for
from a3c.networks import ActorCritic, bind, build, flat_zeros, initialize
from a3c.recurrent import Recurrent
from a3c.rollouts import Collector, Rollout, Stopwatch
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP

CARTPOLE = describe("CartPole-v1", max_episode_steps=12)
OBJECTIVES = ("a2c", "reinforce", "ppo", "v-trace", "ppo-decoupled", "natural", "q", "sarsa", "n-step-q")


def config_of(**options: Any) -> Config:
    given = {"preset": "none", "recurrent": "lstm", "recurrent_size": 8, "hidden_sizes": [8], "n_steps": 16}
    given |= {"envs_per_worker": 4, "minibatches": 2, "normalize_observations": False}
    return Config.from_options(given | options)


class Run:
    """A worker's parts, without its processes."""

    def __init__(self, config: Config, environment: EnvironmentSpec = CARTPOLE, seed: int = 0):
        self.model = build(config, environment)
        initialize(self.model, 0)
        self.vector, self.gradient = flat_zeros(self.model), flat_zeros(self.model)
        bind(self.model, self.vector, self.gradient)
        rng, count = np.random.default_rng(seed), config.envs_per_worker
        cures, steps = Cures(), environment.max_episode_steps
        if config.has_slow_copy:
            cures = Cures(slow=build(config, environment))
        self.learner: Any = learner_for(self.model, config, Stopwatch(), rng, steps, cures)
        memory = memory_for(self.learner, config.n_steps, count, environment.observation, config.network.burn_in)
        self.collector = Collector(environment.make(count), config.n_steps, rng, head=self.model.head, memory=memory)

    def collect(self) -> Rollout:
        return self.collector.collect(self.learner.act)

    def gradients(self, rollout: Rollout) -> list[Any]:
        found = []
        for batch in self.learner.prepare(rollout):
            self.learner.gradient(batch)
            found.append(self.gradient.numpy().copy())
        return found


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["lstm", "gru"]), st.integers(1, 9), st.integers(1, 4), st.floats(0, 1), st.integers(0, 99))
def test_a_sequence_is_its_steps_with_the_state_forgotten_at_starts(
    kind: str, steps: int, count: int, often: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    trunk = Recurrent(MLP(ObservationSpec((3,)), (4,)), kind, 5)
    inputs = torch.randn(steps, count, 3, generator=generator)
    first = state = torch.randn(count, trunk.state_size, generator=generator)
    starts = torch.rand(steps, count, generator=generator) < often
    features, last = trunk.sequence(inputs, first, starts)
    for t in range(steps):
        feature, state = trunk.step(inputs[t], state * ~starts[t, :, None])
        torch.testing.assert_close(feature, features[t])
    torch.testing.assert_close(state, last)


def test_a_rollout_carries_its_state_and_forgets_it_where_episodes_start() -> None:
    run = Run(config_of())
    for _ in range(3):
        rollout = run.collect()
        assert rollout.state is not None
        assert rollout.starts is not None
        np.testing.assert_array_equal(rollout.starts[1:], ~rollout.valid)  # the step after an end only resets
        state = torch.from_numpy(rollout.state)
        given = (torch.from_numpy(rollout.observations), state, torch.from_numpy(rollout.starts))
        with torch.no_grad():
            parameters = run.model.sequence(*given)[0][:-1]
        np.testing.assert_allclose(rollout.parameters, parameters, rtol=1e-4, atol=1e-5)
        assert rollout.starts[1:].any()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_by_the_gradient_through_time(objective: str) -> None:
    """Of the whole sequence at once, as of the steps that acted."""
    config = config_of(objective=objective, envs_per_worker=2 if objective == "natural" else 4)
    run = Run(config)
    if objective == "reinforce":
        memory = memory_for(run.learner, 12, 4, CARTPOLE.observation)
        run.collector = Collector(CARTPOLE.make(4), 12, np.random.default_rng(0), whole_episodes=True, memory=memory)
    rollout = run.collect()
    run.learner._rng = np.random.default_rng(7)
    first = run.gradients(rollout)
    run.learner._rng = np.random.default_rng(7)
    again = run.gradients(rollout)  # what acting has computed is used up
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    core = next(module for module in run.model.modules() if isinstance(module, torch.nn.RNNBase))
    assert all(weight.grad.abs().max() > 0 for weight in core.parameters() if weight.grad is not None)


def test_ppo_learns_from_whole_sequences_each_once_a_pass() -> None:
    run = Run(config_of(objective="ppo", passes=3))
    batches = run.learner.prepare(run.collect())
    assert len(batches) == 6
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        together = np.concatenate((first.rows, second.rows))
        assert sorted(together) == list(range(64))
        assert {tuple(sorted(set(rows % 4))) for rows in (first.rows, second.rows)} != {(0, 1, 2, 3)}
        assert all(len(rows) == 16 * len(set(rows % 4)) for rows in (first.rows, second.rows))


@pytest.mark.parametrize("burn_in", [0, 5])
def test_a_collector_with_a_memory_resumes_bit_for_bit(burn_in: int) -> None:
    run, other = (Run(config_of(burn_in=burn_in), seed=seed) for seed in (0, 1))
    for _ in range(3):
        run.collect()
    assert other.collector.restore(run.collector.state())
    for _ in range(3):
        assert run.collect().parameters.tobytes() == other.collect().parameters.tobytes()


def test_burn_in_makes_the_state_anew_with_the_parameters_that_act() -> None:
    run = Run(config_of(burn_in=6))
    before = run.collect()
    seen = before.observations[-7:-1].copy(), before.starts[-7:-1].copy()  # type: ignore[index]
    stale = run.collector._memory.state.copy()  # type: ignore[union-attr]
    seen_state = run.collector._memory._seen_state.copy()  # type: ignore[union-attr]
    run.vector.mul_(1.5)
    after = run.collect()
    with torch.no_grad():
        expected = run.model.sequence(*map(torch.from_numpy, (seen[0], seen_state, seen[1])))[2]
    np.testing.assert_allclose(after.state, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(after.state - stale).max() > 1e-3


def test_a_policy_remembers_until_it_is_restarted() -> None:
    config = config_of()
    model = build(config, CARTPOLE)
    initialize(model, 3)
    policy, observation = Policy(model), np.ones((2, 4), np.float32)
    first = policy.parameters(observation)
    assert (policy.parameters(observation) != first).any()
    policy.restart(2)
    np.testing.assert_array_equal(policy.parameters(observation), first)
    with pytest.raises(ValueError, match="3 observations of 2 episodes"):
        policy.parameters(np.ones((3, 4), np.float32))


def test_a_separate_critic_has_a_state_of_its_own() -> None:
    model: ActorCritic = build(config_of(critic="separate"), CARTPOLE)
    assert model.state_size == 32
    state, observations = torch.randn(2, 32), torch.ones(2, 4)
    parameters, values, _ = model.step(observations, state)
    state[:, 16:] = 0.0
    others, other_values, _ = model.step(observations, state)
    assert torch.equal(parameters, others)
    assert not torch.equal(values, other_values)
    assert not hasattr(actor_for(model), "_trunk")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recurrent": None, "recurrent_size": 8}, "recurrent_size: needs a core that remembers"),
        ({"recurrent": None, "recurrent_size": None, "burn_in": 3}, "burn_in: needs a core that remembers"),
        ({"minibatches": 5, "objective": "ppo"}, "minibatches: at most 4 with a recurrent network"),
        ({"burn_in": 17}, "burn_in: at most 16"),
        ({"critic": "separate", "critic_memory": 1.0}, "critic_memory: single steps"),
    ],
)
def test_what_a_recurrent_network_cannot_do_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of(**options)
