"""Requests of every kind to a real server: by its own description, and as raw bytes that follow none."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis.generation.modes import GenerationMode

from tests.chaos.malformed import VALUES
from tests.chaos.outcome import Outcome
from tests.process.http_client import ServerProgram
from tests.process.onnx_models import write_model

DESCRIBED = 0.2  # the share of requests that are generated from the OpenAPI description
GROWTH = 0.05  # of the server's memory, from the end of the first tenth of the requests to the last
PIPELINED = 3
UNSUPPORTED = 501  # of a transfer coding but chunked: so waitress refuses it
Trial = tuple[bool, str]  # whether it fired, and what was lost
ONE = {"observation": [0.1, -0.2, 0.3, -0.4]}
NUMBERS = [0, -0.0, 1.5, 1e38, -3.4e38, 3.5e38, 10**400, True, None, "1", [], {}, float("nan"), float("inf")]
DOCUMENTS = [
    b"",
    b"{",
    b"null",
    b"\xff\xfe",
    b"[" * 50_000,
    b'{"observation":' * 20_000,
    b'{"observation": [1e999, 0, 0, 0]}',
    b'{"observation": [' + b"9" * 6000 + b", 0, 0, 0]}",
    b'{"observation": [0, 0, 0, 0], "observation": [0, 0, 0, 0]}',
    b'{"observations": [' + b"[0,0,0,0]," * 5000 + b"[0,0,0,0]]}",
    b"\x1f\x8b\x08" + bytes(200),
    b" " * 70_000,
]
TYPES = [b"application/json"] * 8 + [
    b"",
    b"text/plain",
    b"application/json, text/html",
    b"\xff",
    b"multipart/form-data",
]
PATHS = [b"/act"] * 8 + [
    b"/",
    b"/healthz",
    b"/metrics",
    b"/%00",
    b"/../act",
    b"//act",
    b"/act?a=%zz",
    b"*",
    b"/\xff",
    b"http://[/act",
    b"/" + b"a" * 5000,
]
METHODS = [b"POST"] * 8 + [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"TRACE", b"post", b"\0", b"CONNECT"]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTQ"]
HEADERS = [
    b"X: " + b"x" * 40_000,
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Content-Length: -5",
    b"Content-Length: 7, 7",
    b"Content-Length: " + b"9" * 5000,
    b"Expect: 100-continue",
    b"Connection: close",
    b"Host: [::",
    b"Host: \xff\xfe",
    b"no header at all",
    b": empty",
    b"Cookie: a=" + b"b" * 3000,
    b" folded: yes",
    b"Content-Encoding: gzip",
    b"Upgrade: websocket",
    b"Connection: upgrade",
]


def served_requests(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Send `count` requests; lost are those with a status of 5xx or an answer that is none, and all if memory grows."""
    with ServerProgram(write_model(folder / "policy.onnx")) as server:
        process = psutil.Process(server.process.pid)
        trials = _requests(server, count // 10, seed)
        warm = process.memory_info().rss
        trials += _requests(server, count - len(trials), seed + 1)
        grown = process.memory_info().rss / warm - 1
        assert server.act(ONE)[0] == 200, "it no longer answers"
        assert "exception" not in server.text, server.text[-2000:]
        statuses = _statuses(server)
        assert not [status for status in statuses if status >= "5"], statuses
        assert grown < GROWTH, f"its memory grew by {100 * grown:.1f} %"
    counts = ", ".join(f"{number:,} x {status}" for status, number in sorted(statuses.items()))
    return Outcome.of(trials, f"{counts}; memory {100 * grown:+.1f} % of {warm / 2**20:.0f} MiB")


def _requests(server: ServerProgram, count: int, seed: int) -> list[Trial]:
    trials = _described(server, round(DESCRIBED * count), seed)
    return trials + _raw(server, count - len(trials), random.Random(seed))


def _described(server: ServerProgram, count: int, start: int) -> list[Trial]:
    """Requests from the description: half of them such as it allows, half such as it forbids."""
    operation = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")["/act"]["POST"]
    trials: list[Trial] = []
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @seeded(start)
        @settings(
            max_examples=max(count // 2, 1),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            response = case.call()
            trials.append((True, _loss(response.content, [response.status_code], answered=True)))

        ask()
    return trials


def _raw(server: ServerProgram, count: int, rng: random.Random) -> list[Trial]:
    """Raw requests, up to PIPELINED of them on a connection that we close before we read."""
    trials: list[Trial] = []
    while len(trials) < count:
        requests = [_request(rng) for _ in range(min(rng.randint(1, PIPELINED), count - len(trials)))]
        whole = all(is_whole for _, is_whole in requests)  # after a wrong one the connection is closed, for all of them
        try:
            answer = server.raw(b"".join(sent for sent, _ in requests))
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
            loss = _loss(answer, statuses, answered=whole)
        except OSError as error:
            loss = repr(error) if whole else ""
        trials += [(True, "")] * (len(requests) - 1) + [(True, f"{requests}: {loss}" if loss else "")]
    return trials


def _loss(answer: bytes, statuses: list[int], answered: bool) -> str:
    """What was lost, '' for nothing: an error of the server's, or no answer to a request that must be `answered`."""
    if answered and not statuses:
        return "no answer"
    failed = any(status >= 500 and status != UNSUPPORTED for status in statuses)
    return f"an error of the server's: {answer[:200]!r}" if failed else ""


def _request(rng: random.Random) -> tuple[bytes, bool]:
    """A request as bytes, and whether it is whole, so that there must be an answer to it."""
    body, kind = _body(rng), rng.random()
    if kind < 0.4:
        return _head(b"POST", b"/act", b"HTTP/1.1", b"application/json", [], len(body)) + body, True
    if kind < 0.7:
        some = [rng.choice(HEADERS) for _ in range(rng.randint(0, 2))]
        length = len(body) + rng.choice([0, 0, 0, -1, 1, 1000])
        head = _head(
            rng.choice(METHODS), rng.choice(PATHS), rng.choice(VERSIONS), rng.choice(TYPES), some, max(length, 0)
        )
        return head + body, False
    whole = _head(b"POST", b"/act", b"HTTP/1.1", b"application/json", [], len(body)) + body
    return _mutated(whole, rng), False


def _head(method: bytes, path: bytes, version: bytes, kind: bytes, others: list[bytes], length: int) -> bytes:
    lines = [method + b" " + path + b" " + version, b"Host: localhost", b"Content-Type: " + kind, *others]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, b"", b""])


def _body(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return json.dumps({"observation": [rng.uniform(-3, 3) for _ in range(4)]}).encode()
    if kind < 0.5:
        return json.dumps(
            {"observation": [rng.choice(NUMBERS) for _ in range(rng.choice([4, 4, 4, 0, 3, 5]))]}
        ).encode()
    if kind < 0.7:
        rows = [[rng.choice([0, 1.5, rng.choice(NUMBERS)]) for _ in range(4)] for _ in range(rng.choice([1, 2, 50]))]
        return json.dumps({"observations": rows}).encode()
    if kind < 0.9:
        return json.dumps({rng.choice(["observation", "observations", "a"]): rng.choice(VALUES)}).encode()
    return rng.choice([*DOCUMENTS, rng.randbytes(200)])


def _mutated(request: bytes, rng: random.Random) -> bytes:
    """The request with some bytes changed, cut out, doubled or put in."""
    mutated = bytearray(request)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(mutated) + 1), rng.choice([1, 1, 2, 10, 200])
        piece = rng.choice([rng.randbytes(length), bytes(mutated[place : place + length]) * 2, b"", b"\r\n", b"\0"])
        mutated[place : place + length] = piece
    return bytes(mutated)


def _statuses(server: ServerProgram) -> Counter[str]:
    """How many answers of each status the application has counted; what is no HTTP never comes so far."""
    counts: Counter[str] = Counter()
    for status, number in re.findall(
        r'^a3c_requests_total\{.*status="(\d+)"\} (\S+)$', server.ask("GET", "/metrics")[1], re.M
    ):
        counts[status] += int(float(number))
    return counts
