"""The loss against a plain loop, the closed form against autograd, and clipping."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.closed_form import WIDE, ClosedForm, LearningPass, loss_gradients
from a3c.config import Config, LossConfig
from a3c.environments import describe
from a3c.gradients import LEARNERS, NonFiniteError, clip_by_global_norm
from a3c.losses import actor_critic_loss
from a3c.networks import ActorCritic, initialize
from a3c.rollouts import Collector
from a3c.stopwatch import Stopwatch
from tests.unit.scripted_environments import copy, random_rollout

CONFIGS = [
    LossConfig(),
    LossConfig(entropy_coef=0.0, value_coef=1.0, value_scale=1.0),
    LossConfig(entropy_coef=0.3, value_coef=0.25, value_scale=20.0),
    LossConfig(entropy_coef=0.1, value_coef=0.0, value_scale=0.5),
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
    tensors = [torch.from_numpy(argument) for argument in arguments]
    logits, values = (tensor.clone().requires_grad_() for tensor in tensors[:2])
    loss, terms = actor_critic_loss(logits, values, *tensors[2:], config)
    loss.backward()
    return loss.item(), terms, logits.grad.numpy(), values.grad.numpy()


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
    assert torch_loss(arguments, LossConfig())[1].entropy == pytest.approx(math.log(5))


def test_mismatched_shapes_are_refused():
    arguments = random_arguments(0, (6, 4), 3)
    arguments[1] = arguments[1][..., None]  # [T, B, 1] would broadcast in silence
    with pytest.raises(AssertionError):
        torch_loss(arguments, LossConfig())


@PROPERTY
@given(st.sampled_from(CONFIGS), st.integers(1, 64), st.integers(2, 6), SEEDS)
def test_closed_form_loss_and_gradients_are_autograds(config, count, actions, seed):
    arguments = random_arguments(seed, (count,), actions)
    _, terms, d_logits, d_values = torch_loss(arguments, config)
    closed_terms, closed_d_logits, closed_d_values = loss_gradients(*arguments, config)
    assert closed_terms == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(closed_d_logits, d_logits, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(closed_d_values, d_values, rtol=1e-6, atol=1e-9)


def test_closed_form_is_finite_where_logits_are_extreme():
    arguments = random_arguments(0, (4,), 3)
    arguments[0][:] = [[1000, -1000, 0], [-300, 300, 299], [0, 0, -800], [80, 0, 0]]
    _, terms, d_logits, d_values = torch_loss(arguments, LossConfig())
    closed_terms, closed_d_logits, closed_d_values = loss_gradients(*arguments, LossConfig())
    assert closed_terms == pytest.approx(terms, rel=1e-6)
    np.testing.assert_allclose(closed_d_logits, d_logits, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(closed_d_values, d_values, rtol=1e-6, atol=1e-9)


def model(hidden_sizes=(128, 128), observations=4, actions=2, value_scale=10.0, seed=0):
    """A network with weights large enough to matter, and its gradients allocated full of rubbish."""
    network = ActorCritic(observations, actions, hidden_sizes, value_scale)
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


def learner_for(learner_type, network, loss, rollout, watch=None):
    n_steps, count = rollout.actions.shape
    return learner_type(network, Config(n_steps=n_steps, envs_per_worker=count, loss=loss), watch)


def learned(learner, rollout):
    """What a learner that has acted through a rollout makes of it."""
    for t, observations in enumerate(rollout.observations[:-1]):
        learner.act(t, observations)
    return learner.gradient(rollout)


def assert_same_gradients(actual, expected, tolerance=1e-5):
    scale = max(np.abs(gradient).max() for gradient in expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=tolerance * scale)


@pytest.mark.parametrize("hidden_sizes", [(128, 128), (32,), (16, 8, 4)])
@pytest.mark.parametrize(("steps", "count"), [(1, 1), (12, 1), (4, 3), (3, WIDE)])
def test_closed_form_network_is_autograds(hidden_sizes, steps, count):
    network, rng = model(hidden_sizes, actions=3), np.random.default_rng(1)
    closed = LearningPass(network, steps, count)
    for _ in range(2):  # the second with other parameters than the first
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.from_numpy(rng.normal(size=parameter.shape))
        observations = rng.normal(size=(steps + 1, count, 4)).astype(np.float32)
        d_logits = rng.normal(size=(steps * count, 3)).astype(np.float32)
        d_values = rng.normal(size=steps * count).astype(np.float32)
        acted = np.array([closed.act(t, observations[t]) for t in range(steps)])
        closed_logits, closed_values = closed.outputs(observations[-1])
        closed.backward(observations[:-1].reshape(-1, 4), d_logits.copy(), d_values.copy())
        closed_gradients = gradients(network)

        network.zero_grad(set_to_none=False)
        logits, values = network(torch.from_numpy(observations))
        (logits[:-1].reshape(-1, 3) * torch.from_numpy(d_logits)).sum().backward(retain_graph=True)
        (values[:-1].reshape(-1) * torch.from_numpy(d_values)).sum().backward()
        np.testing.assert_array_equal(closed_logits, acted.reshape(-1, 3))
        np.testing.assert_allclose(acted, logits[:-1].detach(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(closed_values, values.detach().reshape(-1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(closed.policy_logits(observations[0]), acted[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(closed.values(observations[0]), closed_values[:count], rtol=1e-5, atol=1e-4)
        assert_same_gradients(closed_gradients, gradients(network))


def test_closed_form_sees_parameters_copied_into_the_module():
    network, other = model(), model(seed=1)
    closed, observations = ClosedForm(network), np.ones((2, 4), np.float32)
    network.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(closed.policy_logits(observations), ClosedForm(other).policy_logits(observations))


def cartpole_rollout(count, n_steps=16, max_episode_steps=12, seed=1):
    """The third rollout of CartPole with the model's own policy: past the first ends, which fall inside it."""
    collector = Collector(
        describe("CartPole-v1", max_episode_steps).make(count), n_steps, 2, np.random.default_rng(seed)
    )
    policy_logits = ClosedForm(model()).policy_logits
    for _ in range(3):
        rollout = collector.collect(lambda _, observations: policy_logits(observations))
    assert not rollout.valid.all()
    assert rollout.truncated.any()
    return copy(rollout)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("config", [*CONFIGS, LossConfig(normalize_advantages=True), LossConfig(gae_lambda=1.0)])
def test_closed_form_gradient_of_a_cartpole_rollout_is_autograds(count, config):
    rollout = cartpole_rollout(count)
    first, second = (model(value_scale=config.value_scale) for _ in range(2))
    closed, auto = (
        learned(learner_for(learner_type, network, config, rollout), rollout)
        for learner_type, network in zip(LEARNERS.values(), (first, second), strict=True)
    )
    assert_same_gradients(gradients(first), gradients(second))
    assert closed.terms == pytest.approx(auto.terms, rel=1e-4, abs=1e-5)
    for one, other in zip(closed.moments, auto.moments, strict=True):
        assert np.sum(one) == pytest.approx(np.sum(other), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("learner_type", LEARNERS.values())
def test_learning_books_all_of_its_time(learner_type):
    watch, rollout = Stopwatch(), cartpole_rollout(3)
    started = time.perf_counter()
    learner = learner_for(learner_type, model(), LossConfig(), rollout, watch)
    watch.start()
    for _ in range(20):
        learned(learner, rollout)
        watch.lap("clip")
    passed = time.perf_counter() - started
    assert set(watch.seconds) == {"forward", "returns", "backward", "clip"}
    assert 0.2 * passed < sum(watch.seconds.values()) < passed
    assert min(watch.seconds.values()) > 0


@pytest.mark.parametrize("learner_type", LEARNERS.values())
def test_statistics_are_sums_over_the_valid_steps(learner_type):
    network, config = model(), LossConfig(gae_lambda=1.0, gamma=0.9)
    rollout = cartpole_rollout(3)
    statistics = learned(learner_for(learner_type, network, config, rollout), rollout)
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


@pytest.mark.parametrize("learner_type", LEARNERS.values())
def test_gradients_are_overwritten_and_neither_frozen_nor_accumulated(learner_type):
    network, config = model(), LossConfig()
    addresses = [parameter.grad.data_ptr() for parameter in network.parameters()]
    first, second = (cartpole_rollout(3, seed=seed) for seed in (0, 1))
    learner = learner_for(learner_type, network, config, first)
    seen = []
    for rollout in (first, first, first, second, first):
        learned(learner, rollout)
        seen.append(np.concatenate([part.reshape(-1) for part in gradients(network)]))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    assert (seen[0] != seen[3]).any()
    np.testing.assert_array_equal(seen[0], seen[4])
    assert addresses == [parameter.grad.data_ptr() for parameter in network.parameters()]


@pytest.mark.parametrize("learner_type", LEARNERS.values())
def test_no_gradient_flows_through_the_bootstrap_value(learner_type):
    rollout = random_rollout(np.random.default_rng(0), 1, 1, ends=0.0)
    rollout.rewards[:] = 3.0
    config = LossConfig(gamma=0.9, entropy_coef=0.0, value_scale=1.0, value_coef=1.0)
    network = model((4,), observations=3, value_scale=1.0)
    learned(learner_for(learner_type, network, config, rollout), rollout)
    with torch.no_grad():
        value, following = network(torch.from_numpy(rollout.observations[:, 0]))[1].tolist()
    # dL/d(bias of the value head) is V - G; through the target it would be (V - G) * (1 - gamma).
    assert network.value_head.bias.grad.item() == pytest.approx(value - (3.0 + 0.9 * following), rel=1e-4)


@pytest.mark.parametrize("learner_type", LEARNERS.values())
@pytest.mark.parametrize("normalize_advantages", [False, True])
def test_rollout_without_a_valid_step_has_gradient_0(learner_type, normalize_advantages):
    rollout = random_rollout(np.random.default_rng(0), 1, 1, ends=0.0)  # n_steps 1: nothing but the reset after an end
    rollout.rewards[:] = 0.0
    rollout.valid[:] = False
    network = model(observations=3)
    loss = LossConfig(normalize_advantages=normalize_advantages)
    statistics = learned(learner_for(learner_type, network, loss, rollout), rollout)
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
@pytest.mark.parametrize("learner_type", LEARNERS.values())
def test_reward_that_is_not_finite_reaches_no_parameter(learner_type, poison):
    network, rollout = model(observations=3), random_rollout(np.random.default_rng(0), 5, 2)
    rollout.rewards[2, 0] = poison
    rollout.valid[2, 0] = True
    with np.errstate(invalid="ignore"):
        learned(learner_for(learner_type, network, LossConfig(), rollout), rollout)
        flat = np.concatenate([gradient.reshape(-1) for gradient in gradients(network)])
        with pytest.raises(NonFiniteError):
            clip_by_global_norm(flat, 1.0)
