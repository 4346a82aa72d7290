"""A run on the nodes of a Ray cluster, simulated on this machine: as a user types it, and as it fails."""

import csv
import importlib.metadata
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from a3c.config import ConfigError
from tests.process.command import FOREVER, ROOT, Program, run, run_here
from tests.process.nodes import (
    RAY,
    Nodes,
    Wired,
    events,
    forkserver_of,
    free_port,
    gate_of,
    hosts,
    may_wire,
    own_token,
    simulated,
    start_node,
    workers_there,
)
from workers import resume, train

ENDLESS_ENV = """
import gymnasium, numpy
class Slow(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return numpy.zeros(2, "float32"), {}
    def step(self, action):
        self.steps += 1
        return numpy.zeros(2, "float32"), float(action), self.steps == 10, False, {}
"""


SHOWN = ((3, "n1"), (5, "n2"))  # workers on the screen, and their nodes
NOTICED_SECONDS = 10


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with simulated() as nodes:
        yield nodes


@pytest.mark.long
def test_workers_of_three_nodes_train_one_run_with_an_environment_of_the_users(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "users_env.py").write_text(ENDLESS_ENV)
    options = ("--env", "users_env:Slow", "--workers", 6, "--max-env-steps", 400_000, "--eval-episodes", 0)
    run_dir, variables = tmp_path / "run", {"PYTHONPATH": str(tmp_path)}
    typed = ("--cluster", nodes.address, "--run-dir", run_dir, "--env-latency-ms", 1)
    with Program(*options, *typed, size=(160, 40), environment=variables) as program:
        program.until(lambda: all(trains_there(index, program.text, node) for index, node in SHOWN))
        program.note_family()
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.text
        program.assert_nobody_left()
    [line] = events(run_dir, "cluster")
    assert re.fullmatch(r"n1 is \S+, with workers 2, 3; n2 is \S+, with workers 4, 5", line)
    profile = json.loads((run_dir / "summary.json").read_text())["profile"]
    assert [phases["wall"] > 0 for phases in profile] == [True] * 6
    assert not hosts()


IN_SYNC: dict[str, Any] = {"workers": 3, "mode": "sync", "seed": 5, "eval_episodes": 10, "eval_interval": 3000}
IN_SYNC |= {"max_env_steps": 12_000, "target_return": 1e9, "dashboard": "off"}


def test_sync_is_bit_for_bit_what_it_is_on_one_machine_also_through_a_resume_there(
    nodes: Nodes, tmp_path: Path
) -> None:
    here, run_dir = train(run_dir=tmp_path / "here", anneal=False, **IN_SYNC), tmp_path / "there"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in IN_SYNC.items()]
    with Program(*words, "--no-anneal", "--cluster", nodes.address, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.text
    profile = json.loads((run_dir / "summary.json").read_text())["profile"]
    assert [phases["network"] > 0 for phases in profile] == [False, True, True]
    resumed = resume(run_dir, dashboard="off")  # on one machine now
    assert resumed is not None
    assert resumed.state_sha256 == here.state_sha256


@pytest.mark.long
def test_sync_goes_on_bit_for_bit_on_nodes_that_it_did_not_begin_on(nodes: Nodes, tmp_path: Path) -> None:
    options = {**IN_SYNC, "anneal": False, "workers": 4}
    whole = train(run_dir=tmp_path / "whole", **options)
    train(run_dir=tmp_path / "begun", **options | {"max_env_steps": 6_000})
    resumed = resume(tmp_path / "begun", max_env_steps=12_000, dashboard="off", cluster=nodes.address)
    assert resumed is not None
    assert resumed.state_sha256 == whole.state_sha256


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--cluster", "127.0.0.1:1"), "cluster: nobody answers at 127.0.0.1:1"),
        (("--cluster", "ray://somewhere:10001"), "cluster: ray:// is too slow for training; use `ray job submit`"),
        (("--cluster", "somewhere"), "cluster: must be auto, local or HOST:PORT, got 'somewhere'"),
        (("--cluster", "local", "--workers", "1"), "cluster: needs --workers of 2 or more"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused_in_one_line(
    words: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    code, output = run_here("--dashboard", "off", "--run-dir", tmp_path / "run", *words)
    assert code == 2
    assert line in output
    assert output.count("\n") == 1


def test_a_cluster_without_room_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    typed = ("--cluster", nodes.address, "--workers", 2, "--dashboard", "off", "--run-dir", tmp_path / "run")
    code, output = run_here(*typed)
    assert (code, output.count("\n")) == (2, 1)
    assert "cluster: 2 workers are too few for 2 nodes and this machine" in output


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("workers.extras.find_spec", lambda name: None)
    code, output = run_here("--cluster", "local", "--dashboard", "off", "--run-dir", tmp_path / "run")
    assert (code, output.count("\n")) == (2, 1)
    assert output.endswith('the packages of the extra "cluster": pip install -c constraints.txt -e ".[cluster]"\n')


@pytest.mark.long
def test_an_environment_that_cannot_be_imported_there_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("import os\nos.environ['ONLY_HERE']\n" + ENDLESS_ENV)
    typed = ("--cluster", nodes.address, "--workers", 4, "--dashboard", "off", "--run-dir", tmp_path / "run")
    variables = {"PYTHONPATH": str(tmp_path), "ONLY_HERE": "1"}
    code, output = run("--env", "only_here:Slow", *typed, environment=variables)
    assert (code, output.count("\n")) == (2, 1), output
    assert re.search(r"cluster: node \S+ has only_here missing \(KeyError: 'ONLY_HERE'\)", output)


@pytest.mark.long
def test_nodes_with_other_versions_are_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from workers.cluster import ray_cluster

    ray_cluster.join(nodes.address, 4, ())
    try:
        theirs, version = importlib.metadata.version("numpy"), importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3" if name == "numpy" else version(name))
        with pytest.raises(ConfigError, match=rf"cluster: node \S+ has numpy {theirs} instead of 1\.2\.3"):
            ray_cluster.check([(node, ray_cluster.place(node, 1)) for node in ray_cluster.nodes()], ())
    finally:
        ray.shutdown()


@pytest.mark.long
def test_a_node_whose_cpus_are_in_use_is_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.cluster import ray_cluster

    ray_cluster.join(nodes.address, 4, ())
    try:
        node = ray_cluster.nodes()[0]
        ray_cluster.check([(node, first := ray_cluster.place(node, node.cpus))], ())
        monkeypatch.setattr(ray_cluster, "CHECK_SECONDS", 3.0)
        with pytest.raises(ConfigError, match=rf"cluster: no answer of {node.name} within 3 s: are its CPUs in use\?"):
            ray_cluster.check([(node, first), (node, ray_cluster.place(node, node.cpus))], ())
    finally:
        ray_cluster.leave()


@pytest.mark.long
def test_a_run_survives_the_end_of_workers_hosts_nodes_and_the_gate(nodes: Nodes, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with on(nodes, run_dir) as program:
        workers_there()[0].kill()
        program.until(lambda: bool(events(run_dir, "crashed")) and bool(events(run_dir, "restarted")))
        program.until(all_train_there)
        hosts()[0].kill()
        program.until(lambda: len(events(run_dir, "node-lost")) == 1, NOTICED_SECONDS)
        program.until(all_train_there)
        nodes.kill()
        program.until(lambda: len(events(run_dir, "node-lost")) == 2, NOTICED_SECONDS)
        nodes.add()
        program.until(all_train_there)
        gate_of(program.workers()).kill()
        program.until(lambda: any("gate" in line for line in events(run_dir, "restarted")), NOTICED_SECONDS)
        program.until(all_train_there)


@pytest.mark.long
def test_what_does_not_answer_is_given_up_and_replaced(nodes: Nodes, tmp_path: Path) -> None:
    """A worker and a host that are stopped, of which nobody tells; then a node's forkserver is killed."""
    run_dir = tmp_path / "run"
    with on(nodes, run_dir) as program:
        workers_there()[0].suspend()
        program.until(lambda: len(events(run_dir, "hung")) == 1, NOTICED_SECONDS)
        program.until(all_train_there)
        before = set(workers_there())
        hosts()[0].suspend()
        program.until(lambda: len(events(run_dir, "node-lost")) == 1, NOTICED_SECONDS)
        program.until(lambda: half_are_others(before))
        before = set(workers_there())
        forkserver_of(hosts()[0]).kill()
        program.until(lambda: half_are_others(before))
    assert re.fullmatch(r"\S+, with workers \d, \d: does not answer", events(run_dir, "node-lost")[0])


@pytest.mark.long
def test_without_rays_own_head_the_local_workers_go_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with simulated() as nodes, on(nodes, run_dir, alone=90) as program:
        nodes.kill_head()
        program.until(lambda: len(events(run_dir, "node-lost")) + len(events(run_dir, "crashed")) > 0, NOTICED_SECONDS)
        steps = env_steps(run_dir)
        program.until(lambda: env_steps(run_dir) > steps + 100_000)


@pytest.mark.long
@pytest.mark.skipif(not may_wire(), reason="not root: a cut network IS NOT TESTED")
def test_a_node_whose_network_is_cut_is_given_up_and_comes_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with own_token(), closing(Wired()) as wired, on(wired, run_dir, workers=4, there=2) as program:
        before = set(workers_there())
        wired.cut()
        program.until(lambda: len(events(run_dir, "node-lost")) == 1, NOTICED_SECONDS)
        steps = env_steps(run_dir)
        program.until(lambda: env_steps(run_dir) > steps + 20_000)
        wired.mend()
        program.until(lambda: len(set(workers_there()) - before) == 2, 150)


@pytest.mark.long
@pytest.mark.skipif(find_spec("aiohttp_cors") is None, reason="ray[default] is not installed: jobs ARE NOT TESTED")
def test_a_run_in_a_job_of_rays(tmp_path: Path) -> None:
    """As docs/cluster.md says it."""
    port, dashboard = free_port(), free_port()
    with own_token():
        ports = (f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}")
        head = start_node("--head", *ports)
        try:
            where = ("--address", f"http://127.0.0.1:{dashboard}", "--working-dir", ROOT)
            typed = (sys.executable, "run_a3c.py", "--cluster", "auto", "--workers", 2, "--run-dir", tmp_path / "run")
            deadline = time.monotonic() + 60
            while True:
                code, output = run("job", "submit", *where, "--", *typed, command=RAY)
                if "No available agent" not in output or time.monotonic() > deadline:
                    break
                time.sleep(1)  # it is being started
        finally:
            head.terminate()
            head.wait(30)
    assert code == 0, output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "solved"
    [line] = events(tmp_path / "run", "cluster")
    assert line.endswith(", with worker 1")


@contextmanager
def on(nodes: Nodes | Wired, run_dir: Path, workers: int = 6, there: int = 4, alone: float = 0) -> Iterator[Program]:
    """A run whose workers are on several nodes, until Ctrl-C; then everybody ends, hosts within so many seconds."""
    typed = ("--workers", workers, "--cluster", nodes.address, "--run-dir", run_dir, *FOREVER)
    with Program(*typed, size=(160, 40)) as program:
        program.until(lambda: all(trains_there(index, program.text) for index in range(workers - there, workers)))
        yield program
        program.note_family()
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.text
        program.assert_nobody_left()
    deadline = time.monotonic() + alone
    while left := hosts():
        assert time.monotonic() < deadline, left


def trains_there(index: int, screen: str, node: str = r"n\d") -> bool:
    """Whether the console has shown a worker at work on a node."""
    return re.search(rf" {index} .? ?running .* {node}\b", screen) is not None


def all_train_there() -> bool:
    return len(workers_there()) == 4


def half_are_others(before: set[psutil.Process]) -> bool:
    now = set(workers_there())
    return len(now) == len(before) and len(before - now) == len(before) // 2


def env_steps(run_dir: Path) -> int:
    """As of the last row of a run's metrics."""
    *_, last = csv.DictReader((run_dir / "metrics.csv").open())
    return int(last["env_steps"])
