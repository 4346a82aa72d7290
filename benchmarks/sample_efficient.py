"""Env steps until solved with `--preset sample-efficient`."""

from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.solve import SEEDS_NEEDED, measure_run, reached

ARGUMENTS = ["--preset", "sample-efficient"]


def plan(size: Size) -> list[Parameters]:
    """A trial per seed."""
    seeds = 1 if size.quick else size.seeds
    return [{"arguments": ARGUMENTS, "seed": seed} for seed in range(seeds)]


def measure(parameters: Parameters) -> Values:
    """One run, without the console: only its env steps count."""
    return measure_run(parameters["arguments"], parameters["seed"], None)


def rows(trials: Sequence[Trial]) -> list[Row]:
    """An unsolved run counts as one that never got there."""
    values = [trial.values for trial in trials]
    return [
        Figure(
            "env steps until solved, `sample-efficient`",
            reached(values, "solved_env_steps"),
            "",
            Limit(10_000),
            Limit(5_000),
            SEEDS_NEEDED,
        ),
        Figure(
            "first env step to verified `best` on disk, `sample-efficient`", reached(values, "solution_seconds"), "s"
        ),
    ]


BENCHMARK = Benchmark(
    "sample-efficient",
    "`run_a3c.py --preset sample-efficient`, a run per seed, without the console. Its seeds are those of `solve`, and "
    "none of them was tuned on (`benchmarks/tuning`).",
    plan,
    measure,
    rows,
)
