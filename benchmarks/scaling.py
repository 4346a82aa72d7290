"""Env steps/s as workers and environments per worker grow. Informs; nothing is asked of it."""

from collections.abc import Sequence
from itertools import product

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from benchmarks.throughput import measure_training

WORKERS, ENVS_PER_WORKER, N_STEPS = (1, 2, 4, 8), (1, 8, 64), 16


def plan(size: Size) -> list[Parameters]:
    """The whole grid, three times over."""
    repetitions, seconds = (1, 1.0) if size.quick else (3, 4.0)
    grid = [(1, 1), (2, 8)] if size.quick else list(product(WORKERS, ENVS_PER_WORKER))
    return [{"workers": workers, "envs_per_worker": envs, "n_steps": N_STEPS, "seconds": seconds,
             "repetition": repetition} for repetition in range(repetitions) for workers, envs in grid]  # fmt: skip


def measure(parameters: Parameters) -> Values:
    """One run."""
    shape = {name: parameters[name] for name in ("workers", "envs_per_worker", "n_steps")}
    arguments = [word for name, value in shape.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return measure_training([*arguments, "--seed", str(parameters["repetition"])], parameters["seconds"])


def rows(trials: Sequence[Trial]) -> list[Row]:
    """A row for each shape, in the order of the plan."""
    samples: dict[tuple[int, int], list[float]] = {}
    for trial in trials:
        shape = (trial.parameters["workers"], trial.parameters["envs_per_worker"])
        samples.setdefault(shape, []).append(float(trial.values["steps_per_second"]))
    return [Figure(f"env steps/s, {_count(workers, 'worker')} with {_count(envs, 'environment')} each", tuple(rates))
            for (workers, envs), rates in samples.items()]  # fmt: skip


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number > 1)}"


BENCHMARK = Benchmark(
    "scaling",
    f"Env steps/s over the number of workers and of environments per worker, {N_STEPS} steps per rollout, without the "
    "console but with the monitor, which evaluates as in every run.",
    plan,
    measure,
    rows,
)
