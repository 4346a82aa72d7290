"""Sixty-four environments per worker, beside the bare native vector environment."""

from collections.abc import Sequence

from a3c.config import Config
from benchmarks.bare import bare_limits, bare_rates, bare_rows, process_counts
from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row, at_least, quantile
from benchmarks.throughput import measure_training

ENVS, WORKERS = 64, 4
STEPS = Config.from_options({}).n_steps


def plan(size: Size) -> list[Parameters]:
    """Eight repetitions."""
    repetitions, seconds, bare_seconds = (1, 2.0, 0.5) if size.quick else (8, 6.0, 3.0)
    shared = {"envs": ENVS, "workers": process_counts(WORKERS), "seconds": seconds, "bare_seconds": bare_seconds}
    return [{**shared, "repetition": repetition} for repetition in range(repetitions)]


def measure(parameters: Parameters) -> Values:
    """Ours and the bare rate, either first by turns, so that a drift of the machine cancels out."""
    sides = {"ours": measure_ours, "bare": measure_bare}
    order = list(sides) if parameters["repetition"] % 2 == 0 else list(reversed(sides))
    return {name: sides[name](parameters) for name in order}


def measure_ours(parameters: Parameters) -> Values:
    """Our env steps/s by the number of workers, without the console, the monitor evaluating as always."""
    shape = ["--envs-per-worker", str(parameters["envs"]), "--seed", str(parameters["repetition"])]
    return {
        str(workers): measure_training(["--workers", str(workers), *shape], parameters["seconds"])
        for workers in parameters["workers"]
    }


def measure_bare(parameters: Parameters) -> Values:
    """Bare env steps/s by the number of processes."""
    return bare_rates(parameters["envs"], WORKERS, parameters["bare_seconds"])


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The share with the best number of workers, and the rates."""
    counts = trials[0].parameters["workers"] if trials else []
    rates = {
        count: tuple(float(trial.values["ours"][str(count)]["steps_per_second"]) for trial in trials)
        for count in counts
    }
    best = max(rates.values(), key=lambda samples: quantile(samples, 0.5), default=())
    shares = tuple(100 * rate / limit for rate, limit in zip(best, bare_limits(trials), strict=True))
    words = f"{ENVS} envs a worker"
    return [
        Figure(
            f"env steps/s, {words}, as a share of the bare native vector environment's",
            shares,
            "%",
            at_least(20),
            at_least(50),
        ),
        *(Figure(f"env steps/s, {words}, {count} workers", rates[count]) for count in counts),
        *bare_rows(f"bare native vector environment of {ENVS}", trials),
    ]


BENCHMARK = Benchmark(
    "vector-shape",
    f"Env steps/s with {ENVS} environments per worker and everything else at its default: {STEPS} steps per "
    f"rollout, so that {STEPS * ENVS:,} steps make one update, and a 2 x 128 network; without the console "
    "but with the monitor, which evaluates as in every run. The bare rate is that of Gymnasium's native vector "
    "environment of as many, stepped with random actions drawn beforehand; the steps in which it resets an environment "
    f"count for it and not for us. Both with as many processes as there are cores and with {WORKERS}; of either the "
    "faster number counts.",
    plan,
    measure,
    rows,
)
