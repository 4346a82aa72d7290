"""The physical limit of env steps/s: bare environments, stepped by several processes that do next to nothing else.

`bare_rates` is for benchmarks. It runs this module as a program, so that what is measured shares nothing with them:

    python -m benchmarks.bare --envs 64 --processes 2 --seconds 3 --output FILE
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks.benchmark import Trial
from benchmarks.figures import Figure, Row
from benchmarks.program import json_output
from benchmarks.throughput import usable_cores

ENV = "CartPole-v1"
BLOCK = 256  # steps between two looks at the clock
START_SECONDS = 60.0  # imports and the making of the environments


def process_counts(workers: int) -> list[int]:
    """The numbers of processes that can be the best: one for each core, and as many as there are workers."""
    return sorted({usable_cores(), workers})


def bare_rates(envs: int, workers: int, seconds: float) -> dict[str, float]:
    """Env steps/s of all processes together, by the number of processes; the largest is the limit.

    Args:
        envs: of each process; 1 is the scalar environment, more are the native vector environment.
        seconds: that each number of processes is measured for.
    """
    command = [sys.executable, "-m", "benchmarks.bare", f"--envs={envs}", f"--seconds={seconds}"]
    return {
        str(count): json_output([*command, f"--processes={count}"], seconds + START_SECONDS)["steps_per_second"]
        for count in process_counts(workers)
    }


def bare_limits(trials: Sequence[Trial]) -> tuple[float, ...]:
    """The largest rate of each trial, whose value "bare" holds what `bare_rates` has measured."""
    return tuple(max(trial.values["bare"].values()) for trial in trials)


def bare_rows(what: str, trials: Sequence[Trial]) -> list[Row]:
    """The rates of the environment named by `what`, a row for each number of processes."""
    counts = trials[0].values["bare"] if trials else {}
    return [
        Figure(f"env steps/s, {what}, {count} processes", tuple(trial.values["bare"][count] for trial in trials))
        for count in counts
    ]


def main() -> None:
    """Write {"steps_per_second": ...}, of all processes together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    context = multiprocessing.get_context("fork")  # the children have everything imported
    ready, rates = context.Barrier(options.processes), context.SimpleQueue()
    arguments = (options.envs, options.seconds, ready, rates)
    processes = [context.Process(target=step_along, args=(seed, *arguments)) for seed in range(options.processes)]
    for process in processes:
        process.start()
    total = sum(rates.get() for _ in processes)
    for process in processes:
        process.join()
    options.output.write_text(json.dumps({"steps_per_second": round(total, 1)}))


def step_along(seed: int, envs: int, seconds: float, ready: Any, rates: Any) -> None:
    """What each process does: step when all are ready, and tell its rate."""
    rates.put(scalar_rate(seconds, seed, ready) if envs == 1 else vector_rate(envs, seconds, seed, ready))


def scalar_rate(seconds: float, seed: int, ready: Any) -> float:
    """Steps/s of what `gymnasium.make` gives.

    The time of resets is left out: random actions end an episode after 22 steps, a trained policy after 500. That makes
    the limit a higher one.
    """
    environment = gymnasium.make(ENV)
    environment.reset(seed=seed)
    actions = list(np.random.default_rng(seed).integers(2, size=BLOCK))
    step, now = environment.step, time.perf_counter
    ready.wait()
    steps, resetting, started = 0, 0.0, now()
    while (passed := now() - started) < seconds:
        for action in actions:
            _, _, terminated, truncated, _ = step(action)
            if terminated or truncated:
                ended = now()
                environment.reset()
                resetting += now() - ended
        steps += len(actions)
    return steps / (passed - resetting)


def vector_rate(envs: int, seconds: float, seed: int, ready: Any) -> float:
    """Steps/s of Gymnasium's native vector environment; the steps in which it resets an environment count too."""
    environment = gymnasium.make_vec(ENV, envs, vectorization_mode="vector_entry_point")
    environment.reset(seed=seed)
    actions = np.random.default_rng(seed).integers(2, size=(BLOCK, envs))
    ready.wait()
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for batch in actions:
            environment.step(batch)
        steps += actions.size
    return steps / passed


if __name__ == "__main__":
    main()
