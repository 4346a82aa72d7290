"""What `POST /act` takes for observations, and what it does not."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.process.onnx_models import choice_space, vector_space
from workers.serving import requests
from workers.serving.interface import Interface
from workers.serving.json_forms import LARGEST
from workers.serving.requests import BODY_LIMIT, OBSERVATION_LIMIT, RequestError, read_request
from workers.serving.server import HEADER_LIMIT, IDLE_SECONDS, TRANSFER_LIMIT

OBSERVATION = [0.5, -1, 3e-5, 1e38]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=20,
)


def vector(size: int) -> Interface:
    return Interface(vector_space(size), choice_space(2))


def refusal(body: bytes | str, size: int = 4) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        read_request(body if isinstance(body, bytes) else body.encode(), vector(size))
    return caught.value.status, str(caught.value)


def test_one_observation_is_a_batch_of_one() -> None:
    observations, single, _ = read_request(json.dumps({"observation": OBSERVATION}).encode(), vector(4))
    assert single
    assert observations.dtype == np.float32
    assert observations.tolist() == [np.array(OBSERVATION, np.float32).tolist()]


def test_many_observations_keep_their_order() -> None:
    rows = np.random.default_rng(0).normal(size=(OBSERVATION_LIMIT, 2))
    observations, single, _ = read_request(json.dumps({"observations": rows.tolist()}).encode(), vector(2))
    assert not single
    assert np.array_equal(observations, rows.astype(np.float32))


def test_the_largest_float_is_still_a_number_and_the_next_is_not() -> None:
    observations, *_ = read_request(json.dumps({"observation": [LARGEST, -LARGEST, 0, 0]}).encode(), vector(4))
    assert np.isfinite(observations).all()
    beyond = float(np.nextafter(LARGEST, np.inf))
    assert refusal(json.dumps({"observation": [beyond, 0, 0, 0]}))[0] == 400


REFUSED: list[tuple[bytes | str, int, str]] = [
    ("", 400, "not JSON"),
    ("{", 400, "not JSON"),
    ('{"observation": [1, 2, 3, 4]} x', 400, "not JSON"),
    (b'\xff{"observation": [1, 2, 3, 4]}', 400, "utf-8"),
    ('\ufeff{"observation": [1, 2, 3, 4]}', 400, "not JSON"),
    ("[1, 2, 3, 4]", 400, "not a JSON object"),
    ("null", 400, "not a JSON object"),
    ("{}", 400, "expected"),
    ('{"observation": [1, 2, 3, 4], "observations": [[1, 2, 3, 4]]}', 400, "nothing but"),
    ('{"observation": [1, 2, 3, 4], "temperature": 1}', 400, "nothing but"),
    ('{"observation": [1, 2, 3, 4], "observation": [1, 2, 3, 4]}', 400, "twice"),
    ('{"observation": [1, 2, 3]}', 400, "expected a list of 4 numbers, got 3"),
    ('{"observation": [[1, 2, 3, 4]]}', 400, "expected a list of 4 numbers, got 1"),
    ('{"observation": 1}', 400, "got something else"),
    ('{"observation": null}', 400, "got something else"),
    ('{"observation": "1234"}', 400, "got something else"),
    ('{"observation": [1, 2, 3, "4"]}', 400, "numbers alone"),
    ('{"observation": [1, 2, 3, true]}', 400, "numbers alone"),
    ('{"observation": [1, 2, 3, null]}', 400, "numbers alone"),
    ('{"observation": [1, 2, 3, [4]]}', 400, "numbers alone"),
    ('{"observation": [1, 2, 3, NaN]}', 400, "NaN"),
    ('{"observation": [1, 2, 3, -Infinity]}', 400, "-Infinity"),
    ('{"observation": [1, 2, 3, 1e999]}', 400, "in magnitude"),
    ('{"observation": [1, 2, 3, 1e39]}', 400, "in magnitude"),
    ('{"observation": [1, 2, 3, 1%s]}' % ("0" * 400), 400, "in magnitude"),
    ('{"observation": [1, 2, 3, %s]}' % ("9" * 10_000), 400, "digits"),
    ("[" * 100_000, 400, "too deep"),
    ('{"a":' * 100_000, 400, "too deep"),
    ('{"observations": []}', 400, "at least one"),
    ('{"observations": {}}', 400, "at least one"),
    ('{"observations": [1, 2, 3, 4]}', 400, "observations[0]: expected a list of 4"),
    ('{"observations": [[1, 2, 3, 4], [1, 2, 3]]}', 400, "observations[1]: expected a list of 4 numbers, got 3"),
    (json.dumps({"observations": [[0]] * (OBSERVATION_LIMIT + 1)}), 413, "at most 4096"),
]


def test_everything_else_is_refused_in_one_line_that_says_why() -> None:
    for body, status, said in REFUSED:
        found, line = refusal(body)
        assert found == status, body[:40]
        assert said in line
        assert line.isprintable() and len(line) < 200


@given(JSON_VALUES)
def test_no_json_breaks_it(value: Any) -> None:
    for body in (value, {"observation": value}, {"observations": value}, {"observations": [value, [1.5, 2]]}):
        with contextlib.suppress(RequestError):
            observations, *_ = read_request(json.dumps(body).encode(), vector(2))
            assert observations.shape[1:] == (2,)
            assert np.isfinite(observations).all()


@given(st.binary(max_size=300))
def test_no_bytes_break_it(body: bytes) -> None:
    assert refusal(body, 1)[0] == 400


def test_the_largest_request_has_room_in_a_body() -> None:
    rows = np.random.default_rng(0).normal(size=(OBSERVATION_LIMIT, 8)).tolist()
    assert len(json.dumps({"observations": rows})) < BODY_LIMIT


def test_the_openapi_document_has_the_limits_of_requests() -> None:
    document = json.loads((Path(requests.__file__).parent / "openapi.json").read_text())
    schemas = document["components"]["schemas"]
    assert schemas["Many"]["properties"]["observations"]["maxItems"] == OBSERVATION_LIMIT
    numbers = vector(3).schemas()["Observation"]["items"]
    assert (numbers["minimum"], numbers["maximum"]) == (-LARGEST, LARGEST)
    refusal = document["components"]["responses"]["Refusal"]["description"]
    assert f"more than {BODY_LIMIT} bytes, or more than {OBSERVATION_LIMIT} observations" in refusal
    about = document["info"]["description"]
    limits = f"headers of {HEADER_LIMIT >> 10} KiB, a body of {TRANSFER_LIMIT >> 20} MiB"
    assert limits in about and IDLE_SECONDS == 60
