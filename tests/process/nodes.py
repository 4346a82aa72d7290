"""Nodes of a Ray cluster, simulated on this machine, and what runs on them."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest


class Nodes:
    """A head, which is the run's own machine, and other nodes."""

    def __init__(self, others: int = 2, cpus: int = 2) -> None:
        from ray.cluster_utils import Cluster  # reads how to authenticate when it is imported

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        self._others, self._cpus = list[Any](), cpus
        for _ in range(others):
            self.add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def kill(self) -> None:
        """As a power cut ends a node."""
        self._cluster.remove_node(self._others.pop(), allow_graceful=False)

    def kill_head(self) -> None:
        """Ray's own."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def add(self) -> None:
        self._others.append(self._cluster.add_node(num_cpus=self._cpus))

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def simulated(others: int = 2, cpus: int = 2) -> Iterator[Nodes]:
    """Nodes with a token of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_worker_niceness", "0")  # the nodes share this machine's cores with the run
        nodes = Nodes(others, cpus)
        try:
            yield nodes
        finally:
            nodes.close()


def hosts() -> list[psutil.Process]:
    """The hosts of runs, whoever has started them."""
    return [process for process in psutil.process_iter(["name"]) if process.info["name"].startswith("ray::Host")]


def workers_there() -> list[psutil.Process]:
    """The workers of all hosts: what their forkservers have started."""
    found: list[psutil.Process] = []
    for host in hosts():
        with suppress(psutil.NoSuchProcess):
            found += [worker for child in host.children() for worker in child.children()]
    return found


def gate_of(children: list[psutil.Process]) -> psutil.Process:
    """Among the children of a run's forkserver, the process that knows Ray."""
    [gate] = [child for child in children if any("_raylet" in file.path for file in child.memory_maps())]
    return gate


def events(run_dir: Path, kind: str) -> list[str]:
    path = run_dir / "events.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line["message"] for line in lines if line["kind"] == kind]
