"""The loss against a plain loop, the closed form against autograd, and clipping."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from a3c.actors import actor_for
from a3c.environments import describe
from a3c.heads import Categorical
from a3c.learners import NonFiniteError, clip_by_global_norm
from a3c.networks import ActorCritic, bind, flat_zeros, initialize
from a3c.objectives import A2C, Targets
from a3c.rollouts import Collector, Rollout, Stopwatch
from a3c.spaces import ObservationSpec
from a3c.trunks import WIDE
from tests.unit.networks import GRADIENTS, a2c_loss, learn, learner_of, mlp
from tests.unit.scripted_environments import copy, random_rollout

CONFIGS = [
    a2c_loss(),
    a2c_loss(entropy_coef=0.0, value_coef=1.0, value_scale=1.0),
    a2c_loss(entropy_coef=0.3, value_coef=0.25, value_scale=20.0),
    a2c_loss(entropy_coef=0.1, value_coef=0.0, value_scale=0.5),
]


PROPERTY = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def loss_oracle(logits, values, actions, advantages, returns, valid, config):
    """The loss and its three parts, one step after the other."""
    policy, value, entropy, count = 0.0, 0.0, 0.0, 0
    for index in np.ndindex(actions.shape):
        if not valid[index]:
            continue
        weights = [math.exp(logit) for logit in logits[index]]
        probabilities = [weight / sum(weights) for weight in weights]
        policy -= math.log(probabilities[actions[index]]) * advantages[index]
        value += 0.5 * ((returns[index] - values[index]) / config.value_scale) ** 2
        entropy -= sum(p * math.log(p) for p in probabilities)
        count += 1
    policy, value, entropy = policy / count, value / count, entropy / count
    return policy + config.value_coef * value - config.entropy_coef * entropy, (policy, value, entropy)


def random_arguments(seed, shape, actions):
    """Logits, values, actions, advantages, returns and valid in float64; the first step is always valid."""
    rng = np.random.default_rng(seed)
    valid = (rng.random(shape) < 0.7).astype(np.float64)
    valid.flat[0] = 1
    logits, values = rng.normal(0, 2, (*shape, actions)), rng.normal(0, 9, shape)
    return [logits, values, rng.integers(actions, size=shape), *rng.normal(0, 9, (2, *shape)), valid]


def torch_loss(arguments, config):
    """By autograd, through the head: the loss, its terms, and the derivatives by logits and values."""
    logits, values, actions, *constants = arguments
    logits, values = (torch.from_numpy(array).clone().requires_grad_() for array in (logits, values))
    log_prob, entropy = Categorical(logits.shape[-1]).log_prob_entropy(logits, torch.from_numpy(actions))
    advantages, returns, valid = constants
    loss, terms = A2C(config).loss(log_prob, entropy, values, Targets(returns, advantages, valid, config.value_scale))
    loss.backward()
    return loss.item(), terms, logits.grad.numpy(), values.grad.numpy()


def closed_form(arguments, config):
    """The same written out: terms, and the derivatives by logits and values."""
    logits, values, actions, advantages, returns, valid = arguments
    evaluated = Categorical(logits.shape[-1]).evaluate(logits, actions)
    targets = Targets(returns, advantages, valid, config.value_scale)
    terms, derivative = A2C(config).derivative(evaluated.log_prob, evaluated.entropy, values, targets)
    return terms, evaluated.backward(derivative.log_prob, derivative.entropy), derivative.values


counts = st.integers(1, 6)


@PROPERTY
@given(st.sampled_from(CONFIGS), st.tuples(counts, counts), st.integers(2, 6), SEEDS)
def test_loss_is_the_plain_loop(config, shape, actions, seed):
    arguments = random_arguments(seed, shape, actions)
    loss, terms, _, _ = torch_loss(arguments, config)
    expected, parts = loss_oracle(*arguments, config)
    assert loss == pytest.approx(expected, rel=1e-9)
    assert terms == pytest.approx(parts, rel=1e-9)


@pytest.mark.parametrize("config", CONFIGS)
def test_invalid_steps_contribute_nothing(config):
    arguments = random_arguments(0, (6, 4), 3)
    invalid = arguments[-1] == 0
    changed = [argument.copy() for argument in arguments]
    for argument in (changed[0], changed[1], changed[3], changed[4]):
        argument[invalid] += 100
    for before, after in zip(torch_loss(arguments, config), torch_loss(changed, config), strict=True):
        np.testing.assert_array_equal(before, after)
    _, _, d_logits, d_values = torch_loss(arguments, config)
    assert not d_logits[invalid].any()
    assert not d_values[invalid].any()


def test_uniform_logits_have_the_entropy_of_a_uniform_choice():
    arguments = random_arguments(0, (3, 2), 5)
    arguments[0][:] = 4.0
    assert torch_loss(arguments, a2c_loss())[1].entropy == pytest.approx(math.log(5))


def test_mismatched_shapes_are_refused():
    arguments = random_arguments(0, (6, 4), 3)
    arguments[1] = arguments[1][..., None]  # [T, B, 1] would broadcast in silence
    with pytest.raises(AssertionError):
        torch_loss(arguments, a2c_loss())


@PROPERTY
@given(st.sampled_from(CONFIGS), st.integers(1, 64), st.integers(2, 6), SEEDS)
def test_closed_form_loss_and_gradients_are_autograds(config, count, actions, seed):
    arguments = random_arguments(seed, (count,), actions)
    _, terms, d_logits, d_values = torch_loss(arguments, config)
    closed_terms, closed_d_logits, closed_d_values = closed_form(arguments, config)
    assert closed_terms == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(closed_d_logits, d_logits, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(closed_d_values, d_values, rtol=1e-6, atol=1e-9)


def test_closed_form_is_finite_where_logits_are_extreme():
    arguments = random_arguments(0, (4,), 3)
    arguments[0][:] = [[1000, -1000, 0], [-300, 300, 299], [0, 0, -800], [80, 0, 0]]
    _, terms, d_logits, d_values = torch_loss(arguments, a2c_loss())
    closed_terms, closed_d_logits, closed_d_values = closed_form(arguments, a2c_loss())
    assert closed_terms == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(closed_d_logits, d_logits, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(closed_d_values, d_values, rtol=1e-6, atol=1e-9)


def model(hidden_sizes=(128, 128), observations=4, actions=2, value_scale=10.0, seed=0):
    """A network with weights large enough to matter, and its gradients allocated full of rubbish."""
    network = mlp(observations, actions, hidden_sizes, value_scale)
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.policy_head.weight.normal_(generator=generator)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1, generator=generator)
            parameter.grad = torch.full_like(parameter, 7.0)
    return network


def gradients(network):
    return [parameter.grad.numpy().copy() for parameter in network.parameters()]


def learner_for(way, network, loss, rollout, watch=None):
    return learner_of(network, way, *rollout.rewards.shape, loss, watch)


def learned(learner, rollout):
    """What a learner that has acted through a rollout makes of it."""
    for t, observations in enumerate(rollout.observations[:-1]):
        learner.act(t, observations, rollout.parameters[t])
    return learn(learner, rollout)


def assert_same_gradients(actual, expected, tolerance=1e-5):
    scale = max(np.abs(gradient).max() for gradient in expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=tolerance * scale)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 128), min_size=1, max_size=3), st.integers(1, 12), st.sampled_from([1, 3, WIDE - 1, WIDE])
)
@example([128, 128], 3, WIDE)
def test_closed_form_trunk_is_autograds(hidden_sizes, steps, count):
    network, rng = model(hidden_sizes), np.random.default_rng(1)
    trunk, units = network.trunk, hidden_sizes[-1]
    closed = trunk.closed_form(steps, count, steps * count)
    for _ in range(2):  # the second with other parameters than the first
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.from_numpy(rng.normal(size=parameter.shape))
        observations = rng.normal(size=(steps + 1, count, 4)).astype(np.float32)
        weight = rng.normal(size=(3, units)).astype(np.float32)
        d_outputs = rng.normal(size=(steps * count, 3)).astype(np.float32)
        acted = np.array([closed.act(t, observations[t]) for t in range(steps + 1)])
        np.testing.assert_array_equal(closed.features, acted.reshape(-1, units))
        closed.backward(closed.kept(observations[:-1].reshape(-1, 4)), d_outputs, weight)
        closed_gradients = gradients(trunk)

        trunk.zero_grad(set_to_none=False)
        features = trunk(torch.from_numpy(observations))
        (features[:-1].reshape(-1, units) * torch.from_numpy(d_outputs @ weight)).sum().backward()
        np.testing.assert_allclose(acted, features.detach(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(closed(observations[0]), acted[0], rtol=1e-5, atol=1e-5)
        assert_same_gradients(closed_gradients, gradients(trunk))


def test_closed_form_sees_parameters_copied_into_the_module():
    network, other = model(), model(seed=1)
    closed, observations = actor_for(network), np.ones((2, 4), np.float32)
    network.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(closed.parameters(observations), actor_for(other).parameters(observations))


def cartpole_rollout(count, n_steps=16, max_episode_steps=12, seed=1):
    """The third rollout of CartPole with the model's own policy: past the first ends, which fall inside it."""
    environment, rng = describe("CartPole-v1", max_episode_steps), np.random.default_rng(seed)
    collector = Collector(environment.make(count), n_steps, rng)
    learner = learner_of(model(), "closed-form", n_steps, count, a2c_loss())
    for _ in range(3):
        rollout = collector.collect(learner.act)
    assert not rollout.valid.all()
    assert rollout.truncated.any()
    return copy(rollout)


@settings(max_examples=18, deadline=None)
@given(st.integers(1, 8), st.sampled_from([*CONFIGS, a2c_loss(normalize_advantages=True), a2c_loss(gae_lambda=1.0)]))
def test_closed_form_gradient_of_a_cartpole_rollout_is_autograds(count, config):
    rollout = cartpole_rollout(count)
    first, second = (model(value_scale=config.value_scale) for _ in range(2))
    closed, auto = (
        learned(learner_for(way, network, config, rollout), rollout)
        for way, network in zip(GRADIENTS, (first, second), strict=True)
    )
    assert_same_gradients(gradients(first), gradients(second))
    assert closed.terms == pytest.approx(auto.terms, rel=1e-4, abs=1e-5)
    for one, other in zip(closed.moments, auto.moments, strict=True):
        assert np.sum(one) == pytest.approx(np.sum(other), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("way", GRADIENTS)
def test_learning_books_all_of_its_time(way):
    watch, rollout = Stopwatch(), cartpole_rollout(3)
    started = time.perf_counter()
    learner = learner_for(way, model(), a2c_loss(), rollout, watch)
    watch.start()
    for _ in range(20):
        learned(learner, rollout)
        watch.lap("clip")
    passed = time.perf_counter() - started
    assert set(watch.seconds) == {"forward", "returns", "backward", "clip"}
    assert 0.2 * passed < sum(watch.seconds.values()) < passed
    assert min(watch.seconds.values()) > 0


@pytest.mark.parametrize("way", GRADIENTS)
def test_statistics_are_sums_over_the_valid_steps(way):
    network, config = model(), a2c_loss(gae_lambda=1.0, gamma=0.9)
    rollout = cartpole_rollout(3)
    statistics = learned(learner_for(way, network, config, rollout), rollout)
    with torch.no_grad():
        values = network(torch.from_numpy(rollout.observations))[1].double().numpy()
    returns, errors = [], []
    for t, b in np.argwhere(rollout.valid):
        total, discount, k = 0.0, 1.0, t
        while True:
            total += discount * rollout.rewards[k, b]
            discount *= 0.9
            if rollout.terminated[k, b]:
                break
            if rollout.truncated[k, b] or k == len(rollout.rewards) - 1:
                total += discount * values[k + 1, b]
                break
            k += 1
        returns.append(total)
        errors.append(total - values[t, b])
    expected = [
        len(returns),
        np.abs(errors).sum(),
        np.sum(returns),
        np.square(returns).sum(),
        np.sum(errors),
        np.square(errors).sum(),
    ]
    assert [np.sum(moment) for moment in statistics.moments] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("way", GRADIENTS)
def test_gradients_are_overwritten_and_neither_frozen_nor_accumulated(way):
    network, config = model(), a2c_loss()
    addresses = [parameter.grad.data_ptr() for parameter in network.parameters()]
    first, second = (cartpole_rollout(3, seed=seed) for seed in (0, 1))
    learner = learner_for(way, network, config, first)
    seen = []
    for rollout in (first, first, first, second, first):
        learned(learner, rollout)
        seen.append(np.concatenate([part.reshape(-1) for part in gradients(network)]))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    assert (seen[0] != seen[3]).any()
    np.testing.assert_array_equal(seen[0], seen[4])
    assert addresses == [parameter.grad.data_ptr() for parameter in network.parameters()]


@pytest.mark.parametrize("way", GRADIENTS)
def test_no_gradient_flows_through_the_bootstrap_value(way):
    rollout = random_rollout(np.random.default_rng(0), 1, 1, ends=0.0)
    rollout.rewards[:] = 3.0
    config = a2c_loss(gamma=0.9, entropy_coef=0.0, value_scale=1.0, value_coef=1.0)
    network = model((4,), observations=3, value_scale=1.0)
    learned(learner_for(way, network, config, rollout), rollout)
    with torch.no_grad():
        value, following = network(torch.from_numpy(rollout.observations[:, 0]))[1].tolist()
    # dL/d(bias of the value head) is V - G; through the target it would be (V - G) * (1 - gamma).
    assert network.value_head.bias.grad.item() == pytest.approx(value - (3.0 + 0.9 * following), rel=1e-4)


@pytest.mark.parametrize("way", GRADIENTS)
@pytest.mark.parametrize("normalize_advantages", [False, True])
def test_rollout_without_a_valid_step_has_gradient_0(way, normalize_advantages):
    rollout = random_rollout(np.random.default_rng(0), 1, 1, ends=0.0)  # n_steps 1: nothing but the reset after an end
    rollout.rewards[:] = 0.0
    rollout.valid[:] = False
    network = model(observations=3)
    loss = a2c_loss(normalize_advantages=normalize_advantages)
    statistics = learned(learner_for(way, network, loss, rollout), rollout)
    assert not any(gradient.any() for gradient in gradients(network))
    assert statistics.terms == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("norm", [1e-3, 1.0, 1e10, 1e32])
def test_clipped_gradient_keeps_its_direction_and_has_at_most_the_norm(norm):
    gradient = np.random.default_rng(0).normal(size=1000)
    gradient = (gradient / np.linalg.norm(gradient) * norm).astype(np.float32)
    clipped = gradient.copy()
    assert clip_by_global_norm(clipped, 0.5) == pytest.approx(norm, rel=1e-5)
    expected = gradient.astype(np.float64) * min(1.0, 0.5 / norm)
    np.testing.assert_allclose(clipped, expected, rtol=1e-4, atol=1e-12)


def test_gradient_of_finite_elements_whose_squares_overflow_is_clipped_not_refused():
    gradient = np.full(17_539, 1e30, np.float32)
    with np.errstate(over="raise"):  # nor does it warn
        assert clip_by_global_norm(gradient, 1.0) == pytest.approx(1e30 * math.sqrt(17_539), rel=1e-5)
    assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("max_norm", [5.0, 5.001])
def test_gradient_up_to_the_norm_is_untouched(max_norm):
    gradient = np.array([3.0, -4.0, 0.0, 1e-20], np.float32)
    before = gradient.copy()
    assert clip_by_global_norm(gradient, max_norm) == pytest.approx(5.0)
    assert gradient.tobytes() == before.tobytes()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_gradient_that_is_not_finite_is_refused_and_left_as_it_is(poison):
    gradient = np.array([1.0, poison, 2.0], np.float32)
    with pytest.raises(NonFiniteError, match="not finite"):
        clip_by_global_norm(gradient, 1.0)
    np.testing.assert_array_equal(gradient, np.array([1.0, poison, 2.0], np.float32))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("way", GRADIENTS)
def test_reward_that_is_not_finite_reaches_no_parameter(way, poison):
    network, rollout = model(observations=3), random_rollout(np.random.default_rng(0), 5, 2)
    rollout.rewards[2, 0] = poison
    rollout.valid[2, 0] = True
    with np.errstate(invalid="ignore"):
        learned(learner_for(way, network, a2c_loss(), rollout), rollout)
        flat = np.concatenate([gradient.reshape(-1) for gradient in gradients(network)])
        with pytest.raises(NonFiniteError):
            clip_by_global_norm(flat, 1.0)


class Tanh(torch.nn.Module):
    """A trunk over a picture, which nobody has written a closed form for."""

    def __init__(self):
        super().__init__()
        self.observation, self.features = ObservationSpec((2, 3)), 5
        self.layer = torch.nn.Linear(6, 5)

    def forward(self, observations):
        return torch.tanh(self.layer(observations.flatten(-2)))


def test_network_without_a_closed_form_acts_and_learns_by_torch():
    network, rng = ActorCritic(Tanh(), Categorical(3)), np.random.default_rng(0)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rollout = Rollout.empty(4, 2, network.observation, network.head)
    rollout.observations[:] = rng.normal(size=rollout.observations.shape)
    rollout.actions[:] = rng.integers(3, size=rollout.actions.shape)
    rollout.rewards[:] = 1.0
    rollout.valid[:] = True
    learned(learner_of(network, "closed-form", 4, 2, a2c_loss()), rollout)
    expected = network(torch.from_numpy(rollout.observations[:-1]))[0].detach()
    np.testing.assert_allclose(rollout.parameters, expected, rtol=1e-5, atol=1e-6)
    assert all(gradient.any() for gradient in gradients(network))
    log_probs = expected.log_softmax(-1).numpy()
    chosen = np.take_along_axis(log_probs, rollout.actions[..., None], -1)[..., 0]
    np.testing.assert_allclose(rollout.behavior_log_probs, chosen, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value_clip", [None, 0.1])
def test_ppo_of_a_minibatch_is_autograds_and_its_clip_stops_the_gradient(value_clip):
    """After a step the ratio is no longer 1: some steps are clipped, and the closed form drops the same ones."""
    config = a2c_loss(objective="ppo", passes=2, minibatches=2, clip=0.05, value_clip=value_clip, value_scale=2.0)
    observed = {}
    for way in GRADIENTS:
        network = model((16,), observations=3, value_scale=2.0)
        vector, gradient = flat_zeros(network), flat_zeros(network)
        bind(network, vector, gradient)
        learner, rng = learner_of(network, way, 8, 4, config), np.random.default_rng(3)
        rollout = Rollout.empty(8, 4, network.observation, network.head)
        rollout.observations[:] = rng.normal(size=rollout.observations.shape)
        for t in range(8):
            learner.act(t, rollout.observations[t], rollout.parameters[t])
        rollout.actions[:] = rng.integers(2, size=rollout.actions.shape)
        rollout.rewards[:], rollout.valid[:] = rng.normal(size=rollout.rewards.shape), True
        first, *others = learner.prepare(rollout)
        assert [len(batch.rows) for batch in (first, *others)] == [16] * 4
        learner.gradient(first)
        vector += 0.5 * torch.from_numpy(rng.normal(size=len(vector)).astype(np.float32)) * (vector != 0)
        terms = learner.gradient(others[0]).terms
        observed[way] = (*terms, gradient.numpy().copy())
    for closed, auto in zip(*observed.values(), strict=True):
        np.testing.assert_allclose(closed, auto, rtol=1e-3, atol=1e-4)
    assert np.abs(observed["autograd"][-1]).max() > 0.01
