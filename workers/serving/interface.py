"""What a served policy takes and gives, of whatever spaces; an action mask that the environment gives in `info`
stands beside its observation: {"observation": ..., "action_mask": [...]}.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from a3c.spaces import (
    MASK,
    ObservationSpec,
    Space,
    Write,
    from_json,
    is_array,
    observation_spec,
    parts_in_order,
    to_json,
    writer,
)
from workers.serving import json_forms

MOST_NUMBERS = 2**20  # of an observation, and of a distribution
TOLERANCE = 1e-3  # of a sum of probabilities: 8 bits are rough, nonsense is rougher
NEAR = 0.01  # of the range of a real number: so near, two are the same action


class UnanswerableError(ValueError):
    """An observation in the right form for which there is no action."""


def with_info_mask(content: dict[str, Any], outputs: int) -> dict[str, Any]:
    """The observation space, as JSON, of an environment that gives its mask in `info`."""
    parts = {"observation": content, MASK: to_json(spaces.MultiBinary(outputs))}
    return {"space": "Dict", "spaces": parts}


@dataclass(frozen=True)
class Interface:
    """How observations and actions of two spaces, given as `a3c.spaces` writes them, become JSON and numbers.

    A ValueError where they are no such spaces, or too large.
    """

    observation_space: dict[str, Any]
    action_space: dict[str, Any]

    def __post_init__(self) -> None:
        try:
            size = max(math.prod(self.observation.shape), sum(self.widths))
        except (KeyError, TypeError, AttributeError, ArithmeticError, AssertionError, ValueError) as error:
            raise ValueError(f"its spaces are damaged: {type(error).__name__}: {str(error)[:120]!r}") from error
        if not 0 < size <= MOST_NUMBERS:
            raise ValueError(f"its spaces are of {size:,} numbers, of which there may be {MOST_NUMBERS:,}")

    @cached_property
    def observed(self) -> Space:
        return from_json(self.observation_space)

    @cached_property
    def acted(self) -> Space:
        return from_json(self.action_space)

    @cached_property
    def atoms(self) -> list[Space]:
        """The independent parts of an action in their order: Discrete, MultiBinary and Box spaces."""
        return list(_atoms(self.acted))

    @cached_property
    def observation(self) -> ObservationSpec:
        """As the network takes it: an array, whose last numbers may be a mask."""
        outputs = sum(int(spaces.utils.flatdim(atom)) for atom in self.atoms)
        return observation_spec(self.observed, outputs)

    @property
    def flat_size(self) -> int:
        """How many numbers an observation has that are of no image, its mask included."""
        return self.observation.numbers + self.observation.mask

    def fill(self, numbers: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Observations [B, *shape] of those numbers [B, N], with random images."""
        spec, rows = self.observation, len(numbers)
        parts: list[Any] = [numbers[:, : spec.numbers]]
        parts += [rng.uniform(image.low, image.high, (rows, math.prod(image.shape))) for image in spec.images]
        filled = np.concatenate((*parts, numbers[:, spec.numbers :]), 1, dtype=np.float32, casting="same_kind")
        return filled.reshape(rows, *spec.shape)

    @cached_property
    def widths(self) -> list[int]:
        """How many numbers describe the distribution of each atom."""
        return [int(spaces.utils.flatdim(atom)) * (1 + isinstance(atom, spaces.Box)) for atom in self.atoms]

    @property
    def is_discrete(self) -> bool:
        """Whether a distribution is nothing but probabilities."""
        return not any(isinstance(atom, spaces.Box) for atom in self.atoms)

    @property
    def is_whole(self) -> bool:
        """Whether actions are whole numbers in the model: else they are float32."""
        return not isinstance(self.acted, spaces.Box | spaces.Dict | spaces.Tuple)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of one action in the model."""
        return () if isinstance(self.acted, spaces.Discrete) else (sum(map(_count, self.atoms)),)

    @cached_property
    def nearness(self) -> NDArray[np.float64]:
        """How far two numbers of an action [N] may be apart and still be the same action."""
        parts = [_nearness(atom) for atom in self.atoms]
        return np.concatenate(parts).reshape(self.action_shape)

    @cached_property
    def _write(self) -> Write:
        return writer(self.observed, self.observation)

    def read(self, values: list[Any], name: str) -> NDArray[np.float32]:
        """Observations [B, *shape] from JSON, in which they are `name` (with {} for their number); else a ValueError.

        Strictly: NumPy alone would accept True, "1" and ragged rows.
        """
        space, spec = self.observed, self.observation
        rows = [json_forms.given(space, value, name.format(i), spec) for i, value in enumerate(values)]
        if is_array(space):
            return np.array(rows, np.float32)
        written = np.empty((len(rows), *spec.shape), np.float32)
        for i, row in enumerate(rows):
            try:
                self._write(row, written[i])
            except ValueError as error:
                raise ValueError(str(error).replace("observation", name.format(i), 1)) from None
        self._check_mask(written, name)
        return written

    def _check_mask(self, observations: NDArray[np.float32], name: str) -> None:
        if self.observation.mask:
            starts = np.cumsum([0, *self.widths[:-1]])
            allowed = np.maximum.reduceat(observations[:, -self.observation.mask :], starts, 1) > 0
            if not allowed.all():
                row = int(np.argmin(allowed.all(1)))
                raise UnanswerableError(f"{name.format(row)}: {MASK} allows no action")

    def written(self, actions: NDArray[Any]) -> list[Any]:
        """Actions [B] or [B, N] of the model as JSON."""
        if isinstance(self.acted, spaces.Discrete):
            return list(actions.tolist())
        return [json_forms.built(self.acted, iter(row)) for row in actions.tolist()]

    def example(self) -> Any:
        """An observation as JSON."""
        return json_forms.example(self.observed, self.observation)

    def schemas(self) -> dict[str, Any]:
        """OpenAPI's of an observation, an action and a distribution."""
        share: dict[str, Any] = {"type": "number"} | ({"minimum": 0, "maximum": 1.001} if self.is_discrete else {})
        return {
            "Observation": json_forms.schema(self.observed, self.observation),
            "Action": {**json_forms.schema(self.acted), "description": "as the environment counts"},
            "Distribution": json_forms.list_of([share] * sum(self.widths)),
        }

    def check(self, distributions: NDArray[Any], actions: NDArray[Any]) -> None:
        """A ValueError where distributions [B, K] are none, or actions [B] or [B, N] are not their most probable."""
        if not np.isfinite(distributions).all() or not np.isfinite(actions).all():
            raise ValueError("its answers are not finite")
        numbers, begin, first = actions.reshape(len(actions), -1), 0, 0
        for atom, width in zip(self.atoms, self.widths, strict=True):
            last = first + _count(atom)
            _check_atom(atom, distributions[:, begin : begin + width], numbers[:, first:last])
            begin, first = begin + width, last


def _atoms(space: Space) -> Iterator[Space]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in parts_in_order(space).values():
            yield from _atoms(part)
    elif isinstance(space, spaces.MultiDiscrete):
        for count, start in zip(space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist(), strict=True):
            yield spaces.Discrete(count, start=start)
    elif isinstance(space, spaces.Discrete | spaces.MultiBinary | spaces.Box):
        yield space
    else:
        raise ValueError(f"its actions are of the unknown kind {type(space).__name__[:40]!r}")


def _count(atom: Space) -> int:
    """How many numbers an action of an atom is."""
    return 1 if isinstance(atom, spaces.Discrete) else int(spaces.utils.flatdim(atom))


def _nearness(atom: Space) -> NDArray[np.float64]:
    if not isinstance(atom, spaces.Box) or atom.dtype.kind != "f":
        return np.full(_count(atom), 0.5)
    with np.errstate(over="ignore", invalid="ignore"):
        width = atom.high.reshape(-1).astype(np.float64) - atom.low.reshape(-1)
    return NEAR * np.where(np.isfinite(width), width, 1.0)


def _check_atom(atom: Space, shares: NDArray[Any], chosen: NDArray[Any]) -> None:
    if isinstance(atom, spaces.Box):
        low, high = (bound.reshape(-1).astype(np.float64) for bound in (atom.low, atom.high))
        mean, deviations = np.split(shares, 2, 1)
        if (deviations < 0).any():
            raise ValueError("its standard deviations are negative")
        rounding = 0.5 if atom.dtype.kind != "f" else 0.0
        if (abs(np.clip(mean, low, high) - chosen) > rounding + TOLERANCE * np.maximum(1, abs(chosen))).any():
            raise ValueError("its actions are not the most probable ones")
        return
    if isinstance(atom, spaces.MultiBinary):
        shares, start, count = np.stack((1 - shares, shares), -1).reshape(-1, 2), 0, 2
    else:
        start, count = int(atom.start), int(atom.n)  # type: ignore[attr-defined]
    if (shares < 0).any() or (abs(shares.sum(-1) - 1) > TOLERANCE).any():
        raise ValueError("its probabilities do not sum to 1")
    index = chosen.reshape(-1).astype(np.int64) - start
    if (index < 0).any() or (index >= count).any():
        raise ValueError(f"its actions are not among the {count} of its space")
    if (shares[np.arange(len(index)), index] < shares.max(-1) - TOLERANCE).any():
        raise ValueError("its actions are not the most probable ones")
