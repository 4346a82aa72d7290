"""How env steps/s and memory go with workers, environments per worker, network width and observation size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row
from benchmarks.throughput import usable_cores
from benchmarks.watching import watch_training

MB = 1e6
TOLD_FROM = 0.05  # share of the time, or growth of it, from which a phase is named


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that grows while all else stays as in the default shape."""

    words: str
    points: tuple[int, ...]
    default: int
    options: Callable[[int], Parameters]
    bend: float  # the curve bends where the rate grows more slowly than the axis to this power


def observing(size: int) -> Parameters:
    """Observations of so many numbers."""
    return {"env": "CartPole-v1" if size == 4 else f"benchmarks.wide_cartpole:WideCartPole{size}-v0"}


# More workers and environments should bring more steps: the curve bends where twice as many bring less than 1.4 times
# as many. Larger networks and observations cost some: it bends where twice the size leaves less than 0.7.
AXES = {
    "workers": Axis("workers", (1, 2, 4, 8, 16, 32, 64), 4, lambda count: {"workers": count}, 0.5),
    "envs": Axis("environments per worker", (1, 4, 16, 64, 256), 1, lambda count: {"envs_per_worker": count}, 0.5),
    "width": Axis(
        "units per layer, two layers",
        (32, 64, 128, 256, 512, 1024),
        128,
        lambda units: {"hidden_sizes": [units, units]},
        -0.5,
    ),
    "observation": Axis("numbers in an observation", (4, 64, 1024, 16384), 4, observing, -0.5),
}


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured where an axis has one value; a sample per repetition."""

    value: int
    rates: tuple[float, ...]  # env steps/s
    worker_mb: tuple[float, ...]  # resident memory per worker beyond the shared pages, the mean of the workers
    program_mb: tuple[float, ...]  # of all processes, each page once
    phases: Mapping[str, float]  # share of the workers' time, median
    cpu_use: float  # share of the CPU time of all cores, median

    def where(self) -> str:
        """Where the time goes."""
        told = sorted(((share, phase) for phase, share in self.phases.items() if share >= TOLD_FROM), reverse=True)
        return ", ".join([*(f"{phase} {100 * share:.0f} %" for share, phase in told), self.busy()])

    def busy(self) -> str:
        """How much of the cores' time is used."""
        return f"cores {100 * self.cpu_use:.0f} % busy"


def plan(size: Size) -> list[Parameters]:
    """Every axis point by point, three times over."""
    repetitions, settle, seconds = (1, 0.0, 1.0) if size.quick else (3, 1.0, 3.0)
    return [
        {
            "axis": name,
            "value": value,
            "options": {"workers": 4, **axis.options(value)},
            "settle": settle,
            "seconds": seconds,
            "repetition": repetition,
        }
        for repetition in range(repetitions)
        for name, axis in AXES.items()
        for value in ([axis.points[1]] if size.quick else axis.points)
    ]


def measure(parameters: Parameters) -> Values:
    """One run."""
    options = {**parameters["options"], "seed": parameters["repetition"]}
    watched = watch_training(options, parameters["settle"], parameters["seconds"])
    used = sum(watched["cpu_seconds"].values()) / watched["seconds"] / usable_cores()
    return {**watched, "cpu_use": round(used, 4)}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """For each axis its curve, with where the time goes at each point, and where it bends."""
    found: list[Row] = []
    for name, axis in AXES.items():
        points = measured(trials, name)
        found += [
            Figure(f"env steps/s, {axis.words}: {point.value} ({point.where()})", point.rates) for point in points
        ]
        found += bend_rows(axis, points)
        found += [
            Figure(f"resident memory of the whole program, {axis.words}: {point.value}", point.program_mb, "MB")
            for point in points
        ]
    return found


def measured(trials: Sequence[Trial], name: str) -> list[Point]:
    """The points of an axis that there are trials of, in its order."""
    by_value: dict[int, list[Values]] = {}
    for trial in trials:
        if trial.parameters["axis"] == name:
            by_value.setdefault(trial.parameters["value"], []).append(trial.values)
    return [_point(value, by_value[value]) for value in AXES[name].points if value in by_value]


def bend_rows(axis: Axis, points: Sequence[Point]) -> list[Row]:
    """Where the curve bends and what takes over there, with the ratio of rates that says so; or that it does not."""
    if len(points) < 2:
        return []
    if (here := bend_of(axis, points)) is None:
        first, last = points[0], points[-1]
        return [_ratio(f"{axis.words}: no bend up to {last.value}; env steps/s there / at {first.value}", first, last)]
    point, after = points[here], points[here + 1]
    why = f"the {point.busy()}{taking_over(point, after)}"
    return [
        _ratio(
            f"{axis.words}: the curve bends after {point.value}, {why}; env steps/s at {after.value} / at "
            f"{point.value}",
            point,
            after,
        )
    ]


def taking_over(point: Point, after: Point) -> str:
    """The phase whose share grows most from one point to the next, in words; "" where none grows by much."""
    growth, phase = max((share - point.phases.get(phase, 0.0), phase) for phase, share in after.phases.items())
    if growth < TOLD_FROM:
        return ""
    return f", and {phase} growing from {100 * (after.phases[phase] - growth):.0f} to {100 * after.phases[phase]:.0f} %"


def bend_of(axis: Axis, points: Sequence[Point]) -> int | None:
    """The first point after which the rate grows more slowly than the axis asks; None where there is none."""
    for place, (point, after) in enumerate(pairwise(points)):
        if median(after.rates) / median(point.rates) < (after.value / point.value) ** axis.bend:
            return place
    return None


def _ratio(name: str, below: Point, above: Point) -> Figure:
    return Figure(name, tuple(after / before for before, after in zip(below.rates, above.rates, strict=False)), "x")


def _point(value: int, values: Sequence[Values]) -> Point:
    phases = dict.fromkeys(phase for one in values for phase in one["phases"])
    return Point(
        value,
        tuple(float(one["steps_per_second"]) for one in values),
        tuple(fmean(one["worker_uss"]) / MB for one in values),
        tuple(float(one["program_pss"]) / MB for one in values),
        {phase: median(one["phases"].get(phase, 0.0) for one in values) for phase in phases},
        median(one["cpu_use"] for one in values),
    )


BENCHMARK = Benchmark(
    "growth",
    "One thing grows at a time, all else as in the default shape (4 workers with one environment each, 2 x 128 units, "
    "CartPole-v1; a wide observation is CartPole's with zeros behind it), without the console but with the monitor. "
    "Behind each point stands where the workers' time goes (`metrics.csv`) and how much of the cores' time is used: "
    "where all of it is, a worker's wall-clock time in a phase is partly its waiting for a core. "
    "[Rates and memory](figures/growth-rates.svg), [phases](figures/growth-phases.svg).",
    plan,
    measure,
    rows,
)
