"""A worker's snapshot as bytes: plain JSON values, and NumPy arrays of any size anywhere among them."""

import json
import math
from typing import Any

import numpy as np

ARRAY = "__array__"  # stands in the JSON for an array: its dtype, its shape and where its bytes begin
NUMBERS = "?biufc"  # kinds of dtypes
LENGTH = 8  # bytes that hold the length of the JSON, which follows them; the arrays follow that


def pack(state: dict[str, Any]) -> bytes:
    """A state as bytes.

    Raises:
        TypeError, ValueError: something in it is neither plain JSON, finite numbers alone, nor an array of numbers.
    """
    arrays: list[bytes] = []
    size = 0

    def place(value: Any) -> dict[str, Any]:
        nonlocal size
        if not isinstance(value, np.ndarray) or value.dtype.kind not in NUMBERS:
            raise TypeError(f"a worker's snapshot cannot hold a {type(value).__name__}")
        arrays.append(value.tobytes())
        start, size = size, size + value.nbytes
        return {ARRAY: [value.dtype.str, value.shape, start]}

    text = json.dumps(state, default=place, allow_nan=False, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(LENGTH, "little"), text, *arrays))


def unpack(content: bytes) -> dict[str, Any]:
    """What `pack` made bytes of; the arrays are copies.

    Raises:
        TypeError, ValueError: it is not such bytes.
    """
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")

    def array(value: dict[str, Any]) -> Any:
        if value.keys() != {ARRAY}:
            return value
        dtype, shape, start = value[ARRAY]
        return np.frombuffer(content, dtype, math.prod(shape), end + start).reshape(shape).copy()

    state: dict[str, Any] = json.loads(content[LENGTH:end], object_hook=array)
    return state
