"""All benchmarks by name, in the order in which they run."""

from benchmarks import (
    gradients,
    growth,
    instructions,
    latency,
    lock_cost,
    lost_updates,
    memory,
    overhead,
    paper_shape,
    sample_efficient,
    serving,
    solve,
    stable_baselines3,
    vector_shape,
)
from benchmarks.benchmark import Benchmark

CATALOGUE: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        solve,
        sample_efficient,
        stable_baselines3,
        paper_shape,
        vector_shape,
        growth,
        memory,
        overhead,
        instructions,
        latency,
        lock_cost,
        lost_updates,
        gradients,
        serving,
    )
}
