"""A worker's snapshot as bytes: plain JSON values, and among them NumPy arrays of any size."""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY = "__array__"  # stands in the JSON for an array: its dtype, its shape and where its bytes begin
LENGTH = 8  # bytes that hold the length of the JSON, which comes next; then come the arrays


def pack(state: dict[str, Any]) -> bytes:
    """A state as bytes; TypeError or ValueError where it holds more than JSON, finite numbers and arrays of numbers."""
    arrays: list[NDArray[Any]] = []

    def place(value: Any) -> dict[str, Any]:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "?biufc":
            raise TypeError(f"a worker's snapshot cannot hold a {type(value).__name__}")
        start = sum(array.nbytes for array in arrays)
        arrays.append(value)
        return {ARRAY: [value.dtype.str, value.shape, start]}

    text = json.dumps(state, default=place, allow_nan=False, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(LENGTH, "little"), text, *(array.tobytes() for array in arrays)))


def unpack(content: bytes) -> dict[str, Any]:
    """The state that was packed, its arrays as copies; TypeError or ValueError where `content` is none."""
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")

    def array(value: dict[str, Any]) -> Any:
        if value.keys() != {ARRAY}:
            return value
        dtype, shape, start = value[ARRAY]
        return np.frombuffer(content, dtype, math.prod(shape), end + start).reshape(shape).copy()

    state = json.loads(content[LENGTH:end], object_hook=array)
    if not isinstance(state, dict):
        raise ValueError("not a worker's snapshot")
    return state
