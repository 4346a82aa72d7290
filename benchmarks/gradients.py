"""The gradient of one rollout: written out in NumPy beside torch's automatic differentiation."""

import sys
from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from benchmarks.program import json_output

SHAPES = ((5, 1), (32, 1), (16, 4), (16, 16))  # steps, environments
LIMIT_SECONDS = 300.0


def plan(size: Size) -> list[Parameters]:
    """A process per shape."""
    blocks, calls = (2, 5) if size.quick else (40, 100)
    return [{"n_steps": steps, "envs": envs, "blocks": blocks, "calls": calls} for steps, envs in SHAPES]


def measure(parameters: Parameters) -> Values:
    """Microseconds per gradient of each block, in a process of its own."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]
    return json_output([sys.executable, "-m", "benchmarks.gradient_timing", *options], LIMIT_SECONDS)


def rows(trials: Sequence[Trial]) -> list[Row]:
    """For each shape the ratio of neighbouring blocks, and the faster way's time."""
    figures: list[Row] = []
    for trial in trials:
        closed, auto = trial.values["closed_form_us"], trial.values["autograd_us"]
        ratios = tuple(slow / fast for fast, slow in zip(closed, auto, strict=True))
        shape = f"{trial.parameters['n_steps']} x {trial.parameters['envs']} steps"
        figures.append(Figure(f"time per gradient, autograd / closed form, {shape}", ratios, "x"))
        figures.append(Figure(f"time per gradient, closed form, {shape}", tuple(closed), "us"))
    return figures


BENCHMARK = Benchmark(
    "gradients",
    "Time from a rollout to its gradient on the default network, which is all that comes after acting, by torch's "
    "autograd and by the closed form, in blocks of 100 calls by turns, one thread; ratios are of neighbouring blocks. "
    "The closed form has made its forward pass in acting.",
    plan,
    measure,
    rows,
)
