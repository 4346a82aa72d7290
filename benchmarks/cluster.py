"""What a cluster costs, on nodes that are simulated on this machine: ratios to shared memory, within one repetition.

`python -m benchmarks.cluster [REPETITIONS]`. Rates are of the seconds in which all workers train.
"""

import csv
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import conditions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cluster.jsonl"
SECONDS = 12.0  # of all workers together
FOREVER = ("--target-return", "1e9", "--max-env-steps", "1000000000", "--eval-episodes", "0", "--dashboard", "off")


class Shape(NamedTuple):
    """A run, and the nodes that it is spread over beside this machine."""

    name: str
    nodes: int
    cpus: int  # of each
    workers: int
    options: tuple[str, ...]


SHAPES = (
    Shape("4 workers, 16 envs x 48 steps", 1, 2, 4, ("--envs-per-worker", "16", "--n-steps", "48")),
    Shape("4 workers, 1 env x 48 steps", 1, 2, 4, ("--envs-per-worker", "1", "--n-steps", "48")),
    Shape("16 workers, 1 env of 2 ms", 3, 4, 16, ("--envs-per-worker", "1", "--env-latency-ms", "2")),
)


def rate(shape: Shape, address: str | None) -> float:
    """Env steps per second while all workers train."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = ["--workers", str(shape.workers), *shape.options, *FOREVER, "--run-dir", str(run_dir)]
        words += ["--cluster", address] if address else []
        process = subprocess.Popen([sys.executable, "run_a3c.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            found = measured(run_dir, address is not None)
        finally:
            process.terminate()
            process.wait(60)
        profile = json.loads((run_dir / "summary.json").read_text())["profile"]
        if min(phases["wall"] for phases in profile) < SECONDS:
            raise RuntimeError("a worker came too late to be measured")
        return found


def measured(run_dir: Path, joined: bool) -> float:
    """From two rows of a run's metrics, once the workers of all nodes have pushed."""
    deadline, began = time.monotonic() + 120, None
    while time.monotonic() < deadline:
        time.sleep(0.25)
        rows = read(run_dir / "metrics.csv")
        if began is None and rows and float(rows[-1]["train_seconds"]) > (20 if joined else 2):
            began = rows[-1]
        if began is not None:
            seconds = float(rows[-1]["train_seconds"]) - float(began["train_seconds"])
            if seconds > SECONDS:
                return (int(rows[-1]["env_steps"]) - int(began["env_steps"])) / seconds
    raise RuntimeError("the run has not come so far")


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open())) if path.exists() else []


def main() -> int:
    """Measure, keep and print."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    for shape in SHAPES:
        ratios = list[float]()
        cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        try:
            for _ in range(shape.nodes):
                cluster.add_node(num_cpus=shape.cpus)
            for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
                there, here = rate(shape, str(cluster.address)), rate(shape, None)
                ratios.append(there / here)
                row = {"shape": shape.name, "cluster": round(there), "shared_memory": round(here)}
                with RESULTS.open("a") as file:
                    file.write(json.dumps({**row, "conditions": conditions()}) + "\n")
        finally:
            cluster.shutdown()
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{shape.name}: {statistics.median(ratios):.2f} of shared memory's env steps/s ({spread})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
