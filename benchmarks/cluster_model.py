"""What a run on several machines will do: its events one by one, from a few measured costs.

`python -m benchmarks.cluster_model` simulates up to 1,000 workers on 64 nodes with the costs that
`python -m benchmarks.cluster exchange` has measured; `python -m benchmarks.cluster rates` holds it against runs.

A worker computes a rollout (processor time, and the latency of its environments, which takes none), leaves its gradient
in its node's outbox and waits. A host answers as soon as there is a gradient, with all that there are. The gate takes
the report over the network, steps once per gradient, and sends parameters and outcomes back; the next exchange begins
with that. The gate is one process, of which one thread computes at a time.
"""

import heapq
import itertools
import json
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

COSTS = Path(__file__).resolve().parent / "results" / "cluster-exchange.jsonl"
SLICE = 1e-3  # seconds that a process computes before another one has its turn
JITTER = 0.1  # of a rollout's time, its standard deviation
GATE, HOST, WORKER = range(3)  # who computes first, of those who wait for a core
SECONDS, WARM = 12.0, 3.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor seconds of an exchange with one gradient and the parameters; of each gradient more; of each byte more.

    The last is of gradients, and of parameters, that are larger than `nbytes`.
    """

    thread: tuple[float, float, float]  # of the gate's thread, one at a time
    beside: tuple[float, float, float]  # of what Ray has run in the gate's process meanwhile
    host: tuple[float, float, float]
    nbytes: int

    def of(self, side: tuple[float, float, float], gradients: int, nbytes: int) -> float:
        """Of an exchange."""
        first, each, byte = side
        return max(0.0, first + (gradients - 1) * each + (gradients + 1) * (nbytes - self.nbytes) * byte)


@dataclass(frozen=True, slots=True)
class Shape:
    """A run, its machines, and the network between them."""

    nodes: int  # beside the run's own machine
    workers: int  # of all
    local: int  # of them, on the run's own machine
    steps: int  # env steps of a rollout
    compute: float  # processor seconds of a rollout
    latency: float = 0.0  # seconds of a rollout in which its environments take none
    nbytes: int = 70_000  # of a gradient
    cores: int = 2  # of each machine
    together: bool = False  # whether all nodes are one machine, simulated
    round_trip: float = 0.0  # seconds, of the network
    bandwidth: float = 1e9 / 8  # bytes per second, of the run's machine, each way


class Clock:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now, self._events, self._numbers = 0.0, list[tuple[float, int, Callable[[], None]]](), itertools.count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()


class Cores:
    """A machine's cores: a slice to each who waits, the more important first."""

    def __init__(self, clock: Clock, count: int):
        self._clock, self._free, self._numbers = clock, count, itertools.count()
        self._waiting: list[tuple[int, int, float, Callable[[], None]]] = []

    def compute(self, seconds: float, who: int, then: Callable[[], None]) -> None:
        heapq.heappush(self._waiting, (who, next(self._numbers), seconds, then))
        self._next()

    def _next(self) -> None:
        while self._free and self._waiting:
            who, _, seconds, then = heapq.heappop(self._waiting)
            self._free -= 1
            self._clock.after(min(seconds, SLICE), lambda who=who, left=seconds, then=then: self._ran(who, left, then))  # type: ignore[misc]

    def _ran(self, who: int, left: float, then: Callable[[], None]) -> None:
        self._free += 1
        if left > SLICE:
            self.compute(left - SLICE, who, then)
        else:
            then()
            self._next()


class Pipe:
    """What one after the other uses: the gate's interpreter, or a network link."""

    def __init__(self) -> None:
        self._queue: deque[Callable[[Callable[[], None]], None]] = deque()
        self._busy = False

    def use(self, work: Callable[[Callable[[], None]], None]) -> None:
        """`work` is called when it is its turn, and calls what it is given when it is done."""
        self._queue.append(work)
        if not self._busy:
            self._turn()

    def _turn(self) -> None:
        self._busy = bool(self._queue)
        if self._busy:
            self._queue.popleft()(self._turn)


class Run:
    """A run as the events of its workers, hosts and gate."""

    def __init__(self, shape: Shape, costs: Costs, seed: int = 0):
        self.shape, self.costs, self.clock, self._rng = shape, costs, Clock(), random.Random(seed)
        own = Cores(self.clock, shape.cores)
        self.head, self._gate, self._link = own, Pipe(), Pipe()
        self.machines = [own if shape.together else Cores(self.clock, shape.cores) for _ in range(shape.nodes)]
        self.rollouts = 0
        self._outboxes: list[list[Callable[[], None]]] = [[] for _ in range(shape.nodes)]
        self._ready = [False] * shape.nodes  # whether the node's host waits for a gradient
        self.staleness, self._updates = list[int](), 0

    def rate(self) -> float:
        """Env steps per second."""
        shape = self.shape
        remote = shape.workers - shape.local
        for _ in range(shape.local):
            self._collect(self.head, None)
        for node in range(shape.nodes):
            for _ in range(remote // shape.nodes + (node < remote % shape.nodes)):
                self._collect(self.machines[node], node)
            self._answer(node)
        self.clock.run(WARM)
        self.rollouts, self.staleness = 0, []
        self.clock.run(WARM + SECONDS)
        return self.rollouts * shape.steps / SECONDS

    def _collect(self, machine: Cores, node: int | None) -> None:
        """A worker's next rollout, from the parameters that are there now."""
        seconds = self.shape.compute * max(0.2, self._rng.gauss(1, JITTER))
        version = self._updates

        def computed() -> None:
            if node is None:
                self._step(version)
                self._collect(machine, None)
            else:
                self._outboxes[node].append(lambda: self._step(version))
                if self._ready[node]:
                    self._report(node)

        self.clock.after(self.shape.latency, lambda: machine.compute(seconds, WORKER, computed))

    def _step(self, version: int) -> None:
        self.staleness.append(self._updates - version)
        self._updates += 1
        self.rollouts += 1

    def _answer(self, node: int) -> None:
        """The node's host has its orders: it answers when there is a gradient."""
        self._ready[node] = True
        if self._outboxes[node]:
            self._report(node)

    def _report(self, node: int) -> None:
        self._ready[node] = False
        pushes, self._outboxes[node] = self._outboxes[node], []
        costs, shape, count = self.costs, self.shape, len(pushes)
        thread, beside, host = (
            costs.of(side, count, shape.nbytes) for side in (costs.thread, costs.beside, costs.host)
        )

        def send(nbytes: int, then: Callable[[], None]) -> None:
            def transfer(done: Callable[[], None]) -> None:
                def transferred() -> None:
                    done()
                    self.clock.after(shape.round_trip / 2, then)

                self.clock.after(nbytes / shape.bandwidth, transferred)

            if shape.together:
                then()
            else:
                self._link.use(transfer)

        def apply(done: Callable[[], None]) -> None:
            def applied() -> None:
                for push in pushes:
                    push()
                done()
                send(shape.nbytes, lambda: self.machines[node].compute(host / 2, HOST, mirrored))

            self.head.compute(thread, GATE, applied)
            self.head.compute(beside, GATE, lambda: None)

        def mirrored() -> None:
            for _ in pushes:
                self._collect(self.machines[node], node)
            self._answer(node)

        reported = lambda: send(count * shape.nbytes, lambda: self._gate.use(apply))  # noqa: E731
        self.machines[node].compute(host / 2, HOST, reported)


def measured_costs() -> Costs:
    """From the last measurement of `benchmarks.cluster exchange`."""
    costs: dict[str, Any] = json.loads(COSTS.read_text().splitlines()[-1])["costs"]
    return Costs(nbytes=costs.pop("nbytes"), **{side: tuple(numbers) for side, numbers in costs.items()})


SIZES = ((1, 16), (4, 64), (16, 250), (64, 1000))  # nodes, workers


def plan(costs: Costs, sizes: Sequence[tuple[int, int]] = SIZES) -> list[tuple[str, float, float]]:
    """Up to 64 nodes of 16 cores: name, env steps per second as a share of the workers' own, median staleness."""
    kinds = {
        "CartPole, 48 steps of 50 us": (48, 48 * 50e-6, 0.0, 70_000),
        "simulator, 20 steps of 10 ms": (20, 20e-3 * 0.1, 20 * 10e-3, 70_000),
        "simulator, 20 steps of 100 ms": (20, 20e-3 * 0.1, 20 * 100e-3, 70_000),
        "Atari, 32 steps x 16 games, 2.7 MB": (512, 512 * 0.65e-3, 0.0, 2_700_000),
    }
    found = []
    for name, (steps, compute, latency, nbytes) in kinds.items():
        for nodes, workers in sizes:
            shape = Shape(nodes, workers, 0, steps, compute, latency, nbytes, 16, False, 0.2e-3, 10e9 / 8)
            run = Run(shape, costs)
            rate = run.rate()
            alone = workers * steps / (compute + latency)
            staleness = sorted(run.staleness)[len(run.staleness) // 2] if run.staleness else 0
            found.append((f"{name}; {workers} workers, {nodes} nodes", rate / alone, float(staleness)))
    return found


def main() -> int:
    """Print the plan."""
    costs = measured_costs()
    print(f"{'':60}{'share':>8}{'staleness':>11}")
    for name, share, staleness in plan(costs):
        print(f"{name:60}{share:8.2f}{staleness:11.0f}")
    cheaper = replace(costs, thread=(costs.thread[0] / 4, costs.thread[1] / 4, costs.thread[2] / 4))
    print("\nthe same with a gate of four processes, the last of each kind:")
    for name, share, staleness in plan(cheaper, SIZES[-1:]):
        print(f"{name:60}{share:8.2f}{staleness:11.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
