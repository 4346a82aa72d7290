"""Everything that is asked of Ray: to join or to start a cluster, its nodes, and a host on one of them."""

import importlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from a3c.config import ConfigError
from workers.cluster.actor import HostActor
from workers.cluster.facts import facts

CONNECT_SECONDS = 3.0  # for somebody to answer at an address
CHECK_SECONDS = 60.0  # for all nodes to say what they have
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
CODE = ("a3c", "shared", "workers")


class ClusterNode(NamedTuple):
    """A node that is alive."""

    id: str
    name: str  # its address
    cpus: int


def join(address: str, workers: int, modules: tuple[str, ...]) -> None:
    """Join the cluster at an address, "auto", or a private one that is started here, "local"; ConfigError."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": runtime_env(modules)}
    if address == "local":
        # A private one: nobody else is to reach it, and its workers are no less important than ours.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **settings)
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or latest_address() or ""
        if not address:
            raise ConfigError("cluster: auto finds no Ray on this machine; `ray start --head` starts one, or use local")
    if "://" in address:
        raise ConfigError("cluster: ray:// is too slow for training; use `ray job submit`, or HOST:PORT")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"cluster: must be auto, local or HOST:PORT, got '{address}'")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(f"cluster: nobody answers at {address}: {error.strerror or error}") from error
    try:
        with TemporaryDirectory() as empty:
            if IN_A_JOB not in os.environ:  # a job has one; without one a node takes the code at our own path, if any
                settings["runtime_env"]["working_dir"] = empty
            ray.init(address=address, **settings)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cluster: {address} cannot be joined: {' '.join(str(error).split())[:300]}") from error


def latest_address() -> str | None:
    """Where the Ray that was started last on this machine is, alive or not."""
    from ray._private.utils import read_ray_address

    return read_ray_address()


def runtime_env(modules: tuple[str, ...]) -> dict[str, Any]:
    """What Ray copies to each node: this program, and the modules of the user's environment."""
    paths = [Path(str(importlib.import_module(name).__file__)).parent for name in CODE]
    for name in modules:
        file = Path(str(importlib.import_module(name.partition(".")[0]).__file__))
        paths.append(file.parent if file.name == "__init__.py" else file)
    return {"py_modules": [str(path) for path in paths], "excludes": ["__pycache__"]}


def nodes() -> list[ClusterNode]:
    """The nodes that are alive and have CPUs; without the run's own machine, where there are others."""
    own, alive = ray.get_runtime_context().get_node_id(), list[ClusterNode]()
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["Alive"] and (cpus := int(node["Resources"].get("CPU", 0))):
            alike = sum(other.name.partition("#")[0] == node["NodeName"] for other in alive)
            alive.append(ClusterNode(node["NodeID"], node["NodeName"] + f"#{alike + 1}" * bool(alike), cpus))
    return [node for node in alive if node.id != own] or alive


def place(node: ClusterNode, workers: int) -> Any:
    """A host on a node, with room for so many workers; it is not there yet."""
    options: dict[str, Any] = {"num_cpus": workers, "max_restarts": 0, "max_task_retries": 0}
    options["enable_task_events"] = False  # what a dashboard is told of each exchange takes a sixth of its time
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(HostActor).options(**options, scheduling_strategy=there).remote()


def check(hosts: Sequence[tuple[ClusterNode, Any]], modules: tuple[str, ...]) -> None:
    """Refuse nodes that compute with other versions, or cannot import the environment: ConfigError."""
    asked, ours = [host.facts.remote(modules) for _, host in hosts], facts(modules)
    try:
        found = ray.get(asked, timeout=CHECK_SECONDS)
    except GetTimeoutError as error:
        late = ray.wait(asked, num_returns=len(asked), timeout=0)[1]
        names = ", ".join(node.name for (node, _), one in zip(hosts, asked, strict=True) if one in late)
        raise ConfigError(f"cluster: no answer of {names} within {CHECK_SECONDS:g} s: are its CPUs in use?") from error
    except RayError as error:
        raise ConfigError(f"cluster: a node does not run our code: {' '.join(str(error).split())[:300]}") from error
    for (node, _), theirs in zip(hosts, found, strict=True):
        different = [f"{name} {theirs[name]} instead of {ours[name]}" for name in ours if theirs[name] != ours[name]]
        if different:
            raise ConfigError(f"cluster: node {node.name} has {', '.join(different)}")


def leave() -> None:
    """Leave the cluster; a private one ends."""
    ray.shutdown()
