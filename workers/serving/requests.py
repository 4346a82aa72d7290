"""From the body of a request to observations: strictly, so that nothing is guessed, and each refusal is one line."""

import json
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

BODY_LIMIT = 2**20  # bytes
OBSERVATION_LIMIT = 4096  # of one request
LARGEST = float(np.finfo(np.float32).max)
NUMBERS = frozenset((int, float))  # as JSON has them; a bool is none


class RequestError(ValueError):
    """A request that cannot be answered: an HTTP status and one line that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def read_request(body: bytes, observation_size: int) -> tuple[NDArray[np.float32], bool]:
    """Observations [B, O] of {"observation": [...]} or {"observations": [[...], ...]}, and whether it was the first."""
    fields = _fields(body)
    if fields.keys() == {"observation"}:
        return _array([fields["observation"]], observation_size, "observation"), True
    if fields.keys() != {"observations"}:
        raise RequestError(400, 'body: expected nothing but {"observation": [...]} or {"observations": [[...], ...]}')
    rows = fields["observations"]
    if type(rows) is not list or not rows:
        raise RequestError(400, "observations: expected a list of at least one observation")
    if len(rows) > OBSERVATION_LIMIT:
        raise RequestError(413, f"observations: at most {OBSERVATION_LIMIT} in one request, got {len(rows)}")
    return _array(rows, observation_size, "observations[{}]"), False


def _fields(body: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(body.decode())
    except RequestError:
        raise
    except RecursionError:
        raise RequestError(400, "body: nested too deep") from None
    except ValueError as error:  # neither JSON nor UTF-8, or more digits than Python reads
        raise RequestError(400, f"body: not JSON: {error}") from None
    if type(value) is not dict:
        raise RequestError(400, "body: not a JSON object")
    return value


def _array(rows: list[Any], size: int, name: str) -> NDArray[np.float32]:
    """Rows of `size` numbers as an array [B, O]; NumPy alone would accept True, "1" and ragged rows."""
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != size:
            got = f"{len(row)}" if type(row) is list else "something else"
            raise RequestError(400, f"{name.format(index)}: expected a list of {size} numbers, got {got}")
        if not NUMBERS.issuperset(map(type, row)):
            raise RequestError(400, f"{name.format(index)}: expected numbers alone")
        if max(map(abs, row)) > LARGEST:  # infinity, as which 1e999 is read, and whole numbers beyond any float too
            raise RequestError(400, f"{name.format(index)}: expected numbers of at most {LARGEST:.7g} in magnitude")
    return np.array(rows, np.float32)


def _refuse_constant(text: str) -> NoReturn:
    raise RequestError(400, f"body: {text} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestError(400, "body: a key comes twice")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)  # costs more than its use
