"""The description of the server's interface, for the model that it serves."""

from typing import Any

from workers.serving.metadata import Facts
from workers.serving.requests import BODY_LIMIT, LARGEST, OBSERVATION_LIMIT

JSON = "application/json"
ABOUT = f"""Greedy actions of a trained policy.

Every refusal is one JSON object with one line, `error`: also of what is no valid HTTP (400), a body of more than
{BODY_LIMIT} bytes (413), headers that are too large (431) and a request that does not arrive in time (408), after which
the connection is closed. More connections than the server has room for wait until others are closed."""
REFUSALS = {
    "400": "not what is described here; `error` says what",
    "408": "the request did not arrive in time",
    "413": f"more than {BODY_LIMIT} bytes, or more than {OBSERVATION_LIMIT} observations",
    "431": "headers that are too large",
}


def describe(facts: Facts) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"A3C policy for {facts.env_id}",
            "version": facts.checkpoint_sha256[:12],
            "description": ABOUT,
        },
        "paths": {
            "/act": {"post": _act(facts)},
            "/healthz": {"get": _get("The model that is served", JSON, {"$ref": "#/components/schemas/Health"})},
            "/metrics": {"get": _get("Counts and latencies, as Prometheus text", "text/plain", {"type": "string"})},
            "/hello": {"get": _get("Nothing but an answer, to compare latencies with", JSON, {"type": "object"})},
            "/openapi.json": {"get": _get("This description", JSON, {"type": "object"})},
            "/": {"get": _get("A page to try the policy", "text/html", {"type": "string"})},
        },
        "components": {"schemas": _schemas(facts)},
    }


def _act(facts: Facts) -> dict[str, Any]:
    shapes = [{"$ref": "#/components/schemas/One"}, {"$ref": "#/components/schemas/Many"}]
    answers = [{"$ref": "#/components/schemas/OneAnswer"}, {"$ref": "#/components/schemas/ManyAnswers"}]
    refusals = {
        **REFUSALS,
        "415": f"Content-Type is not {JSON}",
        "422": "observations so large that the policy's answer is not finite",
    }
    example = {"observation": [0.0] * facts.observation_size}
    return {
        "operationId": "act",
        "summary": "The policy's actions for one observation, or for a batch",
        "requestBody": {"required": True, "content": {JSON: {"schema": {"oneOf": shapes}, "example": example}}},
        "responses": {"200": _content("the answer", JSON, {"oneOf": answers}), **_refused(refusals)},
    }


def _get(summary: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _content(summary, kind, schema), **_refused(REFUSALS)}}


def _refused(reasons: dict[str, str]) -> dict[str, Any]:
    error = {"$ref": "#/components/schemas/Error"}
    return {status: _content(reason, JSON, error) for status, reason in sorted(reasons.items())}


def _content(description: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _schemas(facts: Facts) -> dict[str, Any]:
    number = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
    observation = {**_list(number, facts.observation_size), "description": "one number per component"}
    last = facts.action_start + facts.action_count - 1
    action = {
        "type": "integer",
        "minimum": facts.action_start,
        "maximum": last,
        "description": "as the environment counts",
    }
    probabilities = _list({"type": "number", "minimum": 0, "maximum": 1.001}, facts.action_count)
    one = {"action": action, "probabilities": probabilities, **({"value": {"type": "number"}} if facts.critic else {})}
    plurals = {"action": "actions", "probabilities": "probabilities", "value": "values"}
    many = {plurals[name]: {"type": "array", "items": schema} for name, schema in one.items()}
    health = {"status": {"const": "ok"}, "model": {"type": "object"}}
    observations = {"type": "array", "items": observation, "minItems": 1, "maxItems": OBSERVATION_LIMIT}
    return {
        "One": _object({"observation": observation}),
        "Many": _object({"observations": observations}),
        "OneAnswer": _object(one),
        "ManyAnswers": _object(many),
        "Health": _object(health),
        "Error": _object({"error": {"type": "string", "minLength": 1}}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: dict[str, Any], length: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": length, "maxItems": length}
