"""A worker's real loop under callgrind, its parts counted one by one; run by `benchmarks.instructions`.

Each counted call of a part leaves one dump of callgrind's, named after the part. Everything else, the imports above
all, runs at many times the speed, since nothing is counted there.
"""

import argparse
import ctypes
import gc
import json
from collections.abc import Callable
from functools import wraps
from inspect import isgenerator
from pathlib import Path
from typing import Any

import torch

from a3c.config import Config
from a3c.rollouts import Collector
from benchmarks.instructions import NOTHING
from shared.scoreboard import STOP, Scoreboard
from shared.store import SharedStore
from workers import actor_learner
from workers.link import SharedMemoryLink
from workers.processes.preflight import describe_environment
from workers.training import build_store

PARTS: dict[str, tuple[Any, str]] = {
    "pull": (SharedStore, "pull"),
    "rollout": (Collector, "collect"),
    "gradient": (actor_learner, "clipped_gradient"),
    "push": (SharedStore, "push"),
    "publish": (SharedMemoryLink, "publish"),
}
WARM_UP = 20  # updates: by then Python has specialised its bytecode


class Callgrind:
    """Counts calls once it has been told to begin.

    Args:
        marks: the functions of callgrind_marks.c.
    """

    def __init__(self, marks: Any):
        self._marks, self._counting = marks, False

    def begin(self) -> None:
        self._counting = True
        self._marks.begin()

    def end(self) -> None:
        self._counting = False
        self._marks.end()

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, each of whose calls is counted."""
        marks, label = self._marks, name.encode()

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if not self._counting:
                return function(*arguments, **named)
            marks.zero()
            result = function(*arguments, **named)
            if isgenerator(result):
                result = iter(list(result))  # whose work is done as it is asked for
            marks.dump(label)
            return result

        return call


def main() -> None:
    """Let one worker of a setting make its updates and be counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--marks", type=Path, required=True, help="callgrind_marks.c, compiled")
    parser.add_argument("--options", type=json.loads, required=True, help="of the run, as JSON")
    parser.add_argument("--updates", type=int, required=True, help="to count")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gc.disable()  # a collection would fall into whichever part is under way
    marks = ctypes.PyDLL(str(arguments.marks))
    count(Config.from_options(arguments.options), Callgrind(marks), arguments.updates)


def count(config: Config, callgrind: Callgrind, updates: int) -> None:
    """Worker 0 alone, on the shared state of all the run's workers; its parts are counted once it is warm."""
    for name, (owner, attribute) in PARTS.items():
        setattr(owner, attribute, callgrind.counted(name, getattr(owner, attribute)))
    environment, scoreboard = describe_environment(config), Scoreboard(config.workers)
    owner, attribute = PARTS["publish"]  # the last of an update
    setattr(owner, attribute, followed(getattr(owner, attribute), callgrind, scoreboard, updates))
    store = build_store(config, environment, scoreboard)
    actor_learner.learn(0, config, environment, SharedMemoryLink(0, store, scoreboard))


def followed(
    publish: Callable[..., None], callgrind: Callgrind, scoreboard: Scoreboard, updates: int
) -> Callable[..., None]:
    """The same function; after a warm-up it begins the counting, and after `updates` more calls it ends the run."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        publish(*arguments, **named)
        calls += 1
        if calls == WARM_UP:
            callgrind.begin()
            for _ in range(updates):
                callgrind.counted(NOTHING, lambda: None)()
        if calls == WARM_UP + updates:
            callgrind.end()
            scoreboard.request(STOP)

    return call


if __name__ == "__main__":
    main()
