"""`bench-serve` and its load, against real servers."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.command import run_here
from workers.serving.load import AnswerError, get, latencies, post


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers in two pieces, and counts."""

    protocol_version = "HTTP/1.1"
    code = 200

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.code)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"abc")
        self.wfile.flush()
        self.wfile.write(b"def")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert json.loads(body) == {"observation": [1.5]}
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class Refuses(Answers):
    code = 503


@contextmanager
def server(handler: type[Answers]) -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        one.asked = []
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            yield one
        finally:
            one.shutdown()
            thread.join()


@pytest.mark.parametrize("request_", [get("/hello"), post("/act", b'{"observation": [1.5]}')])
def test_every_answer_is_timed_and_whole(request_: bytes) -> None:
    with server(Answers) as one:
        times, passed = latencies(one.server_port, request_, clients=3, seconds=0.3)
        assert passed >= 0.3
        assert 0 < len(times) <= len(one.asked) <= len(times) + 3  # those under way at the end are not counted
        assert all(0 < seconds < passed for seconds in times)


def test_an_answer_that_is_none_is_said() -> None:
    with server(Refuses) as one, pytest.raises(AnswerError, match="503"):
        latencies(one.server_port, get("/"), clients=2, seconds=5)


def test_the_table_has_a_row_for_each_case(solved_run: tuple[Path, str, dict[str, Any]]) -> None:
    code, output = run_here("bench-serve", solved_run[0], "--seconds", 0.2, "--clients", 2, "--batch", 3)
    assert code == 0, output
    rows = [line for line in output.splitlines() if " x " in line]
    names = (
        "a bare route",
        "one observation, fp32",
        "one observation, int8",
        "3 observations, fp32",
        "3 observations, int8",
    )
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        assert row.startswith(name)
        p50, p95, p99 = map(float, row[len(name) :].split()[:3])
        assert 0 < p50 <= p95 <= p99
