"""Observations of every space as numbers, and spaces as JSON."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.heads import head_for
from a3c.spaces import ObservationSpec, from_json, observation_spec, to_json, write_mask, writer

warnings.filterwarnings("ignore", message=".*precision lowered")
SIMPLE: list[Any] = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(-np.inf, np.inf, ()),
    spaces.Box(np.array([0.0, -5.0]), np.array([np.inf, 5.0]), dtype=np.float64),
    spaces.Box(0, 255, (7, 7, 3), np.uint8),
    spaces.Box(-3, 3, (2, 2), np.int64),
    spaces.Discrete(4, start=2),
    spaces.MultiDiscrete([2, 3], start=[1, -1]),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiBinary(3),
    spaces.MultiBinary([2, 2]),
]
NESTED = st.recursive(
    st.sampled_from(SIMPLE),
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.sampled_from("abc"), parts, min_size=1).map(spaces.Dict)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(NESTED, st.integers(0, 2**32 - 1))
def test_numbers_are_those_of_gymnasiums_own_flattening_and_the_space_survives_json(space: Any, seed: int) -> None:
    space.seed(seed)
    sample = space.sample()
    spec = observation_spec(space)
    out = np.full(spec.shape, np.nan, spec.dtype)
    writer(space, spec)(sample, out)
    expected = spaces.utils.flatten(space, sample)
    np.testing.assert_allclose(out.reshape(-1), np.asarray(expected, np.float64).reshape(-1), rtol=1e-6)
    assert from_json(to_json(space)) == space
    assert observation_spec(from_json(to_json(space))) == spec


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Text(4), "observes Text"),
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3)), "observes Text (part 'b')"),
        (spaces.Sequence(spaces.Discrete(2)), "observes Sequence"),
        (spaces.Box(0, 255, (64, 64, 32), np.uint8), "observes images, Box(64, 64, 32), whose channels cannot be told"),
        (spaces.Dict(eye=spaces.Box(-np.inf, np.inf, (3, 64, 64))), "images (part 'eye'), Box(3, 64, 64) without"),
        (spaces.Dict(a=spaces.Dict(eye=spaces.Box(0, 1, (3, 64, 64)))), "observes images (part 'a') inside of a part"),
        (spaces.Box(0, 1, (0,)), "observes Box(0,)"),
    ],
)
def test_a_space_that_is_not_supported_is_refused_by_the_name_of_the_part(space: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"^observes") as refusal:
        observation_spec(space)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("space", "observation", "words"),
    [
        (spaces.Discrete(3), 3, "observation 3 outside of its space"),
        (spaces.Discrete(3), 1.0, "observation of dtype float64"),
        (spaces.MultiDiscrete([2, 3]), np.array([0, 3]), "outside of its space"),
        (spaces.MultiBinary(2), np.array([0, 2]), "numbers other than 0 and 1"),
        (spaces.Box(0, 1, (2,)), np.zeros(3), "observation of shape (3,), expected (2,)"),
        (spaces.Box(0, 9, (2,), np.int64), np.zeros(2), "observation of dtype float64"),
        (spaces.Dict(a=spaces.Discrete(2)), {}, "observation without its part 'a'"),
        (spaces.Dict(a=spaces.Tuple([spaces.Discrete(2)])), {"a": (5,)}, "observation['a'][0] 5 outside"),
    ],
)
def test_an_observation_outside_of_its_space_is_refused(space: Any, observation: Any, words: str) -> None:
    spec = observation_spec(space)
    with pytest.raises(ValueError, match=r"^observation") as refusal:
        writer(space, spec)(observation, np.zeros(spec.shape, spec.dtype))
    assert words in str(refusal.value)


def test_a_mask_comes_last_and_is_no_input() -> None:
    space = spaces.Dict(action_mask=spaces.Box(0, 1, (3,), np.int8), board=spaces.Box(0, 1, (2,)))
    spec = observation_spec(space, outputs=3)
    assert spec == ObservationSpec((5,), mask=3)
    assert spec.size == 2
    out = np.zeros(5, np.float32)
    writer(space, spec)({"action_mask": np.int8([0, 1, 1]), "board": np.float32([0.5, 0.25])}, out)
    assert out.tolist() == [0.5, 0.25, 0, 1, 1]
    with pytest.raises(ValueError, match="mask of 3 numbers; its actions need 4"):
        observation_spec(space, outputs=4)


def test_only_the_mask_at_the_top_is_one() -> None:
    space = spaces.Dict(board=spaces.Dict(action_mask=spaces.MultiBinary(3), x=spaces.Discrete(2)))
    spec = observation_spec(space, outputs=3)
    assert (spec.size, spec.mask) == (5, 0)
    out = np.zeros(5, np.float32)
    writer(space, spec)({"board": {"action_mask": np.int8([0, 1, 1]), "x": 1}}, out)
    assert out.tolist() == [0, 1, 0, 1, 1]


def test_the_mask_of_an_info_may_be_nested() -> None:
    out = np.zeros(5, np.float32)
    write_mask((np.int8([1, 0]), np.int8([0, 1, 1])), out)
    assert out.tolist() == [1, 0, 0, 1, 1]
    with pytest.raises(ValueError, match="of 4 numbers, expected 5"):
        write_mask(np.ones(4), out)
    with pytest.raises(ValueError, match="info without its 'action_mask'"):
        write_mask(None, out)


def test_parts_that_are_not_in_alphabetical_order_are_read_back_in_their_own() -> None:
    """Equal spaces may differ in that; heads and observations go by it."""
    space = spaces.Dict(switch=spaces.Discrete(2), level=spaces.Box(0, 1, (1,)), keys=spaces.MultiBinary(2))
    assert list(from_json(json.loads(json.dumps(to_json(space)))).spaces) == ["switch", "level", "keys"]
    assert head_for(from_json(to_json(space))) == head_for(space)
