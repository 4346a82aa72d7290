"""What a lock costs in speed: env steps/s of the three modes beside each other."""

from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from benchmarks.throughput import measure_training

MODES = ("async", "locked", "sync")
SHAPES = ((4, 48, 128), (4, 5, 128), (8, 5, 128), (4, 5, 512))  # workers, steps per rollout, units of two layers


def plan(size: Size) -> list[Parameters]:
    """Each shape some times over; the modes of a shape are neighbours and make one trial."""
    repetitions, seconds, shapes = (1, 1.0, SHAPES[:1]) if size.quick else (4, 4.0, SHAPES)
    return [
        {"workers": workers, "n_steps": n_steps, "units": units, "seconds": seconds, "repetition": number}
        for number in range(repetitions)
        for workers, n_steps, units in shapes
    ]


def measure(parameters: Parameters) -> Values:
    """One run of each mode, beginning with another one in every repetition."""
    first = parameters["repetition"] % len(MODES)
    return {mode: _run(parameters, mode) for mode in (*MODES[first:], *MODES[:first])}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The rate without a lock, and the others as shares of it."""
    shapes = dict.fromkeys(_shape(trial) for trial in trials)
    found: list[Row] = []
    for shape in shapes:
        of_shape = [trial.values for trial in trials if _shape(trial) == shape]
        words = f"{shape[0]} workers, {shape[1]} steps per rollout, 2 x {shape[2]} units"
        found.append(Figure(f"env steps/s, async, {words}", tuple(_rate(values, "async") for values in of_shape)))
        found += [
            Figure(
                f"env steps/s, {mode} / async, {words}",
                tuple(_rate(values, mode) / _rate(values, "async") for values in of_shape),
                "x",
            )
            for mode in MODES[1:]
        ]
    return found


def _shape(trial: Trial) -> tuple[int, int, int]:
    return trial.parameters["workers"], trial.parameters["n_steps"], trial.parameters["units"]


def _rate(values: Values, mode: str) -> float:
    return float(values[mode]["steps_per_second"])


def _run(parameters: Parameters, mode: str) -> Values:
    units = str(parameters["units"])
    arguments = [
        "--mode",
        mode,
        "--workers",
        str(parameters["workers"]),
        "--n-steps",
        str(parameters["n_steps"]),
        "--hidden-sizes",
        units,
        units,
        "--seed",
        str(parameters["repetition"]),
    ]
    return measure_training(arguments, parameters["seconds"])


BENCHMARK = Benchmark(
    "lock-cost",
    "Env steps/s of `async`, `locked` and `sync` right after one another, the order changing; without the console but "
    "with the monitor. Five steps per rollout are the paper's and push as often as anybody would.",
    plan,
    measure,
    rows,
)
