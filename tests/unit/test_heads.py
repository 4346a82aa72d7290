"""Heads: what they sample, and that their three ways to a log-probability agree."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats

from a3c.heads import head_for

NESTED = spaces.Dict(
    a=spaces.Discrete(3, start=-1),
    b=spaces.Tuple([spaces.Box(-2, 2, (2,)), spaces.MultiBinary(2)]),
    c=spaces.MultiDiscrete([2, 3]),
)
SPACES: list[Any] = [
    spaces.Discrete(3, start=4),
    spaces.MultiDiscrete([2, 3], start=[1, 2]),
    spaces.MultiDiscrete([[2, 3], [2, 2]]),
    spaces.MultiBinary([2, 2]),
    spaces.Box(-2, 2, (2,)),
    spaces.Box(-np.inf, np.inf, ()),
    spaces.Box(0, 5, (2,), np.int32),
    NESTED,
    spaces.Tuple([NESTED, spaces.Box(0, 1, (1,))]),
]
N = 200


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_are_of_the_space_and_the_closed_form_is_autograds(space: Any) -> None:
    head, rng = head_for(space), np.random.default_rng(0)
    assert head == head_for(space)
    parameters = rng.normal(size=(N, head.outputs + head.free)).astype(np.float32)
    noise = np.empty((N, *head.noise_shape), np.float32)
    head.draw_noise(rng, noise)
    for actions in (head.sample(parameters, noise), head.mode(parameters)):
        assert (actions.shape, actions.dtype) == ((N, *head.action_shape), head.action_dtype)
        given = head.to_env(actions)
        assert all(map(space.contains, given.tolist() if head.action_shape == () else given))
    actions = head.sample(parameters, noise)
    evaluated = head.evaluate(parameters, actions)
    tensor = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
    log_prob, entropy = head.log_prob_entropy(tensor, torch.from_numpy(actions))
    np.testing.assert_allclose(evaluated.log_prob, log_prob.detach(), atol=1e-4)
    np.testing.assert_allclose(evaluated.entropy, entropy.detach(), atol=1e-4)
    by_log_prob, by_entropy = rng.normal(size=(2, N)).astype(np.float32)
    (log_prob @ torch.tensor(by_log_prob).double() + entropy @ torch.tensor(by_entropy).double()).backward()
    derivative = evaluated.backward(by_log_prob, by_entropy)
    assert derivative.dtype == np.float32
    np.testing.assert_allclose(derivative, tensor.grad, atol=1e-4)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_what_a_client_is_told_is_the_mode_and_the_distribution(space: Any) -> None:
    head, rng = head_for(space), np.random.default_rng(0)
    parameters = rng.normal(size=(N, head.outputs + head.free)).astype(np.float32)
    distributions, actions = (part.numpy() for part in head.answer(torch.from_numpy(parameters)))
    mode = head.mode(parameters)
    given, told = head.to_env(mode), head.to_env(head.from_answer(actions))
    for one, other, row in zip(given, told, actions, strict=True):
        np.testing.assert_allclose(spaces.utils.flatten(space, one), spaces.utils.flatten(space, other), atol=1e-6)
        numbers = np.concatenate([np.reshape(part, -1) for part in flat(one)])
        np.testing.assert_allclose(np.reshape(row, -1), numbers, atol=1e-5)
    for i in range(3):
        parts = head.describe(parameters[i], mode[i])
        described = [part.value for part in parts] + [part.spread for part in parts if part.spread is not None]
        np.testing.assert_allclose(np.sort(distributions[i]), np.sort(described), rtol=1e-4)


def flat(action: Any) -> list[Any]:
    """The parts of an action in their order."""
    if isinstance(action, dict | tuple):
        return [own for part in (action.values() if isinstance(action, dict) else action) for own in flat(part)]
    return [action]


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_an_action_is_sampled_as_often_as_its_probability_says(space: Any, correlated: bool) -> None:
    """The mean log-probability of samples is minus the entropy, which sums up the whole distribution."""
    head, rng = head_for(space), np.random.default_rng(1)
    parameters = np.repeat(rng.normal(size=(1, head.outputs + head.free)).astype(np.float32), 20_000, 0)
    noise = np.empty((20_000, *head.noise_shape), np.float32)
    if correlated:
        noise[:] = head.noise_of(rng.standard_normal(noise.shape, np.float32))
    else:
        head.draw_noise(rng, noise)
    evaluated = head.evaluate(parameters, head.sample(parameters, noise))
    deviation = float(evaluated.log_prob.std()) / len(parameters) ** 0.5
    assert evaluated.log_prob.mean() == pytest.approx(-evaluated.entropy[0], abs=5 * deviation)


def test_log_probabilities_of_a_gaussian_are_scipys() -> None:
    head, rng = head_for(spaces.Box(-1, 1, (3,))), np.random.default_rng(0)
    parameters, actions = rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    expected = stats.norm.logpdf(actions, parameters[:, :3], np.exp(parameters[:, 3:])).sum(1)
    np.testing.assert_allclose(head.evaluate(parameters, actions).log_prob, expected, rtol=1e-4)


def test_a_box_is_acted_in_from_bound_to_bound_and_cut_off_there() -> None:
    head = head_for(spaces.Box(np.float32([-2, 0]), np.float32([2, 10])))
    given = head.to_env(np.float32([[0, 0], [-1, 1], [0.5, -0.5], [9, -9]]))
    np.testing.assert_allclose(given, [[0, 5], [-2, 10], [1, 2.5], [2, 0]])


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple([spaces.Discrete(2), spaces.Text(3)])], ids=str)
def test_a_space_without_a_head_is_refused(space: Any) -> None:
    with pytest.raises(ValueError, match="acts in Text"):
        head_for(space)
