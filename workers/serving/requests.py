"""From the body of a request to observations: strictly, so that nothing is guessed, and each refusal is one line."""

import json
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked."""

    observations: NDArray[np.float32]  # [B, O]
    single: bool  # one observation, which is answered in the singular


def read_request(body: bytes, observation_size: int) -> Request:
    """Read {"observation": [...]} or {"observations": [[...], ...]}.

    Raises:
        RequestError: the body is anything else.
    """
    fields = _fields(body)
    if fields.keys() == {"observation"}:
        return Request(_array([fields["observation"]], observation_size, "observation"), single=True)
    if fields.keys() == {"observations"}:
        return Request(_array(_rows(fields["observations"]), observation_size, "observations[{}]"), single=False)
    raise RequestError(400, 'body: expected {"observation": [...]} or {"observations": [[...], ...]} and nothing else')


def _fields(body: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise RequestError(400, "body: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise RequestError(400, f"body: not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise RequestError(400, "body: nested too deep") from None
    except RequestError:
        raise
    except ValueError:  # of Python's limit on the digits of a whole number
        raise RequestError(400, "body: a number has too many digits") from None
    if type(value) is not dict:
        raise RequestError(400, "body: not a JSON object")
    return value


def _rows(value: Any) -> list[Any]:
    if type(value) is not list or not value:
        raise RequestError(400, "observations: expected a list of at least one observation")
    if len(value) > OBSERVATION_LIMIT:
        raise RequestError(413, f"observations: at most {OBSERVATION_LIMIT} in one request, got {len(value)}")
    return value


def _array(rows: list[Any], size: int, name: str) -> NDArray[np.float32]:
    """Rows of `size` numbers as an array [B, O]; NumPy alone would take True, "1" and ragged rows for something."""
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != size:
            got = f"{len(row)}" if type(row) is list else "something else"
            raise RequestError(400, f"{name.format(index)}: expected a list of {size} numbers, got {got}")
        if not NUMBERS.issuperset(map(type, row)):
            raise RequestError(400, f"{name.format(index)}: expected numbers alone")
        if max(map(abs, row)) > LARGEST:  # infinity, as which 1e999 is read, and whole numbers beyond any float too
            raise RequestError(400, f"{name.format(index)}: expected numbers of at most {LARGEST:.7g} in magnitude")
    return np.array(rows, np.float32)


def _constant(text: str) -> NoReturn:
    raise RequestError(400, f"body: {text} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestError(400, "body: a key comes twice")
    return fields


_DECODER = json.JSONDecoder(
    parse_constant=_constant, object_pairs_hook=_unique
)  # made once: it costs more than its use
