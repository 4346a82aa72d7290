"""The paper's shape, one environment per worker and five steps per rollout, beside PFRL's A3C and the bare rate."""

from collections.abc import Callable, Sequence

from benchmarks.bare import bare_limits, bare_rates, bare_rows
from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row, at_least
from benchmarks.machine import ROOT
from benchmarks.peer_environment import ensure, python_of, same
from benchmarks.program import json_output
from benchmarks.throughput import measure_training

DRIVER = ROOT / "benchmarks" / "peers" / "pfrl_a3c.py"
PEER = "pfrl==0.4.0"
WORKERS = 4
SHAPE = ["--workers", str(WORKERS), "--envs-per-worker", "1", "--n-steps", "5"]
START_SECONDS = 60.0  # imports, warm-up and end of the peer's run


def plan(size: Size) -> list[Parameters]:
    """Eight repetitions."""
    repetitions, seconds, bare_seconds, warm_up_steps = (1, 2.0, 0.5, 100) if size.quick else (8, 8.0, 3.0, 1000)
    shared = {
        "arguments": SHAPE,
        "peer": PEER,
        "seconds": seconds,
        "bare_seconds": bare_seconds,
        "warm_up_steps": warm_up_steps,
    }
    return [{**shared, "repetition": repetition} for repetition in range(repetitions)]


def prepare() -> None:
    """PFRL's environment: torch first and by its exact version, since a range may fetch a build for GPUs."""
    # `packaging` is imported by PFRL but not among its requirements.
    ensure("pfrl", ((same("torch"),), (PEER, "packaging", same("gymnasium"), same("numpy"))))


def measure(parameters: Parameters) -> Values:
    """All sides, beginning with another one in every repetition, so that a drift of the machine cancels out."""
    sides: list[tuple[str, Callable[[], Values]]] = [
        ("async", lambda: measure_ours(parameters, "async")),
        ("pfrl", lambda: measure_pfrl(parameters)),
        ("bare", lambda: bare_rates(1, WORKERS, parameters["bare_seconds"])),
        ("sync", lambda: measure_ours(parameters, "sync")),
    ]
    first = parameters["repetition"] % len(sides)
    return {name: side() for name, side in (*sides[first:], *sides[:first])}


def measure_ours(parameters: Parameters, mode: str) -> Values:
    """Our training, without the console, its monitor evaluating as always."""
    arguments = [*parameters["arguments"], "--mode", mode, "--seed", str(parameters["repetition"])]
    return measure_training(arguments, parameters["seconds"])


def measure_pfrl(parameters: Parameters) -> Values:
    """PFRL's training, without evaluations."""
    options = {
        "processes": WORKERS,
        "seconds": parameters["seconds"],
        "warm-up-steps": parameters["warm_up_steps"],
        "seed": parameters["repetition"],
    }
    command = [str(python_of("pfrl")), str(DRIVER), *(f"--{name}={value}" for name, value in options.items())]
    result = json_output(command, parameters["seconds"] + START_SECONDS)
    return {**result, "steps_per_second": round(result["env_steps"] / result["seconds"], 1)}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Ratios of neighbours, and the rates."""
    rates = {
        name: tuple(float(trial.values[name]["steps_per_second"]) for trial in trials)
        for name in ("async", "sync", "pfrl")
    }

    def over(name: str, divisors: tuple[float, ...], unit: float = 1.0) -> tuple[float, ...]:
        return tuple(unit * rate / divisor for rate, divisor in zip(rates[name], divisors, strict=True))

    return [
        Figure(
            "env steps/s, paper's shape / PFRL 0.4's A3C", over("async", rates["pfrl"]), "x", at_least(15), at_least(30)
        ),
        Figure(
            "env steps/s, paper's shape, as a share of the bare scalar environment's",
            over("async", bare_limits(trials), 100),
            "%",
            at_least(20),
            at_least(50),
        ),
        Figure("env steps/s, paper's shape, `sync` / `async`", over("sync", rates["async"]), "x"),
        Figure("env steps/s, paper's shape, `async`", rates["async"]),
        Figure("env steps/s, paper's shape, `sync`", rates["sync"]),
        Figure("env steps/s, PFRL 0.4's A3C", rates["pfrl"]),
        *bare_rows("bare scalar environment", trials),
    ]


BENCHMARK = Benchmark(
    "paper-shape",
    f"Env steps/s with {WORKERS} workers, one environment each, 5 steps per rollout and a tied 2 x 128 ReLU network, "
    f"in `async` and in `sync`, beside PFRL 0.4's A3C with {WORKERS} processes, t_max 5 and the same network, on "
    "CartPole-v1, one thread per process on both sides. Ours runs without the console but with its monitor, which "
    "evaluates as in every run, and counts from the first worker's first step; PFRL does not evaluate and counts after "
    "a warm-up. The bare rate is that of `gymnasium.make` alone, stepped with random actions drawn beforehand, its "
    f"resets not counted as time; by as many processes as there are cores and by {WORKERS}, of which the faster number "
    "counts. All of them right after one another, beginning with another one each time.",
    plan,
    measure,
    rows,
    prepare,
)
