"""The serving benchmark and its load, against real servers."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving
from benchmarks.benchmark import BenchmarkError, Trial
from benchmarks.serving_load import get, latencies, post


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
    with server(Refuses) as one, pytest.raises(BenchmarkError, match="503"):
        latencies(one.server_port, get("/"), clients=2, seconds=5)


@pytest.mark.long
def test_the_table_has_a_row_for_each_case(
    solved_run: tuple[Path, str, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(solved_run[0]), "--seconds", "0.2", "--clients", "2", "--batch", "3"]
    assert serving.main(arguments) == 0
    rows = [line for line in capfd.readouterr().out.splitlines() if " x " in line]
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


def test_the_benchmark_holds_one_observation_to_its_bar() -> None:
    values = {name: {"p50_ms": 1.5, "p99_ms": 3.0} for name in (serving.BARE, serving.ASKED)}
    (bar, *others) = serving.rows([Trial({}, values)])
    assert bar.row() == (f"p50 of {serving.ASKED}", "at most 2 ms", "", "1.50 ms (n 1)", "met")
    assert len(others) == 3


def test_a_policy_that_cannot_be_served_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert serving.main([str(tmp_path)]) == 1
    assert capfd.readouterr().err.startswith("benchmarks: error: ")
