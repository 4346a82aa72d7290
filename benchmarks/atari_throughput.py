"""Agent steps per second of training on Pong as a share of the bare native vector environment's, side by side.

`python -m benchmarks.atari_throughput [REPETITIONS]`: each repetition runs the bare batches, a process for each worker,
then a training with A2C, and one with PPO's preset, on the same cores; ratios are within a repetition, to batches of
the same size.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import conditions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "atari-throughput.jsonl"
GAME, WORKERS, BARE_SECONDS, STEPS = "ALE/Pong-v5", 2, 15.0, 40_000
TRAININGS = {  # environments per worker, and options
    "a2c": (64, ("--preset", "none", "--objective", "a2c", "--n-steps", "10", "--noise-correlation", "0")),
    "ppo": (16, ("--preset", GAME)),
}


def bare(count: int) -> float:
    """Agent steps per second of one process."""
    from a3c.environments import describe

    rng = np.random.default_rng(0)
    environments = describe(GAME).make(count, training=True)
    environments.reset(seed=0)
    began, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < BARE_SECONDS:
        environments.step(rng.integers(6, size=count))
        steps += count
    environments.close()
    return steps / seconds


def training(count: int, options: tuple[str, ...]) -> float:
    """Agent steps per second of all workers, from the first on."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--env", GAME, *options, "--workers", str(WORKERS), "--envs-per-worker", str(count)]
        words += ["--eval-episodes", "0", "--max-env-steps", str(STEPS), "--dashboard", "off"]
        command = [sys.executable, "run_a3c.py", *words, "--run-dir", f"{folder}/run"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        summary: dict[str, Any] = json.loads(Path(folder, "run", "summary.json").read_text())
        return float(summary["steps_per_second"])


def main() -> int:
    """Measure, keep and print."""
    shares: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        rates = dict[str, float]()
        for name, (count, options) in TRAININGS.items():
            with get_context("spawn").Pool(WORKERS) as pool:
                rates[f"bare, {count} at once"] = sum(pool.map(bare, [count] * WORKERS, 1))
            rates[name] = training(count, options)
        with RESULTS.open("a") as file:
            file.write(json.dumps({"steps_per_second": rates, "conditions": conditions()}) + "\n")
        for name, found in shares.items():
            found.append(rates[name] / rates[f"bare, {TRAININGS[name][0]} at once"])
        print({name: round(rate) for name, rate in rates.items()}, flush=True)
    for name, found in shares.items():
        middle, low, high = (100 * share for share in (statistics.median(found), min(found), max(found)))
        print(f"{name}: {middle:.1f} % of the bare environment's ({low:.1f} to {high:.1f}, n {len(found)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
