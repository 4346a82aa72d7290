"""Observation spaces as the rest of the program knows them: a shape and a type of numbers."""

import math
from dataclasses import dataclass
from typing import Any

import gymnasium


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """One observation: an array of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def observation_spec(space: gymnasium.Space[Any]) -> ObservationSpec:
    """What a space's observations become.

    Raises:
        ValueError: the space is not supported; says which are.
    """
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or space.shape[0] == 0:
        supported = "supported is a Box with one dimension (a vector of at least one number)"
        raise ValueError(f"observes {brief_space(space)}; {supported}")
    return ObservationSpec(space.shape)


def brief_space(space: Any) -> str:
    """A space's kind and shape."""
    return f"{type(space).__name__}{getattr(space, 'shape', None) or ''}"
