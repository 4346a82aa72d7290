"""What a run's machine and a node tell each other: orders there, a report back. Plain data."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.mirror_store import Mirrored, Push


class Beginning(NamedTuple):
    """Where a worker begins: what the one before it left, on whatever machine."""

    incarnation: int
    counted: dict[str, NDArray[Any]]  # by `Scoreboard.worker_state`
    versions: tuple[int, ...]
    env_steps: int  # as of its last push
    statistics: NDArray[np.float64] | None  # its running statistics
    snapshot: bytes | None


class Job(NamedTuple):
    """A node's part of a run."""

    config: Config
    environment: EnvironmentSpec
    beginnings: dict[int, Beginning]  # by worker index
    clock: float  # time.monotonic() of the run's machine


class Orders(NamedTuple):
    """What a node's workers are to see, and do."""

    mirrored: Mirrored
    settled: dict[int, tuple[int, int]]  # by worker index: the number of its push, and what became of it
    request: int  # of the scoreboard
    snapshot: int  # the number of the checkpoint's request that is due


class Seen(NamedTuple):
    """A worker, as its host sees it."""

    state: str  # as of `WorkerStatus`
    pid: int | None
    memory_bytes: int | None
    incarnation: int


class Report(NamedTuple):
    """What a node's workers have done since the report before."""

    pushes: list[Push]
    counted: dict[int, tuple[dict[str, NDArray[Any]], tuple[int, ...]]]  # totals by worker index, now and then
    snapshots: dict[int, tuple[int, bytes]]  # by worker index: the number of the request that it answers
    seen: dict[int, Seen]
    events: list[tuple[str, str]]  # kind and line
    crashes: list[str]
    logs: dict[str, bytes]  # what was added to each, by its name
    clock: float  # time.monotonic() of the node
    over: bool  # whether there is no worker any more, nor to be one
    failure: tuple[int, str] | None = None  # the exit code that the run is to end with, and why
