"""From the body of a request to observations: strictly, so that nothing is guessed, and each refusal is one line."""

import json
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from workers.serving.interface import Interface, UnanswerableError

BODY_LIMIT = 2**20  # bytes
OBSERVATION_LIMIT = 4096  # of one request
SESSION = "session"  # the field of a recurrent policy's episodes, in requests and answers


class RequestError(ValueError):
    """A request that cannot be answered: an HTTP status and one line that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """What is asked."""

    observations: NDArray[np.float32]  # [B, *shape]
    single: bool  # {"observation": ...}, not {"observations": [...]}
    session: str | None = None  # whose episodes go on; None: they begin


def read_request(body: bytes, interface: Interface, recurrent: bool = False) -> Request:
    """The request of a body; a session may be beside its observations where the policy is `recurrent`."""
    fields = _fields(body)
    session = fields.pop(SESSION, None) if recurrent else None
    if session is not None and type(session) is not str:
        raise RequestError(400, f"{SESSION}: expected the text that an answer before has given")
    if fields.keys() == {"observation"}:
        return Request(_read(interface, [fields["observation"]], "observation"), True, session)
    if fields.keys() != {"observations"}:
        raise RequestError(400, 'body: expected nothing but {"observation": ...} or {"observations": [..., ...]}')
    rows = fields["observations"]
    if type(rows) is not list or not rows:
        raise RequestError(400, "observations: expected a list of at least one observation")
    if len(rows) > OBSERVATION_LIMIT:
        raise RequestError(413, f"observations: at most {OBSERVATION_LIMIT} in one request, got {len(rows)}")
    return Request(_read(interface, rows, "observations[{}]"), False, session)


def _read(interface: Interface, values: list[Any], name: str) -> NDArray[np.float32]:
    try:
        return interface.read(values, name)
    except UnanswerableError as error:
        raise RequestError(422, str(error)) from None
    except ValueError as error:
        raise RequestError(400, str(error)) from None


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


def _refuse_constant(text: str) -> NoReturn:
    raise RequestError(400, f"body: {text} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestError(400, "body: a key comes twice")
    return fields


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)  # costs more than its use
