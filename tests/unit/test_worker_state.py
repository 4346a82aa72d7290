"""Worker snapshots: bytes of any size that come back as they were, from a checkpoint too; what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.rollouts import Collector, Stopwatch
from shared.memory import Notifier
from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from tests.unit.scripted_environments import Walk, array_to_json, scripted
from workers.checkpointer import Checkpointer
from workers.link import SharedMemoryLink, connect
from workers.runs.evaluations import Evaluations, Progress, SharedRun
from workers.runs.program import versions
from workers.runs.resume import load
from workers.training import build_store
from workers.worker_state import pack, unpack

ENVIRONMENT = scripted(Walk)
LARGE = 50 * 2**20  # bytes
DTYPES = st.one_of(
    hn.boolean_dtypes(),
    hn.integer_dtypes(endianness="?"),
    hn.unsigned_integer_dtypes(),
    hn.floating_dtypes(endianness="?"),
    hn.complex_number_dtypes(),
)
ARRAYS = hn.arrays(DTYPES, hn.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
STATES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=6,
)


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    else:
        assert one == other


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=3), STATES, max_size=4))
def test_a_state_comes_back_as_it_was(state: dict[str, Any]) -> None:
    assert_equal(unpack(pack(state)), state)


def test_arrays_are_packed_as_their_bytes_and_come_back_as_copies_to_write_to() -> None:
    array = np.arange(12.0).reshape(3, 4)[:, ::2]
    content = pack({"array": array})
    assert array.tobytes() in content
    copy = unpack(content)["array"]
    copy += 1
    assert np.array_equal(unpack(content)["array"], array)


@pytest.mark.parametrize(
    "value", [{1, 2}, np.float32(1), np.array([None]), np.array(["a"]), np.inf, np.zeros(2, "f4,i4"), b"bytes"]
)
def test_what_is_neither_plain_json_nor_an_array_of_numbers_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        pack({"value": value})


@given(st.binary(max_size=40) | st.integers(0, 200).map(lambda cut: pack({"a": np.ones(5), "b": [1, "x"]})[:cut]))
def test_bytes_that_are_no_state_are_refused(content: bytes) -> None:
    whole = pack({"a": np.ones(5), "b": [1, "x"]})
    if not content.startswith(whole):
        with pytest.raises((TypeError, ValueError)):
            unpack(content)


# -- through a checkpoint ---------------------------------------------------------------------------------------------


class Remembering(Collector):
    """A collector whose state holds as much as a replay buffer."""

    def __init__(self, seed: int):
        super().__init__(ENVIRONMENT.make(2), 5, np.random.default_rng(seed))
        self.memory = np.random.default_rng(seed).integers(0, 256, LARGE, np.uint8)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "memory": self.memory}

    def restore(self, state: dict[str, Any]) -> bool:
        self.memory = state["memory"]
        return super().restore(state)


class Run:
    """The shared state of a run of two workers, and its checkpointer."""

    def __init__(self, path: Path, environment: EnvironmentSpec = ENVIRONMENT):
        self.config = Config.from_options({"workers": 2, "hidden_sizes": (4,)})
        self.path, self.scoreboard = path, Scoreboard(2)
        self.store: SharedStore = build_store(self.config, environment, self.scoreboard)

    def joined(self, index: int, collector: Collector) -> SharedMemoryLink:
        link = connect(index, 0, self.store, self.scoreboard, self.path, self.config)
        link.join(collector, Stopwatch())
        return link

    def save(self) -> None:
        (self.path / "checkpoints").mkdir()
        evaluations = Evaluations(Progress())
        shared = self.config, ENVIRONMENT, self.store, self.scoreboard, evaluations, Notifier(), self.path
        assert Checkpointer(SharedRun(*shared), lambda message: None).save_end()

    def resumed(self) -> "Run":
        run = Run(self.path)
        content = {"environment": ENVIRONMENT.description(), "versions": versions()}
        load(self.path, self.config, ENVIRONMENT, content, False, pytest.fail).restore(run.store, run.scoreboard)
        return run


def act(_: int, observations: np.ndarray, out: np.ndarray) -> None:
    out.fill(0)


def test_a_snapshot_of_50_mib_comes_back_from_a_checkpoint(tmp_path: Path) -> None:
    run, collectors = Run(tmp_path), [Remembering(seed) for seed in (1, 2)]
    for index, collector in enumerate(collectors):
        link = run.joined(index, collector)
        collector.collect(act)
        link.leave()
    run.save()
    tensors = list((tmp_path / "checkpoints").glob("latest-*.training.safetensors"))
    assert 2 * LARGE < tensors[0].stat().st_size < 2 * LARGE + 2**20  # no base64
    resumed = run.resumed()
    for index, collector in enumerate(collectors):
        successor = Remembering(seed=3)
        resumed.joined(index, successor)
        assert_equal(successor.state(), collector.state())


def test_a_checkpoint_whose_workers_are_json_is_resumed(tmp_path: Path) -> None:
    """As those of earlier versions are: the state in the facts, NaN as null, staleness without its last zeros."""
    run, collector = Run(tmp_path), Collector(ENVIRONMENT.make(2), 5, np.random.default_rng(1))
    link = run.joined(1, collector)
    collector.collect(act)
    run.scoreboard.count_staleness(1, 3)
    link.leave()
    counted = run.scoreboard.worker_state(1)
    row = [None if np.isnan(value) else value for value in counted["row"].tolist()]
    board = {"row": row, "staleness": [0, 0, 0, 1], "dropped": counted["dropped"].tolist()}
    run.save()
    stored = json.dumps({"collector": collector.state(), "board": board}, default=array_to_json)
    rewrite(run, [None, json.loads(stored)])
    resumed = run.resumed()
    successor = Collector(ENVIRONMENT.make(2), 5, np.random.default_rng(2))
    resumed.joined(1, successor)
    assert pack(successor.state()) == pack(collector.state())
    assert resumed.scoreboard.staleness_counts()[1, 3] == 1
    assert resumed.store.barrier.snapshot(0) is None


def rewrite(run: Run, workers: list[Any]) -> None:
    """Write the checkpoint anew, its workers' snapshots in the facts."""
    from a3c.checkpoint import Training, load_training, save_checkpoint

    checkpoint, training = load_training(run.path)
    tensors = {name: tensor for name, tensor in training.tensors.items() if not name.startswith("worker.")}
    assert len(tensors) < len(training.tensors) and all(isinstance(value, torch.Tensor) for value in tensors.values())
    facts = {**training.facts, "workers": workers}
    told = {**ENVIRONMENT.identity(), "env_steps": run.store.env_steps, "updates": run.store.updates}
    save_checkpoint(run.path / "checkpoints", "latest", checkpoint.model, told, Training(tensors, facts))


# -- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "interval", "logs"), [(0, 1, True), (1, 1, False), (0, 0, False)])
def test_only_worker_0_writes_updates_and_only_where_it_is_asked_to(
    index: int, interval: int, logs: bool, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    link = connect(index, 7, run.store, run.scoreboard, tmp_path, replace(run.config, log_interval=interval))
    assert (link.incarnation, run.store.incarnation) == (7, 7)
    assert (link.log_update is not None) == logs
    assert not any(tmp_path.iterdir())
