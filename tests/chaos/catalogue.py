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
    count: int | None = None  # of injections, or seconds where there is nothing to count; None: all that there are

    def inject(self, folder: Path, scale: float) -> Outcome:
        """Inject it, `scale` times as often as is meant, once at least; `folder` is its own and empty."""
        function: Callable[..., Outcome] = getattr(importlib.import_module(f"tests.chaos.{self.module}"), self.function)
        wanted = inspect.signature(function).parameters
        given = {"folder": folder, "seed": 1}
        arguments = {name: value for name, value in given.items() if name in wanted}
        if self.count is None:
            return function(**arguments)
        arguments[next(iter(wanted))] = max(1, round(self.count * scale))
        return function(**arguments)


FAULTS: dict[str, Fault] = {
    "bad-configurations": Fault(
        "configurations",
        "bad_configurations",
        "bad configuration",
        "refused in one line that names it; nothing started or written, exit 2",
        500,
    ),
    "worker-kills": Fault(
        "supervision",
        "worker_kills",
        "worker killed (SIGKILL) during one run",
        "replaced; the run still solves CartPole-v1",
        100,
    ),
    "worker-stops": Fault(
        "supervision",
        "worker_stops",
        "worker stopped (SIGSTOP)",
        "noticed and replaced within 10 s; a late SIGCONT changes nothing",
        50,
    ),
    "false-alarms": Fault(
        "supervision", "false_alarms", "busy machine, load four times its cores (seconds)", "nobody taken to hang", 600
    ),
    "nan-rewards": Fault(
        "supervision",
        "nan_rewards",
        "reward that is not finite",
        "shared state finite throughout; counted; solved",
        1_000,
    ),
    "ctrl-c": Fault(
        "signals",
        "ctrl_c",
        "Ctrl-C at a random moment, every other time twice",
        "exit 130, no traceback, no process left, terminal as it was",
        200,
    ),
    "parent-kills": Fault(
        "signals",
        "parent_kills",
        "parent killed (SIGKILL)",
        "no process left, no shared memory left, terminal as it was",
        100,
    ),
    "group-kills": Fault(
        "resuming",
        "group_kills",
        "all processes killed at once, mostly while saving",
        "the last checkpoint announced is there, whole, and resumed",
        1_000,
    ),
    "sync-kill-points": Fault(
        "resuming",
        "sync_kill_points",
        "sync and one worker: killed, then resumed",
        "equal to the undisturbed run, bit for bit",
        50,
    ),
    "kills-while-saving": Fault(
        "checkpoints",
        "kills_while_saving",
        "process killed while it saves",
        "the last checkpoint announced is there, whole",
        1_000,
    ),
    "disk-faults": Fault(
        "checkpoints",
        "disk_faults",
        "disk error (ENOSPC, EIO, short write) at each call of a save",
        "told; the checkpoint before is whole; the next save leaves no rest",
    ),
    "truncations": Fault(
        "checkpoints",
        "truncations",
        "checkpoint file cut at each length",
        "found; the checkpoint before is used, and it is told",
    ),
    "bit-flips": Fault(
        "checkpoints",
        "bit_flips",
        "random bit of a checkpoint flipped",
        "found; the checkpoint before is used, and it is told",
        10_000,
    ),
    "malformed": Fault(
        "malformed",
        "malformed",
        "malformed or hostile checkpoint",
        "refused in one line, within bounds of time and memory",
        10_000,
    ),
    "served-requests": Fault(
        "serving",
        "served_requests",
        "request to `serve`, from its description or as raw bytes",
        "answered with no error of the server's; its memory grows by less than 5 %",
        100_000,
    ),
}
