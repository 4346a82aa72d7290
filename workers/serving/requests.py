"""What clients may ask: read strictly, each refusal one line; and described as OpenAPI."""

import json
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from workers.serving.metadata import Metadata

JSON = "application/json"
BODY_LIMIT = 2**20  # bytes
OBSERVATION_LIMIT = 4096  # of one request
LARGEST = float(np.finfo(np.float32).max)
NUMBERS = frozenset((int, float))  # as JSON has them; a bool is none
PLURALS = {"action": "actions", "probabilities": "probabilities", "value": "values"}  # of the fields of an answer
REFUSALS = {
    "400": "not what is described here; `error` says what",
    "413": f"more than {BODY_LIMIT} bytes, or more than {OBSERVATION_LIMIT} observations",
    "415": f"Content-Type is not {JSON}",
    "422": "observations so large that the policy's answer is not finite",
}
PAGES = {
    "/": "A page to try the policy",
    "/healthz": "The model that is served",
    "/metrics": "Counts and latencies, as Prometheus text",
    "/hello": "Nothing but an answer, to compare latencies with",
    "/openapi.json": "This description",
}


class RequestError(ValueError):
    """A request that cannot be answered: an HTTP status and one line that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def read_request(body: bytes, observation_size: int) -> tuple[NDArray[np.float32], bool]:
    """Observations [B, O] of {"observation": [...]} or {"observations": [[...], ...]}, and whether it was the first.

    Raises:
        RequestError: the body is anything else.
    """
    fields = _fields(body)
    if fields.keys() == {"observation"}:
        return _array([fields["observation"]], observation_size, "observation"), True
    if fields.keys() != {"observations"}:
        raise RequestError(
            400, 'body: expected {"observation": [...]} or {"observations": [[...], ...]} and nothing else'
        )
    rows = fields["observations"]
    if type(rows) is not list or not rows:
        raise RequestError(400, "observations: expected a list of at least one observation")
    if len(rows) > OBSERVATION_LIMIT:
        raise RequestError(413, f"observations: at most {OBSERVATION_LIMIT} in one request, got {len(rows)}")
    return _array(rows, observation_size, "observations[{}]"), False


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


def describe(metadata: Metadata) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the server, for the model that it serves."""
    first, last = metadata.action_start, metadata.action_start + metadata.action_count - 1
    observation = _list({"type": "number", "minimum": -LARGEST, "maximum": LARGEST}, metadata.observation_size)
    one = {
        "action": {"type": "integer", "minimum": first, "maximum": last},
        "probabilities": _list({"type": "number", "minimum": 0, "maximum": 1.001}, metadata.action_count),
        **({"value": {"type": "number"}} if metadata.critic else {}),
    }
    many = {PLURALS[name]: {"type": "array", "items": schema} for name, schema in one.items()}
    asked = _object(observation=observation), _object(observations=_list(observation, 1, OBSERVATION_LIMIT))
    body = {"schema": {"oneOf": asked}, "example": {"observation": [0.0] * metadata.observation_size}}
    answers = {"schema": {"oneOf": [_object(**one), _object(**many)]}}
    error = {JSON: {"schema": _object(error={"type": "string", "minLength": 1})}}
    act = {
        "operationId": "act",
        "summary": "The policy's actions for one observation, or for a batch",
        "requestBody": {"required": True, "content": {JSON: body}},
        "responses": {
            "200": {"description": "the answer", "content": {JSON: answers}},
            **{status: {"description": reason, "content": error} for status, reason in REFUSALS.items()},
        },
    }
    pages = {
        path: {"get": {"summary": text, "responses": {"200": {"description": text}}}} for path, text in PAGES.items()
    }
    info = {"title": f"A3C policy for {metadata.env_id}", "version": metadata.checkpoint_sha256[:12]}
    return {"openapi": "3.1.0", "info": info, "paths": {"/act": {"post": act}, **pages}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: dict[str, Any], least: int, most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most or least}
