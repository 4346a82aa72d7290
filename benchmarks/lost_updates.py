"""What pushing without a lock loses, over workers and network size."""

import dataclasses
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from a3c.config import Config
from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from workers.processes.start import start_forkserver

WORKERS, UNITS, N_STEPS = (2, 4, 8, 16), (16, 128, 512), (5, 48)


def plan(size: Size) -> list[Parameters]:
    """The whole grid, three times over."""
    repetitions, seconds = (1, 0.2) if size.quick else (3, 2.0)
    grid = [(2, 16, 5)] if size.quick else list(product(WORKERS, UNITS, N_STEPS))
    return [
        {"workers": workers, "units": units, "n_steps": n_steps, "seconds": seconds, "repetition": number}
        for number in range(repetitions)
        for workers, units, n_steps in grid
    ]


def measure(parameters: Parameters) -> Values:
    """One count, with the real workers, environments and kernel."""
    start_forkserver()
    from workers.comparison.lost_updates import measure_lost_updates  # imports torch
    from workers.processes.preflight import describe_environment

    options = {name: parameters[name] for name in ("workers", "n_steps")}
    config = Config.from_options(
        {**options, "hidden_sizes": (parameters["units"],) * 2, "seed": parameters["repetition"]}
    )
    with tempfile.TemporaryDirectory() as folder:
        lost = measure_lost_updates(config, describe_environment(config), Path(folder), parameters["seconds"])
    return dataclasses.asdict(lost)


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Lost element updates, overlapped pushes and torn pulls, in per cent."""
    found: list[Row] = []
    for shape in dict.fromkeys(_shape(trial) for trial in trials):
        values = [trial.values for trial in trials if _shape(trial) == shape]
        words = f"{shape[0]} workers, 2 x {shape[1]} units, {shape[2]} steps per rollout"
        found += [
            Figure(f"{name}, {words}", tuple(100 * float(value[key]) for value in values), "%")
            for key, name in (
                ("lost", "element updates lost"),
                ("overlapped", "pushes overlapped"),
                ("torn", "pulls torn"),
            )
        ]
    return found


def _shape(trial: Trial) -> tuple[int, int, int]:
    return trial.parameters["workers"], trial.parameters["units"], trial.parameters["n_steps"]


BENCHMARK = Benchmark(
    "lost-updates",
    "What `async` loses: the real workers run their loop for two seconds, and the shared Adam is replaced by one that "
    "subtracts the same power of two from every element at every push, by the same kernel; what the sum lacks then "
    "is lost (`workers/comparison/lost_updates.py`). A push is overlapped, and a pull torn, where another worker's "
    "push was under way meanwhile. `locked` and `sync` lose nothing, which a test holds.",
    plan,
    measure,
    rows,
)
