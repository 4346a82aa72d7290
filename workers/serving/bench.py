"""`bench-serve`: how fast the server answers, measured from another process over loopback."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from a3c.batches import close_all
from a3c.config import ConfigError
from a3c.environments import EnvironmentSpec
from workers import exit_codes
from workers.console.drawing import UNKNOWN, Frame, plural
from workers.extras import require
from workers.playing.evaluating import load
from workers.processes.preflight import environment_output
from workers.serving.export import export_checked
from workers.serving.load import get, latencies, post
from workers.serving.requests import BODY_LIMIT, OBSERVATION_LIMIT
from workers.serving.server import PACKAGES
from workers.serving.text import aligned

ROUNDS = 5  # of all cases by turns, so that a drift of the machine meets each of them
EPISODES = 10  # of the exports' check: what is measured here is time
PRECISIONS = ("fp32", "int8")
PROGRAM = Path(__file__).parents[2] / "run_a3c.py"


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    precision: str  # whose server is asked
    request: bytes
    observations: int  # that the request carries
    times: list[float] = field(default_factory=list)  # seconds of each answer
    seconds: list[float] = field(default_factory=list)  # of each piece


def bench(path: str, clients: int, batch: int, seconds: float, threads: int, env: str | None = None) -> int:
    """Print latency and requests/s of single and batched requests, fp32 and int8, beside those of a bare route.

    Args:
        path: a run directory or a checkpoint's manifest.
        clients: connections that always have one request under way.
        batch: observations of a batched request.
        seconds: that each case is measured for, in ROUNDS pieces.
        threads: of the server.
        env: the id by which the policy's environment is found; default: the checkpoint's own.
    Returns: the exit code.
    Raises:
        ConfigError, CheckpointError: as `export` and `serve`.
        AnswerError: the server does not answer as it should.
    """
    require("serve", PACKAGES)
    cases = _cases(_observations(load(path, env)[1], batch))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        models = export_checked(path, Path(folder), True, False, EPISODES, 0, env)
        ports = {
            precision: servers.enter_context(_served(model, threads))
            for precision, model in zip(PRECISIONS, models, strict=True)
        }
        for piece in range(-1, ROUNDS):  # the first one warms up
            for case in cases:
                times, passed = latencies(ports[case.precision], case.request, clients, seconds / ROUNDS)
                if piece >= 0:
                    case.times.extend(times)
                    case.seconds.append(passed)
    Console().print(_table(cases, f"{plural(clients, 'client')}, {plural(threads, 'thread')}, {seconds:g} s each"))
    return exit_codes.FINISHED


def _cases(observations: NDArray[np.float32]) -> list[Case]:
    single = json.dumps({"observation": observations[0].tolist()}).encode()
    many, batch = json.dumps({"observations": observations.tolist()}).encode(), len(observations)
    if batch > OBSERVATION_LIMIT or len(many) > BODY_LIMIT:
        raise ConfigError(f"batch: the server takes at most {OBSERVATION_LIMIT} observations and {BODY_LIMIT} bytes")
    return [
        Case("a bare route", "fp32", get("/hello"), 0),
        *(Case(f"one observation, {one}", one, post("/act", single), 1) for one in PRECISIONS),
        *(Case(f"{batch} observations, {one}", one, post("/act", many), batch) for one in PRECISIONS),
    ]


def _observations(environment: EnvironmentSpec, count: int) -> NDArray[np.float32]:
    """The first observations of so many episodes, [count, O]."""
    with environment_output():
        one = environment.make_one()
        try:
            return np.array([one.reset(seed=seed)[0] for seed in range(count)], np.float32)
        finally:
            close_all([one])


@contextmanager
def _served(model: Path, threads: int) -> Iterator[int]:
    """A server of a model in a process of its own; its port."""
    command = [sys.executable, str(PROGRAM), "serve", str(model), "--port", "0", "--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "http://" in line:
                    yield int(line.split("http://", 1)[1].split("/")[0].rsplit(":", 1)[1])
                    break
            else:
                raise RuntimeError("the server did not start")  # it has said why
        finally:
            process.terminate()


def _table(cases: list[Case], title: str) -> Frame:
    bare = float(np.median(cases[0].times))
    head, *body = aligned(
        [
            ("request", "p50 ms", "p95 ms", "p99 ms", "p50/bare", "requests/s", "obs./s"),
            *(_row(case, bare) for case in cases),
        ]
    )
    return Frame([[(title, "bold")], [], [(head, "dim")], *([(row, "")] for row in body)])


def _row(case: Case, bare: float) -> tuple[str, ...]:
    p50, p95, p99 = (f"{1000 * float(value):.2f}" for value in np.percentile(case.times, (50, 95, 99)))
    ratio, rate = float(np.median(case.times)) / bare, len(case.times) / sum(case.seconds)
    observations = f"{rate * case.observations:,.0f}" if case.observations else UNKNOWN
    return (case.name, p50, p95, p99, f"{ratio:.2f} x", f"{rate:,.0f}", observations)
