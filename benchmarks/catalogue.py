"""All benchmarks by name, in the order in which they run."""

from benchmarks import console_cost, gradients, latency, lock_cost, lost_updates, paper_shape, scaling, solve
from benchmarks.benchmark import Benchmark

CATALOGUE: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (solve, paper_shape, console_cost, latency, lock_cost, lost_updates, scaling, gradients)
}
