"""How fast the server answers, asked from another process over loopback.

`python -m benchmarks serving` measures a policy that it trains; `python -m benchmarks.serving RUN_DIR` your own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec
from a3c.serial import close_all
from benchmarks.benchmark import Benchmark, BenchmarkError, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.program import TRAIN, Program, run_directory
from benchmarks.serving_load import get, latencies, post
from workers.playing.evaluating import load
from workers.processes.preflight import environment_output
from workers.serving.export import export_policy
from workers.serving.requests import BODY_LIMIT, OBSERVATION_LIMIT

ROUNDS = 5  # of all cases by turns, so that a drift of the machine meets each of them
EPISODES = 10  # of the exports' check: what is measured here is time
PRECISIONS = ("fp32", "int8")
BARE, ASKED = "a bare route", "one observation, fp32"
TRAINING_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request to one of the servers, and what it took."""

    name: str
    precision: str  # of the server's model
    request: bytes
    observations: int  # that the request carries
    times: list[float] = field(default_factory=list)  # seconds of each answer
    seconds: list[float] = field(default_factory=list)  # of each round

    def values(self) -> Values:
        """Latencies in ms and rates."""
        p50, p95, p99 = (1000 * float(value) for value in np.percentile(self.times, (50, 95, 99)))
        rate = len(self.times) / sum(self.seconds)
        rates = {"requests_per_second": rate, "observations_per_second": rate * self.observations}
        return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, **rates}


def measure_server(
    path: str, clients: int, batch: int, seconds: float, threads: int, env: str | None = None
) -> dict[str, Values]:
    """Latencies and rates of single and batched requests, fp32 and int8, and of a bare route, by the case's name.

    Args:
        path: a run directory or a checkpoint's manifest.
        clients: connections that always have one request under way.
        batch: observations of a batched request.
        seconds: that each case is measured for, in ROUNDS rounds.
        threads: of the server.
        env: the id by which the policy's environment is found; default: the checkpoint's own.
    Raises:
        ConfigError, CheckpointError: as `export` and `serve`.
        BenchmarkError: the server does not answer as it should.
    """
    cases = _cases(_observations(load(path, env)[1], batch))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        models = export_policy(path, str(Path(folder) / "policy.onnx"), True, False, EPISODES, 0, env, quiet=True)
        ports = [servers.enter_context(_server(model, threads)) for model in models]
        for number in range(-1, ROUNDS):  # the first one warms up
            for case in cases:
                port = ports[PRECISIONS.index(case.precision)]
                times, passed = latencies(port, case.request, clients, seconds / ROUNDS)
                if number >= 0:
                    case.times.extend(times)
                    case.seconds.append(passed)
    return {case.name: case.values() for case in cases}


def _cases(observations: NDArray[np.float32]) -> list[Case]:
    single = json.dumps({"observation": observations[0].tolist()}).encode()
    many, batch = json.dumps({"observations": observations.tolist()}).encode(), len(observations)
    if batch > OBSERVATION_LIMIT or len(many) > BODY_LIMIT:
        raise BenchmarkError(f"batch: the server takes at most {OBSERVATION_LIMIT} observations and {BODY_LIMIT} bytes")
    return [
        Case(BARE, "fp32", get("/hello"), 0),
        *(Case(f"one observation, {one}", one, post("/act", single), 1) for one in PRECISIONS),
        *(Case(f"{batch} observations, {one}", one, post("/act", many), batch) for one in PRECISIONS),
    ]


def _observations(environment: EnvironmentSpec, count: int) -> NDArray[np.float32]:
    """The first observations of `count` episodes, [count, O]."""
    with environment_output():
        one = environment.make_one()
        try:
            return np.array([one.reset(seed=seed)[0] for seed in range(count)], np.float32)
        finally:
            close_all([one])


@contextmanager
def _server(model: Path, threads: int) -> Iterator[int]:
    """A server of a model in a process of its own; its port."""
    command = [*TRAIN, "serve", str(model), "--port", "0", "--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "http://" in line:
                    yield int(line.split("http://", 1)[1].split("/")[0].rsplit(":", 1)[1])
                    break
            else:
                raise BenchmarkError("the server did not start")  # it has said why
        finally:
            process.terminate()


def plan(size: Size) -> list[Parameters]:
    """One server, asked by four clients."""
    seconds, repetitions = (0.2, 1) if size.quick else (10.0, 3)
    shape = {"clients": 4, "batch": 64, "threads": 1, "seconds": seconds}
    return [{**shape, "repetition": number} for number in range(repetitions)]


def measure(parameters: Parameters) -> Values:
    """Train a policy of CartPole-v1 with the defaults, and serve it."""
    shape = {name: value for name, value in parameters.items() if name != "repetition"}
    with run_directory() as run_dir:
        seed = str(parameters["repetition"])
        with Program([*TRAIN, "--seed", seed, "--dashboard", "off", "--run-dir", str(run_dir)]) as program:
            program.succeed(TRAINING_SECONDS)
        return measure_server(str(run_dir), **shape)


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Latencies of each case; the bar first."""
    cases = dict.fromkeys([ASKED, *(name for trial in trials for name in trial.values)])
    found: list[Row] = []
    for name in cases:
        for quantile in ("p50", "p99"):
            samples = tuple(trial.values[name][f"{quantile}_ms"] for trial in trials)
            bar = Limit(2.0) if (name, quantile) == (ASKED, "p50") else None
            found.append(Figure(f"{quantile} of {name}", samples, "ms", bar))
    return found


BENCHMARK = Benchmark(
    "serving",
    "Latency of `run_a3c.py serve` with a policy of CartPole-v1 trained with the default settings, in fp32 and in "
    "int8, each served by a process with one thread and asked over loopback by 4 clients that always have one request "
    f"under way; the cases take turns in {ROUNDS} rounds. A bare route is `GET /hello` of the same server.",
    plan,
    measure,
    rows,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the server of one policy and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    add("path", metavar="RUN_DIR|CHECKPOINT", help="a run directory or a checkpoint's .json")
    add("--clients", type=int, default=4, metavar="N", help="that ask at the same time")
    add("--batch", type=int, default=64, metavar="B", help="observations of a batched request")
    add("--seconds", type=float, default=5.0, metavar="S", help="of each measurement")
    add("--threads", type=int, default=1, metavar="N", help="of the server")
    add("--env", metavar="MODULE:ID", help="the environment, where the checkpoint's own id is not found")
    try:
        measured = measure_server(**vars(parser.parse_args(arguments)))
    except (BenchmarkError, ConfigError, CheckpointError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    print(f"{'request':<24}  p50 ms  p95 ms  p99 ms  p50/bare  requests/s    obs./s")
    for name, values in measured.items():
        times = "  ".join(f"{values[quantile]:6.2f}" for quantile in ("p50_ms", "p95_ms", "p99_ms"))
        ratio = values["p50_ms"] / measured[BARE]["p50_ms"]
        rates = f"{values['requests_per_second']:10,.0f}  {values['observations_per_second']:8,.0f}"
        print(f"{name:<24}  {times}  {ratio:6.2f} x  {rates}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
