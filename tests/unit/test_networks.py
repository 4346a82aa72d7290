"""The actor-critic, its first weights, and the policy made of it."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a3c.actors import Policy
from a3c.heads import Categorical
from a3c.networks import initialize
from tests.unit.networks import mlp


def model(hidden_sizes=(128, 128), observations=4, actions=2, value_scale=1.0, seed=0):
    network = mlp(observations, actions, hidden_sizes, value_scale)
    initialize(network, seed)
    return network


def outputs(network, observations):
    with torch.no_grad():
        return [output.clone() for output in network(observations)]


def test_two_layers_of_128_on_cartpole_have_17539_parameters():
    assert sum(parameter.numel() for parameter in model().parameters()) == 17_539


@given(st.lists(st.integers(1, 5), max_size=3), st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_outputs_keep_the_leading_shape(leading, hidden_sizes):
    logits, values = outputs(model(hidden_sizes, observations=4, actions=3), torch.randn(*leading, 4))
    assert logits.shape == (*leading, 3)
    assert values.shape == (*leading,)


def test_the_network_is_the_one_written_out_in_plain_loops():
    network = model((5, 3), observations=4, actions=2, value_scale=7.0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    observation = torch.randn(4)

    def linear(layer, inputs):
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        return [bias + sum(weight * x for weight, x in zip(weights, inputs, strict=True)) for weights, bias in rows]

    hidden = observation.tolist()
    for layer in network.trunk:
        hidden = [max(0.0, unit) for unit in linear(layer, hidden)]
    logits, value = outputs(network, observation)
    np.testing.assert_allclose(logits, linear(network.policy_head, hidden), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, 7 * linear(network.value_head, hidden)[0], rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    first, second, other = (torch.cat([p.flatten() for p in model(seed=seed).parameters()]) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("hidden_sizes", [(128, 128), (64, 64, 64)])
def test_first_weights_are_the_same_bits_with_any_number_of_threads(hidden_sizes):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(model(hidden_sizes).state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for weights in found[1:]:
        assert all(torch.equal(weights[name], tensor) for name, tensor in found[0].items())


def test_initialization_leaves_the_global_generator_alone():
    network = mlp(4, 2, (8,))
    torch.manual_seed(5)
    initialize(network, 1)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("hidden_sizes", [(128, 128), (32,), (16, 8, 4)])
def test_first_weights_are_orthogonal_with_the_gain_of_their_layer(hidden_sizes):
    network = model(hidden_sizes, actions=3)
    layers = [*network.trunk, network.policy_head, network.value_head]
    for layer, gain in zip(layers, [2**0.5] * len(hidden_sizes) + [0.01, 1.0], strict=True):
        weight = layer.weight.detach().double().numpy()
        short = weight if weight.shape[0] <= weight.shape[1] else weight.T
        np.testing.assert_allclose(short @ short.T, gain**2 * np.eye(len(short)), atol=1e-5 * gain**2)
        assert not layer.bias.detach().any()


def test_first_policy_is_nearly_uniform():
    observations = np.random.default_rng(0).uniform(-2, 2, (256, 4))
    probabilities = Policy(model(actions=4)).probabilities(observations)
    np.testing.assert_allclose(probabilities, 0.25, atol=0.02)
    assert np.ptp(probabilities) > 0


@pytest.mark.parametrize(
    ("part", "moves_logits", "moves_values"),
    [("trunk", True, True), ("policy_head", True, False), ("value_head", False, True)],
)
def test_heads_are_separate_and_the_trunk_is_shared(part, moves_logits, moves_values):
    network, observations = model(), torch.randn(6, 4)
    logits, values = outputs(network, observations)
    with torch.no_grad():
        for parameter in getattr(network, part).parameters():
            parameter += 0.1
    new_logits, new_values = outputs(network, observations)
    assert torch.equal(logits, new_logits) is not moves_logits
    assert torch.equal(values, new_values) is not moves_values


def test_value_scale_is_the_unit_of_the_value_head_alone():
    observations = torch.randn(6, 4)
    logits, values = outputs(model(value_scale=1.0), observations)
    scaled_logits, scaled_values = outputs(model(value_scale=20.0), observations)
    assert torch.equal(logits, scaled_logits)
    np.testing.assert_allclose(scaled_values, values * 20, rtol=1e-6)


def test_policy_agrees_with_the_module():
    network = model((16, 8), actions=3, value_scale=10.0)
    with torch.no_grad():
        network.policy_head.weight.normal_()
    observations = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    logits, values = outputs(network, torch.from_numpy(observations))
    policy = Policy(network)
    np.testing.assert_allclose(policy.parameters(observations), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(policy.probabilities(observations), logits.softmax(-1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(policy.values(observations), values, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(policy(observations), logits.argmax(-1))


def test_policy_values_are_in_units_of_return():
    network = model(value_scale=10.0)
    with torch.no_grad():
        network.value_head.weight.zero_()
        network.value_head.bias.fill_(3.0)
    np.testing.assert_allclose(Policy(network).values(np.zeros((2, 4))), [30.0, 30.0])


def fixed_policy(logits):
    """A policy whose logits are the same everywhere."""
    network = model((8,), actions=len(logits))
    with torch.no_grad():
        network.policy_head.weight.zero_()
        network.policy_head.bias.copy_(torch.tensor(logits))
    return Policy(network)


def test_greedy_actions_are_the_most_probable_and_sampled_ones_have_their_probabilities():
    logits = [0.0, 1.0, -1.0, 0.5]
    policy, observations = fixed_policy(logits), np.zeros((40_000, 4))
    assert set(policy(observations).tolist()) == {1}
    expected = len(observations) * np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(policy(observations, greedy=False, rng=np.random.default_rng(0)), minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


def test_sampling_repeats_with_its_generator():
    policy, observations = fixed_policy([0.0, 0.0, 0.0]), np.zeros((100, 4))
    first, second, other = (policy(observations, greedy=False, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_probabilities_sum_to_1_even_where_logits_are_extreme():
    policy = fixed_policy([1e4, -1e4, 9.99e3])
    probabilities = policy.probabilities(np.zeros((3, 4)))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_policy_takes_batches_of_any_length_and_type(batch):
    policy = Policy(model())
    observations = np.zeros((batch, 4))
    for array in (observations, observations.astype(np.float32), np.asfortranarray(observations)):
        actions = policy(array)
        assert actions.shape == (batch,)
        assert actions.dtype == np.int64
    if batch:
        assert policy(observations.tolist()).shape == (batch,)


@given(st.lists(st.integers(0, 5), max_size=4).filter(lambda shape: len(shape) != 2 or shape[1] != 4))
def test_other_shapes_are_refused_with_both_shapes_named(shape):
    policy = Policy(model((8,)))
    for method in (policy, policy.parameters, policy.probabilities, policy.values):
        with pytest.raises(ValueError, match=r"\[B, 4\].*" + re.escape(str(shape))):
            method(np.zeros(shape))


def test_actions_are_numbered_as_the_environment_numbers_them():
    network, observations = model((8,), actions=3), np.random.default_rng(0).normal(size=(200, 4))
    counted = Policy(network)
    network.head = Categorical(3, start=5)
    policy = Policy(network)
    np.testing.assert_array_equal(policy(observations), counted(observations) + 5)
    np.testing.assert_array_equal(policy.actions(observations), counted(observations))
    sampled = (one(observations, greedy=False, rng=np.random.default_rng(1)) for one in (policy, counted))
    np.testing.assert_array_equal(next(sampled), next(sampled) + 5)
    assert policy.probabilities(observations).shape == (200, 3)
