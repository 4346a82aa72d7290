"""Nodes of a Ray cluster, simulated on this machine, and what runs on them."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

RAY = (sys.executable, "-m", "ray.scripts.scripts")  # the command `ray`
TOKEN = secrets.token_hex(32)  # one per process, in which Ray reads it once


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
    with own_token(), closing(Nodes(others, cpus)) as nodes:
        yield nodes


@contextmanager
def own_token() -> Iterator[None]:
    """What Ray is started and joined with; for a process that has not imported it yet, or has had this before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("RAY_worker_niceness", "0")  # the nodes share this machine's cores with the run
        yield


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


def forkserver_of(host: psutil.Process) -> psutil.Process:
    """The child of a host that has its workers as children."""
    [forkserver] = [child for child in host.children() if child.children()]
    return forkserver


def gate_of(children: list[psutil.Process]) -> psutil.Process:
    """Among the children of a run's forkserver, the process that knows Ray."""
    [gate] = [child for child in children if any("_raylet" in file.path for file in child.memory_maps())]
    return gate


def events(run_dir: Path, kind: str) -> list[str]:
    path = run_dir / "events.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line["message"] for line in lines if line["kind"] == kind]


class Wired:
    """A head, and a node in a network namespace of its own, with a cable between them that can be cut; needs root."""

    HEAD, NODE = "10.77.0.1", "10.77.0.2"

    def __init__(self) -> None:
        self._processes = list[subprocess.Popen[bytes]]()
        port = free_port()
        self.address, name = f"{self.HEAD}:{port}", f"a3c-{os.getpid()}"
        self._inside = ("ip", "netns", "exec", name)
        self._steps = [
            f"ip netns add {name}",
            f"ip link add a3c-near type veth peer name a3c-far netns {name}",
            f"ip addr add {self.HEAD}/24 dev a3c-near",
            "ip link set a3c-near up",
            *(
                f"{' '.join(self._inside)} {step}"
                for step in (f"ip addr add {self.NODE}/32 dev lo", "ip link set lo up")
            ),
        ]
        self._undo = ["ip link del a3c-near", f"ip netns del {name}"]
        try:
            self._all(*self._steps)
            self.mend()
            head = ("--head", f"--port={port}", f"--node-ip-address={self.HEAD}", "--include-dashboard=false")
            self._processes.append(start_node(*head))
            other = (f"--address={self.address}", f"--node-ip-address={self.NODE}")
            self._processes.append(start_node(*other, prefix=self._inside))
        except BaseException:
            self.close()
            raise

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._all(f"{' '.join(self._inside)} ip link set a3c-far down")

    def mend(self) -> None:
        inside = " ".join(self._inside)
        route = f"ip route add {self.HEAD}/32 dev a3c-far src {self.NODE}"
        self._all(f"{inside} ip link set a3c-far up", f"{inside} {route}")

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(30)
        for step in self._undo:
            subprocess.run(step.split(), check=False, stderr=subprocess.DEVNULL)

    def _all(self, *steps: str) -> None:
        for step in steps:
            subprocess.run(step.split(), check=True, capture_output=True, timeout=10)


def start_node(*words: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """`ray start`; there once it says so, and until it is ended."""
    command = [*prefix, *RAY, "start", "--block", "--disable-usage-stats", "--num-cpus=2", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    seen = b""
    while b"Ray runtime started" not in seen:
        line = process.stdout.readline()
        assert line, f"no node: {seen.decode()}"
        seen += line
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return process


def may_wire() -> bool:
    """Whether this user may make a network namespace here."""
    name = f"a3c-try-{os.getpid()}"
    if shutil.which("ip") is None or subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    return subprocess.run(["ip", "netns", "del", name], capture_output=True).returncode == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
