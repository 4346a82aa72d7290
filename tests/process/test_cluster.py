"""A run on the nodes of a Ray cluster, simulated on this machine: as a user types it, and as it fails."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.command import FOREVER, Program, run_here
from tests.process.nodes import Nodes, events, gate_of, hosts, simulated, workers_there
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
        program.until(
            lambda: all(re.search(rf" {index} .? ?running .* {node}\b", program.text) for index, node in SHOWN)
        )
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


def test_sync_is_bit_for_bit_what_it_is_on_one_machine_also_through_a_resume(nodes: Nodes, tmp_path: Path) -> None:
    here, run_dir = train(run_dir=tmp_path / "here", anneal=False, **IN_SYNC), tmp_path / "there"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in IN_SYNC.items()]
    with Program(*words, "--no-anneal", "--cluster", nodes.address, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.text
    resumed = resume(run_dir, dashboard="off", cluster=nodes.address)
    assert resumed is not None
    assert resumed.state_sha256 == here.state_sha256


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


@pytest.mark.long
def test_a_run_survives_the_end_of_workers_hosts_nodes_and_the_gate(nodes: Nodes, tmp_path: Path) -> None:
    typed = ("--workers", 6, "--cluster", nodes.address, "--run-dir", tmp_path / "run", "--dashboard", "off", *FOREVER)
    run_dir = tmp_path / "run"
    with Program(*typed) as program:

        def training_there() -> bool:
            return len(workers_there()) == 4

        program.until(training_there)
        workers_there()[0].kill()
        program.until(lambda: bool(events(run_dir, "crashed")) and bool(events(run_dir, "restarted")))
        hosts()[0].kill()
        program.until(lambda: len(events(run_dir, "node-lost")) == 1, 10)
        program.until(training_there)
        nodes.kill()
        program.until(lambda: len(events(run_dir, "node-lost")) == 2, 10)
        nodes.add()
        program.until(training_there)
        gate_of(program.workers()).kill()
        program.until(lambda: any("gate" in line for line in events(run_dir, "restarted")))
        program.until(training_there)
        program.note_family()
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.text
        program.assert_nobody_left()
