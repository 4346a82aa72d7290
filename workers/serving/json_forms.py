"""Observations and actions as JSON, and the OpenAPI schema of both: one form for each space.

Discrete is a whole number; Box, MultiDiscrete and MultiBinary are numbers in lists, nested as their shape; a Dict is an
object and a Tuple a list of its parts.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from a3c.spaces import MASK, ObservationSpec, Space, is_array, parts_in_order

LARGEST = float(np.finfo(np.float32).max)
LARGEST_WHOLE = 2**53  # beyond, JSON's numbers are no longer exact for many of its readers
NUMBERS = frozenset((int, float))  # as JSON has them; a bool is none


def given(space: Space, value: Any, name: str, seen: ObservationSpec) -> Any:
    """An observation's parts as the space has them, from JSON; what no number may be is left to `a3c.spaces`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = parts_in_order(space, seen.left_out)
        return _given_parts(space, parts, value, name)
    numbers = _numbers(space.shape or (), value, name, _is_real(space))
    return np.array(numbers) if space.shape and not is_array(space) else numbers


def _given_parts(space: Space, parts: dict[Any, Space], value: Any, name: str) -> Any:
    named = isinstance(space, spaces.Dict)
    if type(value) is not (dict if named else list) or len(value) != len(parts) or (named and set(value) != set(parts)):
        wanted = f"an object of {', '.join(map(str, parts))}" if named else f"a list of {len(parts)} parts"
        raise ValueError(f"{name}: expected {wanted}")
    return {part: given(one, value[part], f"{name}[{part!r}]", ObservationSpec(())) for part, one in parts.items()}


def _numbers(shape: tuple[int, ...], value: Any, name: str, real: bool) -> Any:
    """Numbers in lists that are nested as a shape; whole ones unless they may be `real`."""
    kind, limit = ("numbers", LARGEST) if real else ("whole numbers", LARGEST_WHOLE)
    if not shape:
        return _numbers((1,), [value], name, real)[0]
    if type(value) is not list or len(value) != shape[0]:
        got = f"{len(value)}" if type(value) is list else "something else"
        what = kind if len(shape) == 1 else "lists"
        raise ValueError(f"{name}: expected a list of {shape[0]} {what}, got {got}")
    if len(shape) > 1:
        return [_numbers(shape[1:], one, f"{name}[{i}]", real) for i, one in enumerate(value)]
    if not NUMBERS.issuperset(map(type, value)):
        raise ValueError(f"{name}: expected {kind} alone")
    if max(map(abs, value)) > limit:  # infinity, as which 1e999 is read, and whole numbers beyond any float too
        raise ValueError(f"{name}: expected {kind} of at most {limit:.7g} in magnitude")
    if real:
        return value
    if any(number != int(number) for number in value):
        raise ValueError(f"{name}: expected {kind} alone")
    return list(map(int, value))


def _is_real(space: Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


def built(space: Space, numbers: Iterator[float]) -> Any:
    """The action of a space as JSON, from its numbers in their order."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = {part: built(one, numbers) for part, one in parts_in_order(space).items()}
        return parts if isinstance(space, spaces.Dict) else list(parts.values())
    if isinstance(space, spaces.Discrete):
        return int(next(numbers))
    own = np.array([next(numbers) for _ in range(int(np.prod(space.shape or ())))])
    return (own if _is_real(space) else own.astype(np.int64)).reshape(space.shape or ()).tolist()


def example(space: Space, seen: ObservationSpec, is_mask: bool = False) -> Any:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = parts_in_order(space, seen.left_out).items()
        made = {part: example(one, ObservationSpec(()), part == MASK) for part, one in parts}
        return made if isinstance(space, spaces.Dict) else list(made.values())
    if isinstance(space, spaces.Discrete):
        return int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.tolist()
    own = np.full(space.shape or (), float(is_mask))
    return (own if _is_real(space) else own.astype(np.int64)).tolist()


def schema(space: Space, seen: ObservationSpec | None = None) -> dict[str, Any]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = {p: schema(one) for p, one in parts_in_order(space, seen.left_out if seen else ()).items()}
        if isinstance(space, spaces.Tuple):
            return list_of(list(parts.values()))
        names = list(parts)
        return {"type": "object", "properties": parts, "required": names, "additionalProperties": False}
    if isinstance(space, spaces.Discrete):
        return _whole(int(space.start), int(space.start + space.n) - 1)
    if isinstance(space, spaces.MultiDiscrete):
        starts, ends = (np.asarray(bound).astype(object) for bound in (space.start, space.start + space.nvec - 1))
        return _nested(space.shape, list(map(_whole, starts.reshape(-1), ends.reshape(-1))))
    one = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
    if isinstance(space, spaces.MultiBinary):
        one = _whole(0, 1)
    elif not _is_real(space):
        one = _whole(-LARGEST_WHOLE, LARGEST_WHOLE)
    shape = space.shape or ()
    return _nested(shape, [one] * int(np.prod(shape)))


def _whole(lowest: int, highest: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": int(lowest), "maximum": int(highest)}


def _nested(shape: tuple[int, ...], numbers: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema of lists nested as a shape, of those of its numbers in their order."""
    if not shape:
        return numbers[0]
    size = len(numbers) // shape[0]
    return list_of([_nested(shape[1:], numbers[i * size : (i + 1) * size]) for i in range(shape[0])])


def list_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema of a list: of one for all its parts, where they are alike."""
    alike = all(part == parts[0] for part in parts)
    of = {"items": parts[0]} if alike else {"prefixItems": parts, "items": False}
    return {"type": "array", **of, "minItems": len(parts), "maxItems": len(parts)}
