"""Every objective against its definition, written out as slow loops, and its closed form against autograd."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from a3c.action_values import ActionValues
from a3c.actors import actor_for
from a3c.config import Config, CriticConfig, LossConfig, NetworkConfig, OptimizerConfig, StalenessConfig
from a3c.critic_memory import CriticMemory
from a3c.heads import Categorical
from a3c.learners import Cures, learner_for, updates_per_rollout
from a3c.networks import ActorCritic, bind, flat_zeros, initialize
from a3c.objectives import OBJECTIVES, objective_for
from a3c.rollouts import Rollout, Stopwatch
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP
from shared.store import Pulled
from tests.unit.networks import GRADIENTS
from workers.actor_learner import has_moved

STEPS, COUNT = 7, 3
ENDS: Any = {"terminated": [(2, 0), (4, 1)], "truncated": [(3, 2), (5, 0)]}


def config_of(objective: str, gradients: str = "closed-form", **loss: Any) -> Config:
    loss = {"value_scale": 3.0, "gamma": 0.9, "minibatches": 3, **loss}
    return Config(
        n_steps=STEPS,
        envs_per_worker=COUNT,
        loss=LossConfig(objective=objective, **loss),
        network=NetworkConfig(gradients=gradients),
        optimizer=OptimizerConfig(learning_rate=0.1),
    )


def network(objective: str, separate: bool = False, seed: int = 0) -> ActorCritic:
    """A network with weights that matter, bound to a vector, as a worker's."""
    spec, values = ObservationSpec((4,)), objective in ("q", "sarsa", "n-step-q")
    head: Any = ActionValues(3) if values else Categorical(3)
    model = ActorCritic(MLP(spec, (16,)), head, 3.0, critic=MLP(spec, (8,)) if separate else None, action_values=values)
    initialize(model, seed)
    with torch.no_grad():
        model.policy_head.weight.normal_(generator=torch.Generator().manual_seed(seed))
    bind(model, flat_zeros(model), flat_zeros(model))
    return model


def rollout_of(model: ActorCritic, act: Any, seed: int = 0) -> Rollout:
    """A random rollout that was acted with `act`, with ends of both kinds; the step after each is invalid."""
    rng, rollout = np.random.default_rng(seed), Rollout.empty(STEPS, COUNT, model.observation, model.head)
    rollout.observations[:] = rng.normal(size=rollout.observations.shape)
    for t in range(STEPS):
        act(t, rollout.observations[t], rollout.parameters[t])
    rollout.actions[:] = rng.integers(3, size=rollout.actions.shape)
    rollout.rewards[:], rollout.valid[:] = rng.normal(size=rollout.rewards.shape), True
    for name, places in ENDS.items():
        for t, b in places:
            getattr(rollout, name)[t, b], rollout.valid[t + 1, b] = True, False
    return rollout


def moved(model: ActorCritic, size: float = 0.3) -> None:
    """Other parameters than those that acted."""
    rng = np.random.default_rng(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32))


def gradient_of(model: ActorCritic) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(parameter.grad).reshape(-1) for parameter in model.parameters()])


def cures_of(model: ActorCritic, name: str, objective: str) -> Cures:
    slow = network(objective, model.critic is not None, seed=1)
    if name == "slow" or model.value_head is None:
        return Cures(slow=slow)
    if name == "memory":
        return Cures(memory=CriticMemory(model.observation), memory_coef=0.7)
    return Cures(steps=2) if name == "steps" else Cures()


@pytest.mark.parametrize("has_moved", [False, True])
@pytest.mark.parametrize(
    ("objective", "cure"),
    [
        *((name, "none") for name in OBJECTIVES),
        *itertools.product(("a2c", "ppo-decoupled", "natural"), ("separate", "slow", "memory", "steps")),
    ],
)
def test_closed_form_is_autograds_at_old_and_at_fresh_parameters(objective: str, cure: str, has_moved: bool) -> None:
    found = []
    for gradients in GRADIENTS:
        model = network(objective, separate=cure not in ("none", "slow"))
        cures, rng = cures_of(model, cure, objective), np.random.default_rng(0)
        learner = learner_for(model, config_of(objective, gradients), Stopwatch(), rng, cures=cures)
        rollout = rollout_of(model, learner.act)
        if has_moved:
            moved(model)
        parts = []
        for batch in learner.prepare(rollout, has_moved):
            parts += [learner.gradient(batch).terms, gradient_of(model)]
        found.append(np.concatenate(parts))
    assert np.abs(found[0]).max() > 0.01
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=2e-5 * max(1, np.abs(found[1]).max()))


def episodes(rollout: Rollout, t: int, b: int) -> range:
    """Steps from t to the end of the episode or of the rollout."""
    last = t
    while last < STEPS - 1 and not (rollout.terminated[last, b] or rollout.truncated[last, b]):
        last += 1
    return range(t, last + 1)


def discount(rollout: Rollout, t: int, b: int) -> float:
    return 0.0 if rollout.terminated[t, b] else 0.9


def case(objective: str, **loss: Any) -> tuple[Any, Rollout, np.ndarray[Any, Any], Any, Any]:
    """An objective, a rollout, values, and log-probabilities of the policies that learns and that acted."""
    model, rng = network(objective), np.random.default_rng(9)
    rollout = rollout_of(model, lambda t, observations, out: None)
    values, log_prob, acted = (
        rng.normal(size=(steps, COUNT)).astype(np.float32) for steps in (STEPS + 1, STEPS, STEPS)
    )
    return objective_for(config_of(objective, **loss)), rollout, values, log_prob, acted


@pytest.mark.parametrize("clips", [(1.0, 1.0), (1.3, 0.7), (9.0, 9.0)])
def test_v_trace_is_the_sum_of_its_definition(clips: tuple[float, float]) -> None:
    """Espeholt et al. 2018, equation 1: v_s = V_s + sum_t gamma^{t-s} (prod c_i) rho_t delta_t."""
    objective, rollout, values, log_prob, acted = case("v-trace", gae_lambda=0.8, rho_clip=clips[0], c_clip=clips[1])
    ratio = np.exp(log_prob - acted)
    rho, c = np.minimum(ratio, clips[0]), 0.8 * np.minimum(ratio, clips[1])
    v, advantages = np.zeros((STEPS, COUNT)), np.zeros((STEPS, COUNT))

    def target(s: int, b: int) -> float:
        total, carried = float(values[s, b]), 1.0
        for t in episodes(rollout, s, b) if s < STEPS else ():
            delta = rollout.rewards[t, b] + discount(rollout, t, b) * values[t + 1, b] - values[t, b]
            total += carried * rho[t, b] * delta
            carried *= discount(rollout, t, b) * c[t, b]
        return total

    for t, b in np.ndindex(STEPS, COUNT):
        v[t, b], goes_on = target(t, b), not rollout.truncated[t, b]
        following = 0.8 * target(t + 1, b) + 0.2 * values[t + 1, b] if goes_on else values[t + 1, b]
        q = rollout.rewards[t, b] + discount(rollout, t, b) * following
        advantages[t, b] = rho[t, b] * (q - values[t, b])
    found = objective.targets(rollout, values, 3.0, log_prob, acted)
    np.testing.assert_allclose(found.returns, v, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.advantages, advantages, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("corrected", "plain"), [("v-trace", "a2c"), ("ppo-decoupled", "ppo")])
def test_a_correction_of_nothing_is_nothing_to_the_bit(corrected: str, plain: str) -> None:
    for gradients in GRADIENTS:
        found = []
        for name in (corrected, plain):
            model = network(name)
            learner = learner_for(model, config_of(name, gradients), Stopwatch(), np.random.default_rng(0))
            for batch in learner.prepare(rollout_of(model, learner.act)):
                learner.gradient(batch)
                found.append(gradient_of(model))
        assert len(found) in (2, 24)
        np.testing.assert_array_equal(found[: len(found) // 2], found[len(found) // 2 :])


@pytest.mark.parametrize("baseline", [False, True])
def test_reinforce_takes_the_rewards_to_the_episodes_end_and_nothing_else(baseline: bool) -> None:
    objective, rollout, values, *_ = case("reinforce", baseline=baseline)
    found = objective.targets(rollout, values, 3.0)
    for t, b in np.ndindex(STEPS, COUNT):
        expected = sum(0.9**k * rollout.rewards[u, b] for k, u in enumerate(episodes(rollout, t, b)))
        assert found.returns[t, b] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert found.advantages[t, b] == pytest.approx(expected - baseline * values[t, b], rel=1e-4, abs=1e-5)


def test_without_a_baseline_the_critic_is_left_alone() -> None:
    for baseline in (False, True):
        model = network("reinforce", separate=True)
        config = config_of("reinforce", baseline=baseline)
        learner = learner_for(model, config, Stopwatch(), np.random.default_rng(0))
        (batch,) = learner.prepare(rollout_of(model, learner.act))
        learner.gradient(batch)
        assert bool(model.value_head.weight.grad.any()) == baseline


def test_decoupled_ppo_weighs_the_clipped_surrogate_of_the_recent_policy() -> None:
    objective, rollout, values, log_prob, acted = case("ppo-decoupled", rho_clip=1.5, clip=0.1)
    targets = objective.targets(rollout, values, 3.0, log_prob, acted).flat()
    rng = np.random.default_rng(2)
    now = (log_prob + 0.2 * rng.normal(size=log_prob.shape).astype(np.float32)).reshape(-1)
    terms, _ = objective.derivative(now, np.zeros_like(now), values[:-1].reshape(-1), targets)
    expected, count = 0.0, 0
    for index, (t, b) in enumerate(np.ndindex(STEPS, COUNT)):
        if rollout.valid[t, b]:
            advantage = targets.advantages[index]
            ratio = np.exp(now[index] - log_prob[t, b])
            weight = min(np.exp(log_prob[t, b] - acted[t, b]), 1.5)
            expected -= weight * min(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage)
            count += 1
    assert terms.policy_loss == pytest.approx(expected / count, rel=1e-4)


@pytest.mark.parametrize("kl_bound", [1e-6, 1e6])
def test_natural_gradient_solves_the_damped_fisher_system_within_its_bound(kl_bound: float) -> None:
    """The actor's gradient is (Psi^T Psi / N + damping)^-1 Psi^T A / N, with Psi made by autograd, one row a step."""
    model = network("natural", separate=True)
    config = config_of("natural", damping=0.2, kl_bound=kl_bound, entropy_coef=0.0, value_coef=0.0)
    learner = learner_for(model, config, Stopwatch(), np.random.default_rng(0))
    rollout = rollout_of(model, learner.act)
    (batch,) = learner.prepare(rollout)
    learner.gradient(batch)
    actor = [*model.trunk.parameters(), *model.policy_head.parameters()]
    found = np.concatenate([np.asarray(part.grad).reshape(-1) for part in actor])
    parameters, values = model(torch.from_numpy(rollout.observations))
    flat = parameters[:-1].flatten(0, 1)
    log_prob = model.head.log_prob_entropy(flat, torch.from_numpy(rollout.flat_actions))[0]
    valid = rollout.valid.reshape(-1)
    rows = [torch.autograd.grad(one, actor, retain_graph=True) for one in log_prob]
    psi = np.array([np.concatenate([np.asarray(part).reshape(-1) for part in row]) for row in rows])[valid]
    plain = objective_for(config_of("a2c")).targets(rollout, values.detach().numpy(), 3.0)
    advantages, count = plain.advantages.reshape(-1)[valid], len(psi)
    fisher = psi.T.astype(float) @ psi / count
    expected = np.linalg.solve(fisher + 0.2 * np.eye(len(fisher)), psi.T @ advantages / count)
    divergence = 0.1**2 / 2 * expected @ fisher @ expected
    expected *= min(1.0, np.sqrt(kl_bound / divergence))
    np.testing.assert_allclose(found, -expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert 0.1**2 / 2 * found @ fisher @ found <= kl_bound * 1.001


@pytest.mark.parametrize("objective", ["q", "sarsa", "n-step-q"])
def test_action_values_learn_the_targets_of_their_definition(objective: str) -> None:
    model, slow = network(objective), network(objective, seed=1)
    learner = learner_for(model, config_of(objective), Stopwatch(), np.random.default_rng(0), cures=Cures(slow=slow))
    rollout = rollout_of(model, learner.act)
    (batch,) = learner.prepare(rollout)
    terms = learner.gradient(batch).terms
    values = actor_for(slow).parameters(rollout.observations.reshape(-1, 4)).reshape(STEPS + 1, COUNT, -1)[..., :3]
    own = rollout.parameters[..., :3]  # in units of 3
    errors = []
    for t, b in np.ndindex(STEPS, COUNT):
        is_last = t == STEPS - 1 and not rollout.terminated[t, b]
        if not rollout.valid[t, b] or (objective == "sarsa" and is_last):
            continue
        steps = episodes(rollout, t, b) if objective == "n-step-q" else range(t, t + 1)
        end = steps[-1]
        following = 3 * values[end + 1, b].max()
        if objective == "sarsa" and t < STEPS - 1:
            following = 3 * values[t + 1, b, rollout.actions[t + 1, b]]
        total = sum(0.9**k * rollout.rewards[u, b] for k, u in enumerate(steps))
        total += 0.9 ** (len(steps) - 1) * discount(rollout, end, b) * following
        errors.append(own[t, b, rollout.actions[t, b]] - total / 3)
    assert terms.value_loss == pytest.approx(0.5 * np.mean(np.square(errors)), rel=1e-4)


def test_epsilon_greedy_takes_random_allowed_actions_at_its_rate() -> None:
    head, rng = ActionValues(4, start=2), np.random.default_rng(0)
    parameters = np.tile(np.float32([1, 3, -1e8, 2, 0.4]), (20_000, 1))
    noise = np.empty((20_000, *head.noise_shape), np.float32)
    head.draw_noise(rng, noise)
    shares = np.bincount(head.sample(parameters, noise), minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.4 / 3, 0.6 + 0.4 / 3, 0, 0.4 / 3], atol=0.01)
    assert (head.mode(parameters) == 1).all()
    assert head.to_env(np.array([1])) == [3]


def test_critic_steps_leave_the_actor_alone_and_count_as_updates() -> None:
    config = dataclasses.replace(config_of("a2c"), critic=CriticConfig(critic="separate", critic_steps=3))
    model = network("a2c", separate=True)
    learner = learner_for(model, config, Stopwatch(), np.random.default_rng(0), cures=Cures(steps=3))
    batches = learner.prepare(rollout_of(model, learner.act))
    assert len(batches) == updates_per_rollout(config) == 3
    assert [batch.critic_alone for batch in batches] == [False, True, True]
    learner.gradient(batches[1])
    assert not model.policy_head.weight.grad.any()
    assert not next(iter(model.trunk.parameters())).grad.any()
    assert model.value_head.weight.grad.any()


def test_memory_returns_what_it_was_given_and_comes_back_from_its_state() -> None:
    memory, rng = CriticMemory(ObservationSpec((1,))), np.random.default_rng(0)
    observations = np.arange(20_000, dtype=np.float32)[:, None]
    for start in range(0, 20_000, 100):
        rows = observations[start : start + 100]
        memory.add(rows, rows[:, 0] * 2, rows[:, 0] % 2)
    drawn, returns = memory.draw(rng, 5000)
    np.testing.assert_array_equal(returns, 2 * drawn[:, 0])
    assert (drawn % 2 == 1).all()
    assert drawn.min() >= 20_000 - 2 * 8192
    other = CriticMemory(ObservationSpec((1,)))
    other.restore(memory.state())
    for one, again in zip(*(m.draw(np.random.default_rng(1), 50) for m in (memory, other)), strict=True):
        np.testing.assert_array_equal(one, again)


def test_corrections_choose_the_corrected_objective() -> None:
    for objective, correction, expected in (
        ("a2c", "v-trace", "v-trace"),
        ("ppo", "decoupled", "ppo-decoupled"),
        ("a2c", "none", "a2c"),
        ("ppo", None, "ppo"),
    ):
        staleness = StalenessConfig(correction=correction)
        config = dataclasses.replace(config_of(objective), staleness=staleness)
        assert config.corrected_objective == expected
        assert objective_for(config).corrects == (correction not in (None, "none"))


def test_what_was_pulled_once_has_not_moved_even_where_the_copy_was_torn() -> None:
    torn, same, later = Pulled(3, 0, torn=True), Pulled(3, 0), Pulled(4, 0)
    assert not has_moved(torn, torn)
    assert has_moved(torn, same)
    assert has_moved(same, later)
    assert not has_moved(same, Pulled(3, 9))
