"""`export`: a file that has been checked against its checkpoint, or none."""

import copy
import json
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper

from a3c.actors import Policy
from a3c.checkpoint import load_checkpoint, save_checkpoint
from a3c.environments import describe
from a3c.networks import ActorCritic, initialize
from tests.process.command import ESCAPE, run, run_here
from tests.process.onnx_models import model_metadata
from tests.unit.networks import mlp
from tests.unit.scripted_environments import Endless, register
from workers.serving import graph, verify
from workers.serving.export import export_policy
from workers.serving.model import load_model

SolvedRun = tuple[Path, str, dict[str, Any]]
FEW = ("--episodes", 2)
MAKE = graph.policy_graph


@pytest.fixture(scope="module")
def exported(solved_run: SolvedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A solved run that was exported with everything, in a process of its own: its directory and the output."""
    run_dir = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(solved_run[0] / "checkpoints", run_dir / "checkpoints")
    code, output = run("export", run_dir, "--int8", "--with-critic", "--seed", 3)
    assert code == 0, output
    return run_dir, output


def metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file."""
    (entry,) = onnx.load(path).metadata_props
    assert entry.key == "a3c"
    found: dict[str, Any] = json.loads(entry.value)
    return found


def test_the_table_compares_the_checkpoint_with_both_exports(exported: tuple[Path, str]) -> None:
    run_dir, output = exported
    assert not ESCAPE.search(output)
    rows = {line[:10].strip(): line[10:].split() for line in output.splitlines()}
    returns = {name: float(rows[name][0]) for name in ("checkpoint", "ONNX fp32", "ONNX int8")}
    assert min(returns.values()) >= 475, output
    assert rows["ONNX fp32"][4:6] == ["100.00", "%"]
    assert float(rows["ONNX fp32"][6]) <= 1e-5 and float(rows["ONNX fp32"][7]) <= 1e-5
    assert float(rows["ONNX int8"][4]) > 90
    assert float(rows["ONNX int8"][-2]) < float(rows["ONNX fp32"][-2]) / 2  # kB
    assert output.splitlines()[-1].endswith(f"run_a3c.py serve {run_dir / 'policy-int8.onnx'}")


def test_the_metadata_tells_a_consumer_what_it_needs(exported: tuple[Path, str]) -> None:
    run_dir, _ = exported
    manifest, told = load_checkpoint(run_dir).manifest, metadata(run_dir / "policy.onnx")
    expected = {
        "format": 3,
        "env_id": "CartPole-v1",
        "observation_space": manifest["network"]["observation_space"],
        "action_space": {"space": "Discrete", "n": 2, "start": 0},
        "precision": "fp32",
        "critic": True,
        "checkpoint_sha256": manifest["weights"]["sha256"],
        "updates": manifest["updates"],
        "env_steps": manifest["env_steps"],
        "max_episode_steps": 500,
        "target_return": 475.0,
        "seed": 3,
        "state_size": 0,
    }
    assert {name: told[name] for name in expected} == expected
    low, high = np.array(told["lowest"]), np.array(told["highest"])
    assert low.shape == high.shape == (4,) and (low < 0).all() and (high > 0).all()
    assert high[2] < 0.5  # radians: the pole has fallen long before
    assert set(told) == {*expected, "lowest", "highest"}
    assert metadata(run_dir / "policy-int8.onnx") == {**told, "precision": "int8"}


def saved(run_dir: Path, env_id: str, model: ActorCritic, target: float | None = None) -> Path:
    """A run directory with one checkpoint and nothing else."""
    environment = describe(env_id, 20)
    (run_dir / "checkpoints").mkdir(parents=True)
    about = {"env_id": environment.env_id, "max_episode_steps": 20, "updates": 7, "target_return": target}
    save_checkpoint(run_dir / "checkpoints", "best", model, about)
    return run_dir


def untrained(
    observation_size: int, action_count: int, hidden_sizes: tuple[int, ...] = (16,), action_start: int = 0
) -> ActorCritic:
    model = mlp(observation_size, action_count, hidden_sizes, action_start=action_start)
    initialize(model, 0)
    with torch.no_grad():
        model.policy_head.weight.mul_(100)
        model.policy_head.bias.fill_(0.01)
    return model


@pytest.fixture(scope="module")
def small_graph() -> ModelProto:
    return graph.policy_graph(untrained(4, 2), model_metadata(4, 2, critic=False))


@pytest.fixture
def cartpole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_graph: ModelProto) -> Path:
    """A small policy whose graph is there already, and whose check takes little time."""
    monkeypatch.setattr(verify, "OBSERVATIONS_CHECKED", 300)
    monkeypatch.setattr(graph, "policy_graph", lambda *_: copy.deepcopy(small_graph))
    return saved(tmp_path / "run", "CartPole-v1", untrained(4, 2))


@pytest.mark.parametrize("name", ["Acrobot-v1", "first action 1"])
def test_environments_of_other_kinds_are_exported_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "OBSERVATIONS_CHECKED", 300)
    acrobot = name == "Acrobot-v1"
    env_id = name if acrobot else register(Endless, actions=3, action_start=1)
    model = untrained(6, 3, (8, 8, 8)) if acrobot else untrained(1, 3, action_start=1)
    run_dir = saved(tmp_path / "run", env_id, model)
    code, output = run_here("export", run_dir, *FEW)
    assert code == 0, output
    assert metadata(run_dir / "policy.onnx")["action_space"]["start"] == (0 if acrobot else 1)
    assert metadata(run_dir / "policy.onnx")["target_return"] is None
    asked = np.random.default_rng(0).normal(size=(50, 6 if acrobot else 1)).astype(np.float32)
    answers = load_model(run_dir / "policy.onnx").answer(asked)
    np.testing.assert_array_equal(answers["actions"], Policy(model)(asked))
    assert "values" not in answers


def test_a_manifests_export_lies_beside_it_under_its_name(cartpole: Path) -> None:
    code, output = run_here("export", cartpole / "checkpoints" / "best.json", "--int8", *FEW)
    assert code == 0, output
    folder = cartpole / "checkpoints"
    assert {path.name for path in folder.glob("*.onnx")} == {"best.onnx", "best-int8.onnx"}
    assert f"  written  {folder / 'best.onnx'}\n" in output


def test_the_same_checkpoint_gives_the_same_bytes_and_nothing_is_said(
    cartpole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(graph, "policy_graph", MAKE)
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = export_policy(str(cartpole), str(tmp_path / name / "policy.onnx"), True, False, 2, 0, quiet=True)
        assert set(paths) == set((tmp_path / name).iterdir())
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert capfd.readouterr() == ("", "")


def other_policy(made: ModelProto) -> ModelProto:
    """The graph with a policy that always takes the first action."""
    (softmax,) = (node for node in made.graph.node if node.op_type == "Softmax")
    (last,) = (node for node in made.graph.node if softmax.input[0] in node.output)
    last.input[-1] = "another bias"
    made.graph.initializer.append(numpy_helper.from_array(np.float32([1000, 0]), "another bias"))
    return made


def test_an_export_that_is_another_policy_is_refused_and_an_older_file_stays(
    cartpole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cartpole / "policy.onnx").write_text("old")
    monkeypatch.setattr(graph, "policy_graph", lambda *arguments: other_policy(MAKE(*arguments)))
    code, output = run_here("export", cartpole, *FEW)
    assert code == 4
    assert "its export is another policy" in output.splitlines()[-1]
    assert (cartpole / "policy.onnx").read_text() == "old"
    assert {path.name for path in cartpole.iterdir()} == {"checkpoints", "policy.onnx"}


@pytest.mark.parametrize("target", [15.0, 500.0])
def test_an_int8_export_is_refused_where_it_alone_misses_the_target(
    target: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that pushes CartPole to where it leans reaches the limit of 20 steps; one action alone does not."""
    monkeypatch.setattr(verify, "OBSERVATIONS_CHECKED", 300)
    make = graph.int8_graph
    monkeypatch.setattr(graph, "int8_graph", lambda made: other_policy(make(made)))
    run_dir = saved(tmp_path / "run", "CartPole-v1", leaning(), target)
    code, output = run_here("export", run_dir, "--int8", *FEW)
    assert "ONNX int8" in output  # the table tells how it did
    if target == 500.0:  # which the checkpoint itself misses
        assert code == 0, output
        assert (run_dir / "policy-int8.onnx").exists()
    else:
        assert code == 4
        assert "as int8 it misses its target" in output.splitlines()[-1]
        assert [path.name for path in run_dir.iterdir()] == ["checkpoints"]


def leaning() -> ActorCritic:
    """Pushes to where the pole leans and falls to: logits are -+ 10 (angle + angular velocity), and a trifle."""
    model = mlp(4, 2, (2,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.trunk[0].weight.copy_(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, -1.0, -1.0]]))
        model.policy_head.weight.copy_(torch.tensor([[-10.0, 10.0], [10.0, -10.0]]))
        model.policy_head.bias.fill_(0.01)  # a bias of nothing would be left out of the graph
    return model


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    package: str, cartpole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, output = run_here("export", cartpole)
    assert code == 2
    assert output == (
        'run_a3c.py: error: export: needs the packages of the extra "export": '
        'pip install -c constraints.txt -e ".[export]"\n'
    )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "must name a file that ends in .onnx"),
        ("policy.txt", "must name a file that ends in .onnx"),
        ("folder.onnx", "must name a file that ends in .onnx"),
        ("missing/policy.onnx", "is no directory that can be written to"),
        ("file/policy.onnx", "is no directory that can be written to"),
    ],
)
def test_a_place_where_no_file_can_be_is_one_line(place: str, message: str, cartpole: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    code, output = run_here("export", cartpole, "--output", tmp_path / place)
    assert code == 2
    assert output.startswith("run_a3c.py: error: output: ") and message in output
    assert len(output.splitlines()) == 1


def test_a_format_that_is_not_known_is_one_line(cartpole: Path) -> None:
    code, output = run_here("export", cartpole, "--format", "tflite")
    assert code == 2 and len(output.splitlines()) == 1
    assert "tflite" in output and "onnx" in output


def test_a_damaged_checkpoint_and_a_missing_run_are_one_line(cartpole: Path) -> None:
    (weights,) = (cartpole / "checkpoints").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    for path in (cartpole, cartpole / "nowhere"):
        code, output = run_here("export", path)
        assert code == 4 and len(output.splitlines()) == 1
        assert str(path) in output
    assert not list(cartpole.glob("*.onnx"))


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file that this process writes may become larger, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_with_the_files_name_and_leaves_no_half_file(cartpole: Path) -> None:
    with small_files(500):
        code, output = run_here("export", cartpole, *FEW)
    assert code == 74
    assert f"run_a3c.py: error: {cartpole / 'policy.onnx'}: " in output
    assert [path.name for path in cartpole.iterdir()] == ["checkpoints"]
