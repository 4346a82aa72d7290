"""Every fault that can be injected again and again, by name: where it is, how often, and what counts as survived."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault; its function lives in a module of `tests.chaos`, which is loaded when it is injected."""

    module: str
    function: str
    title: str
    survived_when: str
    minutes: int  # that it takes, about, on two cores with nothing else to do
    count: int | None = None  # of injections, or seconds where there is nothing to count; None: all that there are
    batch: int | None = None  # injections after each of which the results are kept; None: all of them

    def batches(self, scale: float) -> list[int | None]:
        """The injections of each batch, `scale` times as many in all as are meant, once at least."""
        if self.count is None:
            return [None]
        count = max(1, round(self.count * scale))
        size = self.batch or count
        return [min(size, count - begin) for begin in range(0, count, size)]

    def inject(self, folder: Path, count: int | None, seed: int = 1, first: int = 0) -> Outcome:
        """Inject it `count` times, from the `first` on where it draws each by itself; `folder` is its own and empty."""
        function: Callable[..., Outcome] = getattr(importlib.import_module(f"tests.chaos.{self.module}"), self.function)
        wanted = inspect.signature(function).parameters
        given = {"folder": folder, "seed": seed, "first": first}
        arguments: dict[str, object] = {name: value for name, value in given.items() if name in wanted}
        if count is not None:
            arguments[next(iter(wanted))] = count
        return function(**arguments)


FAULTS: dict[str, Fault] = {
    "bad-configurations": Fault(
        "configurations",
        "bad_configurations",
        "bad configuration",
        "refused in one line that names it; nothing started or written, exit 2",
        1,
        500,
    ),
    "worker-kills": Fault(
        "supervision",
        "worker_kills",
        "worker killed (SIGKILL) during one run",
        "replaced; the run still solves CartPole-v1",
        1,
        100,
    ),
    "worker-stops": Fault(
        "supervision",
        "worker_stops",
        "worker stopped (SIGSTOP)",
        "noticed and replaced within 10 s; a late SIGCONT changes nothing",
        7,
        50,
    ),
    "false-alarms": Fault(
        "supervision",
        "false_alarms",
        "busy machine, load four times its cores (seconds)",
        "nobody taken to hang",
        10,
        600,
    ),
    "cluster-workers": Fault(
        "cluster",
        "cluster_worker_kills",
        "worker of another node killed (SIGKILL)",
        "told within 10 s, replaced; every update counted once, no gradient applied twice",
        5,
        50,
        batch=25,
    ),
    "cluster-nodes": Fault(
        "cluster",
        "cluster_node_kills",
        "node killed, or its host alone",
        "told within 10 s; its workers are back with the node; no gradient applied twice",
        12,
        50,
        batch=10,
    ),
    "cluster-gates": Fault(
        "cluster",
        "cluster_gate_kills",
        "process that knows Ray killed (SIGKILL)",
        "told within 10 s, replaced; the nodes' workers are back; no gradient applied twice",
        5,
        20,
        batch=10,
    ),
    "nan-rewards": Fault(
        "supervision",
        "nan_rewards",
        "reward that is not finite",
        "shared state finite throughout; counted; solved",
        1,
        1_000,
    ),
    "ctrl-c": Fault(
        "signals",
        "ctrl_c",
        "Ctrl-C at a random moment, every other time twice",
        "exit 130, no traceback, no process left, terminal as it was",
        9,
        200,
        batch=50,
    ),
    "parent-kills": Fault(
        "signals",
        "parent_kills",
        "parent killed (SIGKILL)",
        "no process left, no shared memory left, terminal as it was",
        7,
        100,
    ),
    "group-kills": Fault(
        "resuming",
        "group_kills",
        "all processes killed at once, mostly while saving",
        "the last checkpoint announced is there, whole, and resumed",
        25,
        1_000,
        batch=50,
    ),
    "tree-kills": Fault(
        "trees",
        "tree_kills",
        "any process but the parent killed (SIGKILL), the machine idle and busy",
        "the run goes on, or ends with its summary; Ctrl-C ends it within 5 s, nothing is left, and it is resumed",
        5,
        200,
        batch=50,
    ),
    "chains": Fault(
        "chains",
        "chains",
        "sync and one worker: 2 to 4 of SIGINT, SIGTERM, SIGKILL, each resumed",
        "equal to the undisturbed run, bit for bit, with the same evaluations",
        20,
        200,
        batch=50,
    ),
    "sync-kill-points": Fault(
        "resuming",
        "sync_kill_points",
        "sync and one worker: killed, then resumed",
        "equal to the undisturbed run, bit for bit",
        8,
        50,
    ),
    "evaluation-faults": Fault(
        "evaluations",
        "evaluation_faults",
        "evaluation that raises, hangs, dies, is slow or not a number: in make, reset, step, close",
        "the run finishes; checkpoints are saved at their interval meanwhile",
        15,
        100,
        batch=50,
    ),
    "disk-full-at-the-end": Fault(
        "disks",
        "disk_full_at_the_end",
        "disk that is full when the last checkpoint is saved",
        "told; exit 74 at once, nobody restarted; the checkpoint before is whole and resumed",
        4,
        60,
    ),
    "kills-while-saving": Fault(
        "checkpoints",
        "kills_while_saving",
        "process killed while it saves",
        "the last checkpoint announced is there, whole",
        2,
        1_000,
    ),
    "disk-faults": Fault(
        "checkpoints",
        "disk_faults",
        "disk error (ENOSPC, EIO, short write) at each call of a save",
        "told; the checkpoint before is whole; the next save leaves no rest",
        1,
    ),
    "truncations": Fault(
        "checkpoints",
        "truncations",
        "checkpoint file cut at each length",
        "found; the checkpoint before is used, and it is told",
        1,
    ),
    "bit-flips": Fault(
        "checkpoints",
        "bit_flips",
        "random bit of a checkpoint flipped",
        "found; the checkpoint before is used, and it is told",
        1,
        10_000,
    ),
    "malformed": Fault(
        "malformed",
        "malformed",
        "malformed or hostile checkpoint",
        "refused in one line, within bounds of time and memory",
        1,
        10_000,
    ),
    "served-requests": Fault(
        "serving",
        "served_requests",
        "request to `serve`, from its description or as raw bytes",
        "answered with no error of the server's; its memory grows by less than 5 %",
        4,
        100_000,
    ),
}
