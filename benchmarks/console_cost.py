"""What the live console costs: the same training with it in a terminal, and without."""

from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Limit, Row
from benchmarks.throughput import measure_training

SHAPE = ["--workers", "4"]


def plan(size: Size) -> list[Parameters]:
    """Eight pairs."""
    pairs, seconds = (1, 1.5) if size.quick else (8, 5.0)
    return [{"arguments": SHAPE, "seconds": seconds, "pair": pair} for pair in range(pairs)]


def measure(parameters: Parameters) -> Values:
    """One pair, on and off by turns first, so that a drift of the machine cancels out."""
    order = ("on", "off") if parameters["pair"] % 2 == 0 else ("off", "on")
    arguments = [*parameters["arguments"], "--seed", str(parameters["pair"])]
    return {name: measure_training(arguments, parameters["seconds"], dashboard=name == "on") for name in order}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """The throughput lost, and the CPU time taken, which is far less noisy."""
    pairs = [(trial.values["on"], trial.values["off"]) for trial in trials]
    rates = [(float(on["steps_per_second"]), float(off["steps_per_second"])) for on, off in pairs]
    shares = [(100 * float(on["parent_cpu_share"]), 100 * float(off["parent_cpu_share"])) for on, off in pairs]
    return [
        Figure("throughput lost to the console", tuple(100 * (1 - on / off) for on, off in rates), "%", Limit(2)),
        Figure("CPU taken by the console: the parent's share of all cores, on less off",
               tuple(on - off for on, off in shares), "%", Limit(2)),
        Figure("CPU of the parent with the console, of all cores", tuple(on for on, _ in shares), "%"),
        Figure("CPU of the parent without, of all cores", tuple(off for _, off in shares), "%"),
        Figure("env steps/s with the console", tuple(on for on, _ in rates)),
        Figure("env steps/s without", tuple(off for _, off in rates)),
    ]  # fmt: skip


BENCHMARK = Benchmark(
    "console-cost",
    "Env steps/s of the default shape with the live console in a terminal of 120 x 40 and with `--dashboard off`, in "
    "pairs. The CPU time of the parent process alone, which draws the console, tells the cost where the noise of the "
    "throughput is larger than the cost.",
    plan,
    measure,
    rows,
)
