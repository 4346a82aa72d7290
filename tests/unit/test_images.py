"""Images: what is taken for one, how it is scaled and laid out, and the trunks that see it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from a3c.config import CONVOLUTIONS
from a3c.convolution import Convolution, Images, Plain, flat_size
from a3c.device import multiplies_bfloat16, use_precision
from a3c.heads import Categorical
from a3c.networks import ActorCritic, fewest_parameters, initialize
from a3c.spaces import Image, ObservationSpec, is_image, observation_spec, writer

RNG = np.random.default_rng(0)


def box(*shape: int, low: float = 0, high: float = 255, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "channels", "sides"),
    [
        (box(96, 80, 3), 3, (96, 80)),
        (box(4, 84, 84), 4, (84, 84)),
        (box(40, 50), 1, (40, 50)),
        (box(40, 50, 5), 5, (40, 50)),
        (box(4, 64, 48, 3), 12, (64, 48)),
        (box(2, 3, 64, 48), 6, (64, 48)),
        (box(3, 32, 32, low=-1, high=1, dtype=np.float32), 3, (32, 32)),
    ],
)
def test_channels_are_told_from_the_space(space: spaces.Box, channels: int, sides: tuple[int, int]) -> None:
    spec = observation_spec(space)
    (image,) = spec.images
    assert (image.channels, image.sides, spec.numbers) == (channels, sides, 0)
    assert spec.shape == space.shape
    assert spec.dtype == space.dtype


@pytest.mark.parametrize("space", [box(7, 7, 3), box(128), box(20, 20, dtype=np.float32), box(2, 30)])
def test_what_is_no_image_is_taken_as_numbers(space: spaces.Box) -> None:
    assert not is_image(space)
    assert observation_spec(space).images == ()


def test_the_order_of_the_channels_and_the_range_change_nothing() -> None:
    """One picture, as every kind of image that it can be."""
    first = RNG.integers(0, 256, (2, 4, 40, 36), dtype=np.uint8)
    last, scaled = first.transpose(0, 2, 3, 1), (first / 255 * 4 - 2).astype(np.float32)
    kinds = [
        (box(4, 40, 36), first),
        (box(40, 36, 4), last),
        (box(4, 40, 36, low=-2, high=2, dtype=np.float32), scaled),
    ]
    outputs, layers = [], Plain(observation_spec(kinds[0][0]).images[0], "paper")
    for space, pictures in kinds:
        convolution = Convolution(observation_spec(space).images[0], layers)
        outputs.append(convolution(torch.from_numpy(np.ascontiguousarray(pictures))))
        torch.testing.assert_close(convolution(torch.from_numpy(pictures[0].copy())), outputs[-1][0])
    for one, other in pairwise(outputs):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_bfloat16_is_the_same_policy_within_a_bound(kind: str) -> None:
    """Features differ by at most 1 % of their size, each layer's gradient by 10 %; the weights stay float32."""
    spec = observation_spec(box(84, 84, 4))
    network = Images(spec, kind, ())
    initialize(ActorCritic(network, Categorical(2)), 0)
    pictures = torch.from_numpy(RNG.integers(0, 256, (16, 84, 84, 4), dtype=np.uint8))
    found = []
    for in_bfloat16 in (False, True):
        network.images[0].in_bfloat16 = in_bfloat16  # type: ignore[assignment]
        network.zero_grad()
        features = network(pictures)
        features.square().sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        assert {each.dtype for each in (features, *gradients) if each is not None} == {torch.float32}
        found.append([features.detach(), *gradients])
    assert any(not one.equal(other) for one, other in zip(*found, strict=True))
    for bound, one, other in zip([0.01] + [0.1] * len(gradients), *found, strict=True):
        assert float((one - other).norm()) < bound * float(one.norm())


def test_a_run_says_in_what_its_images_are_computed() -> None:
    model = ActorCritic(Images(observation_spec(box(84, 84)), "paper", ()), Categorical(2))
    convolution = model.trunk.images[0]  # type: ignore[union-attr, index]
    for name, expected in (("float32", False), ("bfloat16", True), ("auto", multiplies_bfloat16())):
        use_precision(model, name, "cpu")
        assert convolution.in_bfloat16 == expected


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_parts_are_seen_by_trunks_of_their_own(kind: str) -> None:
    space = spaces.Dict(eye=box(48, 48, 3), speed=spaces.Box(-1, 1, (2,)), near=box(3, 40, 40), way=spaces.Discrete(3))
    spec = observation_spec(space)
    assert (spec.numbers, len(spec.images)) == (5, 2)
    row = np.zeros((2, *spec.shape), np.float32)
    for one in row:
        writer(space, spec)(space.sample(), one)
    model = ActorCritic(Images(spec, kind, (8,)), Categorical(2), normalize=True, value_scale=None)
    initialize(model, 0)
    assert model.normalizer is not None
    assert model.normalizer.size == 5
    parameters, values = model(torch.from_numpy(row))
    (parameters.sum() + values.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters() if p.requires_grad)
    for place in (0, spec.images[0].start + 100, spec.images[1].start + 100):
        changed = row.copy()
        changed[0, place : place + 400] = 200
        assert not torch.equal(model(torch.from_numpy(changed))[0][0], parameters[0])


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_forged_size_is_told_without_building_it(kind: str) -> None:
    image = observation_spec(box(4, 84, 84)).images[0]
    spec = ObservationSpec(image.shape, "uint8", images=(image,))
    trunk = Images(spec, kind, (8,))
    flat = next(layer for layer in trunk.modules() if isinstance(layer, torch.nn.Linear))
    assert flat.in_features == flat_size(image, kind)
    count = sum(parameter.numel() for parameter in trunk.parameters())
    assert 0 < fewest_parameters(spec, (8,), kind, None, 2) <= count
    with pytest.raises(ValueError, match=r"images of 16 x 16, too small for the convolution|^$"):
        Plain(Image(0, (16, 16), (0, 1), 0, 255), "paper")
