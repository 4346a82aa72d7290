"""Resident memory: what a worker adds, and what a whole run takes."""

from collections.abc import Sequence
from itertools import product
from statistics import fmean

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.watching import watch_training

SHAPES: dict[str, Parameters] = {
    "default shape": {},
    "paper's shape": {"envs_per_worker": 1, "n_steps": 5},
    "64 envs a worker": {"envs_per_worker": 64},
}
WORKERS = (1, 4, 16, 64)
ASKED = ("default shape", 4)  # where the bar is
MB = 1e6


def plan(size: Size) -> list[Parameters]:
    """Each shape with each number of workers, three times over."""
    repetitions, settle, seconds = (1, 0.0, 1.0) if size.quick else (3, 1.0, 2.0)
    grid = [ASKED] if size.quick else list(product(SHAPES, WORKERS))
    return [
        {
            "shape": shape,
            "options": {"workers": workers, **SHAPES[shape]},
            "settle": settle,
            "seconds": seconds,
            "repetition": repetition,
        }
        for repetition in range(repetitions)
        for shape, workers in grid
    ]


def measure(parameters: Parameters) -> Values:
    """One run, with checkpoints so often that there has been one: a worker's part in it takes memory too."""
    options = {**parameters["options"], "checkpoint_interval": 0.5, "seed": parameters["repetition"]}
    watched = watch_training(options, parameters["settle"], parameters["seconds"])
    return {name: watched[name] for name in ("worker_uss", "worker_pss", "program_pss")}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """By shape and number of workers; the bar first."""
    found: list[Row] = []
    for shape, workers in dict.fromkeys((ASKED, *map(_setting, trials))):
        values = [trial.values for trial in trials if _setting(trial) == (shape, workers)]
        words = f"{workers} worker{'s' * (workers > 1)}, {shape}"
        limits = (Limit(60), Limit(25)) if (shape, workers) == ASKED else (None, None)
        found += [
            Figure(
                f"resident memory per worker beyond the shared pages, {words}",
                _means(values, "worker_uss"),
                "MB",
                *limits,
            ),
            Figure(
                f"resident memory per worker with its part of the shared pages, {words}",
                _means(values, "worker_pss"),
                "MB",
            ),
            Figure(
                f"resident memory of the whole program, {words}",
                tuple(value["program_pss"] / MB for value in values),
                "MB",
            ),
        ]
    return found


def _setting(trial: Trial) -> tuple[str, int]:
    return trial.parameters["shape"], trial.parameters["options"]["workers"]


def _means(values: Sequence[Values], name: str) -> tuple[float, ...]:
    """Of the workers of each run."""
    return tuple(fmean(value[name]) / MB for value in values)


BENCHMARK = Benchmark(
    "memory",
    "Memory after some seconds of training, a checkpoint every half second, without the console. A worker's own pages "
    "are those that no other process has (USS); its part of the shared ones, above all torch's, which all processes "
    "share with the one that they were forked from, counts in PSS; the sum of PSS over all processes counts every page "
    "once. Of the workers of a run the mean is taken. 1 MB is 10^6 bytes. Linux alone tells these figures.",
    plan,
    measure,
    rows,
)
