"""A cluster's workers, nodes and gate, killed while they train: the run goes on, and no push is applied twice."""

import hashlib
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.memory import SharedArray
from tests.chaos.outcome import Outcome
from tests.process.command import Program
from tests.process.nodes import Nodes, events, gate_of, hosts, simulated, workers_there
from workers import train, training

WORKERS, LOCAL = 6, 2
NOTICED_SECONDS, BACK_SECONDS = 10.0, 60.0
DIGEST = 16  # bytes
COMMAND = (sys.executable, "-c", "from tests.chaos.cluster import counted_run; counted_run()")
Kill = Callable[[Nodes, Program, random.Random], None]


class Ones:
    """An optimizer that counts: each step adds one to a vector, and says in a file which gradient it was made along."""

    def __init__(self, size: int, path: Path):
        self.moments, self._path = {"ones": SharedArray((size,), "float32")}, path

    def step(self, parameters: Tensor, gradient: Tensor, *_: Any) -> None:
        self.moments["ones"].tensor.add_(1)
        with self._path.open("ab", buffering=0) as file:
            file.write(hashlib.blake2b(gradient.numpy().tobytes(), digest_size=DIGEST).digest())


def counted_run() -> None:
    """A run on a cluster, in steps that are counted, until it is interrupted; then what the optimizer has counted."""
    run_dir, address = Path(sys.argv[1]), sys.argv[2]
    counted = list[Ones]()

    def build_optimizer(config: Any, model: Any, vector: Tensor) -> Ones:
        counted.append(Ones(len(vector), run_dir.parent / "pushes"))
        return counted[0]

    training.build_optimizer = build_optimizer  # type: ignore[assignment]
    options = {"workers": WORKERS, "mode": "locked", "eval_episodes": 0, "target_return": 1e9, "max_restarts": 10_000}
    summary = train(run_dir=run_dir, cluster=address, dashboard="off", max_env_steps=10**9, **options)
    ones = counted[0].moments["ones"].array
    print("\n" + json.dumps({"updates": summary.updates, "least": float(ones.min()), "most": float(ones.max())}))


def cluster_worker_kills(count: int, folder: Path, seed: int = 1) -> Outcome:
    """Kill workers of other nodes: their hosts replace them."""

    def kill(nodes: Nodes, program: Program, rng: random.Random) -> None:
        rng.choice(workers_there()).kill()

    return kills(count, folder, seed, kill, "crashed", "worker")


def cluster_node_kills(count: int, folder: Path, seed: int = 1) -> Outcome:
    """Kill nodes, or the host alone on one, and have them back."""

    def kill(nodes: Nodes, program: Program, rng: random.Random) -> None:
        if rng.random() < 0.5:
            rng.choice(hosts()).kill()
            return
        nodes.kill()
        nodes.add()

    return kills(count, folder, seed, kill, "node-lost", "node")


def cluster_gate_kills(count: int, folder: Path, seed: int = 1) -> Outcome:
    """Kill the process that knows Ray: another one joins again."""

    def kill(nodes: Nodes, program: Program, rng: random.Random) -> None:
        gate_of(program.workers()).kill()

    return kills(count, folder, seed, kill, "crashed", "gate")


def kills(count: int, folder: Path, seed: int, kill: Kill, kind: str, what: str) -> Outcome:
    """Kill `count` times in one run; each has to be told of, and everybody to be back, before the next."""
    rng, run_dir, tried = random.Random(seed), folder / "run", list[tuple[bool, str]]()
    longest, back = 0.0, 0.0
    with simulated() as nodes, Program(run_dir, nodes.address, command=COMMAND) as program:
        program.until(lambda: len(workers_there()) == WORKERS - LOCAL)
        loss = ""
        while len(tried) < count and not loss:
            time.sleep(rng.random())
            told, there = len(events(run_dir, kind)), {worker.pid for worker in workers_there()}
            began = time.monotonic()
            kill(nodes, program, rng)
            try:
                program.until(lambda told=told: len(events(run_dir, kind)) > told, NOTICED_SECONDS)  # type: ignore[misc]
                longest = max(longest, time.monotonic() - began)
                program.until(lambda there=there: all_back(there, what), BACK_SECONDS)  # type: ignore[misc]
                back = max(back, time.monotonic() - began)
            except AssertionError as error:
                loss = str(error)[:300]
            tried.append((True, loss))
        program.process.send_signal(signal.SIGINT)
        program.wait()
        loss = counted_wrong(program, folder, count if what == "gate" else 0)
        tried[-1] = True, tried[-1][1] or loss
    facts = {f"{what} killed": len(tried), "s until told": round(longest, 2), "s until all are back": round(back, 2)}
    return Outcome.of(tried, "", facts)


def all_back(before: set[int], what: str) -> bool:
    """Whether all workers are there again; where their gate has died, other ones."""
    now = {worker.pid for worker in workers_there()}
    gone = before - now
    return len(now) == WORKERS - LOCAL and len(gone) >= (len(before) if what == "gate" else 1)


def counted_wrong(program: Program, folder: Path, cut: int) -> str:
    """What is wrong with the steps that were counted, '' for nothing; `cut` steps may have been cut off by a kill."""
    counted = json.loads(program.text.splitlines()[-1])
    content = (folder / "pushes").read_bytes()
    pushes = [content[at : at + DIGEST] for at in range(0, len(content), DIGEST)]
    twice, least, most, updates = len(pushes) - len(set(pushes)), counted["least"], counted["most"], counted["updates"]
    if twice:
        return f"{twice} of {len(pushes)} gradients were applied twice"
    if not updates <= len(pushes) <= updates + cut or not updates <= least <= most <= updates + cut:
        return f"{updates} updates, {len(pushes)} gradients applied, {least:.0f} to {most:.0f} counted"
    return ""
