"""The paper's shape, one environment per worker and five steps per rollout, beside PFRL's A3C."""

from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.machine import ROOT
from benchmarks.peer_environment import ensure, python_of, same
from benchmarks.program import json_output
from benchmarks.throughput import measure_training

DRIVER = ROOT / "benchmarks" / "peers" / "pfrl_a3c.py"
PEER = "pfrl==0.4.0"
SHAPE = ["--workers", "4", "--envs-per-worker", "1", "--n-steps", "5"]
PROCESSES = 4
START_SECONDS = 60.0  # imports, warm-up and end of the peer's run


def plan(size: Size) -> list[Parameters]:
    """Five repetitions."""
    repetitions, seconds, warm_up_steps = (1, 2.0, 100) if size.quick else (5, 10.0, 1000)
    shared = {"arguments": SHAPE, "peer": PEER, "seconds": seconds, "warm_up_steps": warm_up_steps}
    return [{**shared, "repetition": repetition} for repetition in range(repetitions)]


def prepare() -> None:
    """PFRL's environment: torch first and by its exact version, since a range may fetch a build for GPUs."""
    # `packaging` is imported by PFRL but not among its requirements.
    ensure("pfrl", ((same("torch"),), (PEER, "packaging", same("gymnasium"), same("numpy"))))


def measure(parameters: Parameters) -> Values:
    """Both sides, the other one first in every second repetition, so that a drift of the machine cancels out."""
    sides = [("ours", measure_ours), ("pfrl", measure_pfrl)]
    return {name: side(parameters) for name, side in sides[:: -1 if parameters["repetition"] % 2 else 1]}


def measure_ours(parameters: Parameters) -> Values:
    """Our training, without the console, its monitor evaluating as always."""
    return measure_training([*parameters["arguments"], "--seed", str(parameters["repetition"])], parameters["seconds"])


def measure_pfrl(parameters: Parameters) -> Values:
    """PFRL's training, without evaluations."""
    options = {"processes": PROCESSES, "seconds": parameters["seconds"], "warm-up-steps": parameters["warm_up_steps"],
               "seed": parameters["repetition"]}  # fmt: skip
    command = [str(python_of("pfrl")), str(DRIVER), *(f"--{name}={value}" for name, value in options.items())]
    result = json_output(command, parameters["seconds"] + START_SECONDS)
    return {**result, "steps_per_second": round(result["env_steps"] / result["seconds"], 1)}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The ratio of neighbours, and both rates."""
    ours = tuple(float(trial.values["ours"]["steps_per_second"]) for trial in trials)
    theirs = tuple(float(trial.values["pfrl"]["steps_per_second"]) for trial in trials)
    ratios = tuple(our / their for our, their in zip(ours, theirs, strict=True))
    return [
        Figure("env steps/s, paper's shape / PFRL 0.4's A3C", ratios, "x", Limit(10, at_most=False)),
        Figure("env steps/s, paper's shape", ours),
        Figure("env steps/s, PFRL 0.4's A3C", theirs),
    ]


BENCHMARK = Benchmark(
    "paper-shape",
    "Env steps/s with 4 workers, one environment each, 5 steps per rollout and a tied 2 x 128 ReLU network, beside "
    "PFRL 0.4's A3C with 4 processes, t_max 5 and the same network, on CartPole-v1, one thread per process on both "
    "sides. Ours runs without the console but with its monitor, which evaluates as in every run, and counts from the "
    "first worker's first step; PFRL does not evaluate and counts after a warm-up.",
    plan,
    measure,
    rows,
    prepare,
)
