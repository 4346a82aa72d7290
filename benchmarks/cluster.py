"""What a cluster costs, on nodes that are simulated on this machine.

`python -m benchmarks.cluster [exchange] [rates] [solve] [node-lost] [--repetitions N]`; ratios are to shared memory,
within one repetition, on the same cores.

exchange: between a gate and a host, by Ray: its time, and the processor's on both sides, by itself and in a run.
rates: env steps per second while all workers train, and what `benchmarks.cluster_model` says they should be.
solve: CartPole-v1 by 6 workers on 3 nodes, 10 seeds; and from the prompt to the end, joined.
node-lost: the env steps of the others after a node was killed.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from benchmarks import cluster_model
from benchmarks.machine import conditions
from tests.process.nodes import gate_of, hosts, simulated

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SECONDS = 12.0  # of all workers together
FOREVER = ("--target-return", "1e9", "--max-env-steps", "1000000000", "--eval-episodes", "0", "--dashboard", "off")
SMALL, LARGE = (), ("--hidden-sizes", "512", "512")  # 70 kB and 1 MB of parameters
EXCHANGES, WARM = 400, 50


class Shape(NamedTuple):
    """A run, and the nodes that it is spread over beside this machine."""

    name: str
    nodes: int
    workers: int
    envs: int
    steps: int
    latency: float = 0.0  # ms of an env step
    options: tuple[str, ...] = SMALL

    @property
    def words(self) -> list[str]:
        """The options of such a run."""
        words = ["--workers", self.workers, "--envs-per-worker", self.envs, "--n-steps", self.steps]
        return [*map(str, words), "--env-latency-ms", str(self.latency), *self.options]


SHAPES = (
    Shape("4 workers, 16 envs x 48 steps, 1 node", 1, 4, 16, 48),
    Shape("4 workers, 1 env x 48 steps, 1 node", 1, 4, 1, 48),
    Shape("4 workers, 4 envs x 12 steps, 1 node", 1, 4, 4, 12),
    Shape("4 workers, 16 envs x 48 steps, 1 MB, 1 node", 1, 4, 16, 48, 0.0, LARGE),
    Shape("8 workers, 8 envs x 32 steps, 3 nodes", 3, 8, 8, 32),
    Shape("8 workers, 1 env x 32 steps of 10 ms, 3 nodes", 3, 8, 1, 32, 10.0),
    Shape("8 workers, 1 env x 5 steps of 2 ms, 3 nodes", 3, 8, 1, 5, 2.0),
    Shape("16 workers, 1 env x 48 steps of 2 ms, 3 nodes", 3, 16, 1, 48, 2.0),
)
CALIBRATION = Shape("2 workers, 1 env x 24 steps of 1 ms, 1 node", 1, 2, 1, 24, 1.0)  # none of those


# -- one exchange -----------------------------------------------------------------------------------------------------


class Outbox:
    """A host without workers: every exchange finds a gradient of each."""

    def __init__(self, job: Any):
        from shared.scoreboard import Scoreboard
        from workers.cluster.host import build_mirror

        self._store: Any = build_mirror(job.config, job.environment, Scoreboard(job.config.workers))
        self._store._gradients.array[:] = np.random.default_rng(0).standard_normal(len(self._store.parameters))

    def exchange(self, orders: Any) -> Any:
        from workers.cluster.exchange import Report

        self._store.mirror(orders.mirrored, orders.settled)
        self._store._pushed.array[:-1] += 1  # a worker is the run's machine's own
        return Report(self._store.collect(), {}, {}, {}, [], [], {}, time.monotonic(), False)

    def spent(self) -> float:
        return spent_by(psutil.Process())


def exchanges(ray: Any, workers: int, words: tuple[str, ...]) -> dict[str, float]:
    """Of an exchange with a gradient of each worker: its median time, and the processor's on both sides, in seconds."""
    from a3c.config import Config
    from a3c.environments import describe
    from shared.memory import Notifier
    from shared.scoreboard import Scoreboard
    from workers.cluster.node import Node
    from workers.cluster.roster import Roster
    from workers.runs.evaluations import Evaluations, Progress, SharedRun
    from workers.training import build_store

    sizes = {"hidden_sizes": tuple(map(int, words[1:]))} if words else {}
    config, environment = Config.from_options({"workers": workers + 1, **sizes}), describe("CartPole-v1")
    board = Scoreboard(workers + 1)
    store = build_store(config, environment, board)
    with tempfile.TemporaryDirectory() as folder:
        run = SharedRun(config, environment, store, board, Evaluations(Progress()), Notifier(), Path(folder))
        node = Node(run, "far", range(workers), Roster(workers + 1), threading.Lock(), lambda message: None)
        host: Any = ray.remote(Outbox).options(num_cpus=1).remote(node.job())
        raylets = [each for each in psutil.process_iter(["name"]) if each.info["name"] == "raylet"]
        gate_side = (psutil.Process(), *raylets)  # the latter pass on what is too large for a message
        times, whole, begun = list[float](), list[float](), 0.0
        for number in range(WARM + EXCHANGES):
            if number == WARM:
                before, begun = (spent_by(*gate_side), ray.get(host.spent.remote())), time.thread_time()
            orders, began = node.orders(), time.perf_counter()
            report = ray.get(host.exchange.remote(orders))
            times.append(time.perf_counter() - began)
            node.apply(report)
            whole.append(time.perf_counter() - began)
        thread = (time.thread_time() - begun) / EXCHANGES
        after = spent_by(*gate_side), ray.get(host.spent.remote())
        ray.kill(host)
    gate, there = ((now - then) / EXCHANGES for now, then in zip(after, before, strict=True))
    found = {"thread": thread, "p50": statistics.median(times[WARM:]), "p95": float(np.quantile(times[WARM:], 0.95))}
    return {
        **found,
        "cycle": statistics.median(whole[WARM:]),
        "gate": gate,
        "host": there,
        "bytes": 4 * len(store.parameters),
    }


def spent_by(*processes: psutil.Process) -> float:
    """Their processor seconds so far."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def exchange() -> None:
    """Measure, keep and print the costs of an exchange."""
    torch.set_num_threads(1)  # as in a gate
    with simulated(1) as nodes:
        import ray  # reads how to authenticate

        variables = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(address=nodes.address, log_to_driver=False, runtime_env=variables)
        one, eight, large = (exchanges(ray, *each) for each in ((1, SMALL), (8, SMALL), (1, LARGE)))
        ray.shutdown()
        whole = in_a_run(nodes.address)
    for found in (one, eight, large):
        found["beside"] = found["gate"] - found["thread"]
    more, costs = 2 * (large["bytes"] - one["bytes"]), dict[str, Any](nbytes=one["bytes"])
    for side in ("thread", "beside", "host"):
        dearer = whole["host"] / one["host"] if side == "host" else whole["gate"] / one["gate"]
        parts = one[side], (eight[side] - one[side]) / 7, (large[side] - one[side]) / more
        costs[side] = [dearer * part for part in parts]
    keep("cluster-exchange", {"costs": costs, "one": one, "eight": eight, "large": large, "in_a_run": whole})
    for name, found in (("70 kB", one), ("8 x 70 kB", eight), ("1 MB", large)):
        rest = ", ".join(f"{key} {1e3 * found[key]:.2f}" for key in ("p95", "cycle", "thread", "beside", "host"))
        print(f"exchange of {name}: p50 {1e3 * found['p50']:.2f} ms ({rest})", flush=True)
    print(", ".join(f"{side} {1e3 * seconds:.2f} ms" for side, seconds in whole.items()), "of an exchange in a run")


def in_a_run(address: str) -> dict[str, float]:
    """Processor seconds of an exchange in a run with one worker on the node: more than where nothing else runs."""
    with started(*CALIBRATION.words, *FOREVER, "--cluster", address) as (process, run_dir):
        between(run_dir, 12, 1)
        forkserver = psutil.Process(process.pid).children()
        gate = gate_of([child for each in forkserver for child in each.children()])
        both, counts = (gate, hosts()[0]), list[tuple[float, ...]]()
        for _ in range(2):
            updates = float(read(run_dir / "metrics.csv")[-1]["updates"])
            counts.append((updates, *map(spent_by, both)))
            time.sleep(SECONDS)
        process.terminate()
        process.wait(60)
        local, there = json.loads((run_dir / "summary.json").read_text())["profile"]
    shares = [worker["env"] / worker["wall"] for worker in (local, there)]  # of the updates
    updates, gate_spent, host_spent = (after - before for before, after in zip(*counts, strict=True))
    exchanged = updates * shares[1] / sum(shares)
    return {"gate": gate_spent / exchanged, "host": host_spent / exchanged}


# -- whole runs -------------------------------------------------------------------------------------------------------


@contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run, ended at the end; its run directory."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "run_a3c.py", *map(str, words), "--run-dir", str(run_dir)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            yield process, run_dir
        finally:
            process.terminate()
            process.wait(60)


def rate(shape: Shape, address: str | None) -> dict[str, float]:
    """Env steps per second while all workers train, and processor seconds of a worker's rollout."""
    cluster = ["--cluster", address] if address else []
    with started(*shape.words, *FOREVER, *cluster) as (process, run_dir):
        found = between(run_dir, 18 + 1.5 * shape.workers if address else 2.0, SECONDS)
        process.terminate()
        process.wait(60)
        summary = json.loads((run_dir / "summary.json").read_text())
    if min(phases["wall"] for phases in summary["profile"]) < SECONDS:
        raise RuntimeError("a worker came too late to be measured")
    spent = sum(phases["cpu"] for phases in summary["profile"])
    return {"rate": found, "compute": spent / summary["updates"]}


def between(run_dir: Path, begin: float, seconds: float) -> float:
    """Env steps per second from a moment of the training on."""
    deadline, began = time.monotonic() + begin + seconds + 100, None
    while time.monotonic() < deadline:
        time.sleep(0.25)
        rows = read(run_dir / "metrics.csv")
        if began is None and rows and float(rows[-1]["train_seconds"]) > begin:
            began = rows[-1]
        if began is not None:
            took = float(rows[-1]["train_seconds"]) - float(began["train_seconds"])
            if took > seconds:
                return (int(rows[-1]["env_steps"]) - int(began["env_steps"])) / took
    raise RuntimeError("the run has not come so far")


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open())) if path.exists() else []


def predicted(shape: Shape, row: dict[str, Any], costs: cluster_model.Costs) -> float:
    """What the model says of a shape whose rollout has taken so much time in shared memory."""
    rollout = {"steps": shape.envs * shape.steps, "compute": row["compute"]}
    rollout["latency"] = shape.envs * shape.steps * shape.latency / 1e3
    nbytes = costs.nbytes if shape.options == SMALL else 1_070_000
    local = -(-shape.workers // (shape.nodes + 1))
    run = cluster_model.Shape(shape.nodes, shape.workers, local, **rollout, nbytes=nbytes, together=True)
    alone = replace(run, nodes=0, local=shape.workers)
    return cluster_model.Run(run, costs).rate() / cluster_model.Run(alone, costs).rate()


def rates(repetitions: int, shapes: Sequence[int]) -> None:
    """Measure, keep and print the rates of shapes."""
    for shape in (SHAPES[number] for number in shapes):
        with simulated(shape.nodes, 4) as nodes:
            for _ in range(repetitions):
                there, here = rate(shape, nodes.address), rate(shape, None)
                row = {"cluster": there["rate"], "shared_memory": here["rate"], "compute": here["compute"]}
                keep("cluster-rates", {"shape": shape.name, **row})
                print(f"{shape.name}: {there['rate'] / here['rate']:.2f}", flush=True)
    show_rates()


def show_rates() -> None:
    """All shapes, each as measured with the newest program that it was measured with, and by the model."""
    costs, rows = cluster_model.measured_costs(), [json.loads(line) for line in lines("cluster-rates")]
    newest = {row["shape"]: row["conditions"] for row in rows}
    rows = [row for row in rows if row["conditions"] == newest[row["shape"]]]
    print("| run | of shared memory's env steps/s | by the model | off by |\n|---|---:|---:|---:|")
    for shape in SHAPES:
        found = [row for row in rows if row["shape"] == shape.name]
        if found:
            measured = statistics.median(row["cluster"] / row["shared_memory"] for row in found)
            by_model = predicted(shape, found[-1], costs)
            print(f"| {shape.name} | {measured:.2f} | {by_model:.2f} | {100 * (by_model / measured - 1):+.0f} % |")


def solve(seeds: int = 10) -> None:
    """CartPole-v1 by 6 workers, on 3 nodes and on this machine; and from the prompt to the end."""
    with simulated(2, 2) as nodes:
        for seed in range(seeds):
            row: dict[str, Any] = {"seed": seed}
            for name, words in (("cluster", ["--cluster", nodes.address]), ("shared_memory", [])):
                with started("--workers", 6, "--seed", seed, "--dashboard", "off", *words) as (process, run_dir):
                    began = time.monotonic()
                    process.wait(300)
                    summary = json.loads((run_dir / "summary.json").read_text())
                    row[name] = {"seconds": time.monotonic() - began}
                    row[name] |= {key: summary[key] for key in ("status", "env_steps", "solved_env_steps")}
            keep("cluster-solve", row)
            print(row, flush=True)


def node_lost() -> None:
    """Env steps of the others, with environments of 2 ms, before and after one of three nodes was killed."""
    with simulated(3, 2) as nodes:
        words = ["--workers", 8, "--env-latency-ms", 2, *FOREVER, "--cluster", nodes.address]
        with started(*words) as (_, run_dir):
            before = between(run_dir, 25, 10)
            nodes.kill()
            killed = float(read(run_dir / "metrics.csv")[-1]["train_seconds"])
            after = between(run_dir, killed + 10, 10)
    row = {"before": before, "after": after, "of_their_share": after / (before * 6 / 8)}
    keep("cluster-node-lost", row)
    print(row, flush=True)


def keep(name: str, row: dict[str, Any]) -> None:
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({**row, "conditions": conditions()}) + "\n")


def lines(name: str) -> list[str]:
    path = RESULTS / f"{name}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = {"exchange": exchange, "rates": None, "solve": solve, "node-lost": node_lost, "show": show_rates}
    parser.add_argument("what", nargs="*", choices=[*every, []], default=["exchange", "rates", "solve", "node-lost"])
    parser.add_argument("--repetitions", type=int, default=2, help="of each rate")
    parser.add_argument("--shapes", type=int, nargs="+", default=range(len(SHAPES)), help="by their place")
    options = parser.parse_args()
    for name in options.what:
        if name == "rates":
            rates(options.repetitions, options.shapes)
        else:
            every[name]()  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    sys.exit(main())
