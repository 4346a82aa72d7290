"""How the system scales where the environments, not the processor, take the time: 64 workers against one."""

from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.throughput import measure_training

LATENCY_MS, WORKERS = 10.0, (1, 64)
MODES = ("async", "sync")


def plan(size: Size) -> list[Parameters]:
    """Each mode with each number of workers; the numbers of one mode are neighbours and make one trial."""
    repetitions, seconds, workers = (1, 1.0, (1, 2)) if size.quick else (3, 30.0, WORKERS)
    return [
        {"mode": mode, "workers": list(workers), "latency_ms": LATENCY_MS, "seconds": seconds, "repetition": number}
        for number in range(repetitions)
        for mode in MODES
    ]


def measure(parameters: Parameters) -> Values:
    """One run for each number of workers."""
    return {str(workers): _run(parameters, workers) for workers in parameters["workers"]}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Env steps/s as multiples of one worker's, by mode."""
    found: list[Row] = []
    for mode in MODES:
        of_mode = [trial for trial in trials if trial.parameters["mode"] == mode]
        for workers in of_mode[0].parameters["workers"] if of_mode else []:
            rates = [float(trial.values[str(workers)]["steps_per_second"]) for trial in of_mode]
            ones = [float(trial.values["1"]["steps_per_second"]) for trial in of_mode]
            name = f"{mode}, {workers} worker{'s' * (workers > 1)} with {LATENCY_MS:g} ms environments"
            if workers == 1:
                found.append(Figure(f"env steps/s, {name}", tuple(rates)))
                continue
            ratios = tuple(rate / one for rate, one in zip(rates, ones, strict=True))
            bar = Limit(55, at_most=False) if (mode, workers) == ("async", 64) else None
            found.append(Figure(f"env steps/s, {name} / one worker", ratios, "x", bar))
    return found


def _run(parameters: Parameters, workers: int) -> Values:
    arguments = [
        "--mode",
        parameters["mode"],
        "--workers",
        str(workers),
        "--seed",
        str(parameters["repetition"]),
        "--env-latency-ms",
        str(parameters["latency_ms"]),
    ]
    return measure_training(arguments, parameters["seconds"])


BENCHMARK = Benchmark(
    "latency",
    f"Env steps/s with environments that sleep {LATENCY_MS:g} ms at every step, as multiples of one such worker's; 48 "
    "steps per rollout, 30 s of training in which the starting of 64 processes is included, without the console but "
    "with the monitor, whose evaluations do not sleep.",
    plan,
    measure,
    rows,
)
