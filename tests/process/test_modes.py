"""What distinguishes the modes: who steps when, what is lost, and what repeats itself."""

import csv
import hashlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a3c import Config
from shared.board import STOP, SUPERVISOR, Board
from shared.optimizers import AdamOptions, SharedAdam, SharedOptimizer
from shared.store import LockedStore, SharedStore, SyncStore
from tests.process.command import FOREVER, Program, run_in_processes
from workers import train

SIZE, WORKERS = 20_000, 3


class PlainSGD:
    """theta <- theta - gradient, in one read and one write that other processes can come between."""

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        parameters.copy_(parameters - gradient)

    def state(self) -> dict[str, torch.Tensor]:
        return {}


def push_ones(store: SharedStore, worker_index: int, pushes: int) -> None:
    local, gradient = torch.zeros(SIZE), torch.ones(SIZE)
    for count in range(pushes):
        assert store.push(worker_index, gradient, 1.0, count, store.pull(local)) is not None


def push_noise(store: SharedStore, worker_index: int, pushes: int) -> None:
    local = torch.zeros(SIZE)
    for count in range(pushes):
        store.push(worker_index, noise(worker_index, count), 1e-3, count + 1, store.pull(local))


def noise(worker_index: int, count: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(100 * worker_index + count))


def push_from_all(store: SharedStore, target: Any, pushes: int) -> None:
    run_in_processes(target, [(store, index, pushes) for index in range(WORKERS)])


def sync_store(optimizer: SharedOptimizer, interval: int = 10**9) -> SyncStore:
    return SyncStore(torch.zeros(SIZE), optimizer, WORKERS, interval, Board(WORKERS).stopping)


def test_locked_loses_no_update(tmp_path: Path) -> None:
    store = LockedStore(torch.zeros(SIZE), PlainSGD(), WORKERS, str(tmp_path / "lock"))
    push_from_all(store, push_ones, 400)
    assert (store.parameters == -WORKERS * 400).all()


def test_sync_loses_no_update_and_averages() -> None:
    store = sync_store(PlainSGD())
    push_from_all(store, push_ones, 200)
    assert (store.parameters == -200).all()
    assert store.updates == 200


def test_sync_steps_with_the_average_in_worker_order() -> None:
    store = sync_store(SharedAdam(SIZE, AdamOptions()))
    push_from_all(store, push_noise, 20)
    expected, adam = torch.zeros(SIZE), SharedAdam(SIZE, AdamOptions())
    for count in range(20):
        average = (noise(0, count) + noise(1, count) + noise(2, count)) / WORKERS
        adam.step(expected, average, 1e-3, count + 1)
    assert torch.equal(store.parameters, expected)
    assert store.env_steps == WORKERS * 20


def test_snapshots_of_sync_are_queued_at_fixed_env_steps() -> None:
    store = sync_store(PlainSGD(), interval=10)
    push_from_all(store, push_noise, 20)
    snapshots = list(store.last_snapshots())
    assert [snapshot.env_steps for snapshot in snapshots] == [0, 12, 24, 36, 48, 60]
    assert [snapshot.updates for snapshot in snapshots] == [0, 4, 8, 12, 16, 20]
    assert torch.equal(snapshots[-1].parameters, store.parameters)


def test_nobody_waits_for_a_worker_that_has_left() -> None:
    board = Board(WORKERS)
    store = SyncStore(torch.zeros(SIZE), PlainSGD(), WORKERS, 10**9, board.stopping)
    board.request(SUPERVISOR, STOP)
    for worker_index in range(WORKERS - 1, -1, -1):
        if worker_index != 1:  # which has left
            assert store.push(worker_index, torch.ones(SIZE), 1.0, 1, store.pull(torch.zeros(SIZE))) is None
    assert store.updates == 0


def fingerprint(run_dir: Path) -> str:
    """A hash of the weights of both checkpoints and of the evaluation curve, times left out."""
    digest = hashlib.sha256()
    for name in ("best", "latest"):
        digest.update(json.loads((run_dir / "checkpoints" / f"{name}.json").read_text())["weights"]["sha256"].encode())
    for row in csv.DictReader((run_dir / "evaluations.csv").open()):
        digest.update(repr([value for name, value in row.items() if name != "seconds"]).encode())
    return digest.hexdigest()


def burn() -> None:
    while True:
        np.random.default_rng(0).standard_normal(10_000).sort()


@pytest.mark.parametrize("options", [{"mode": "sync", "workers": 3}, {"workers": 1}], ids=str)
def test_sync_and_one_worker_repeat_themselves_bit_for_bit_under_load(tmp_path: Path, options: dict[str, Any]) -> None:
    settings = {"seed": 3, "max_env_steps": 6000, "eval_episodes": 10, "dashboard": "off", **options}
    first = train(run_dir=tmp_path / "idle", **settings)
    load = [multiprocessing.get_context("fork").Process(target=burn, daemon=True) for _ in range(3)]
    for process in load:
        process.start()
    second = train(run_dir=tmp_path / "loaded", **settings)
    for process in load:
        process.kill()
    assert fingerprint(tmp_path / "idle") == fingerprint(tmp_path / "loaded")
    assert (first.status, first.evaluation and first.evaluation.mean) == (
        second.status,
        second.evaluation and second.evaluation.mean,
    )
    other = train(run_dir=tmp_path / "other", **{**settings, "seed": 4})
    assert other.updates > 0
    assert fingerprint(tmp_path / "other") != fingerprint(tmp_path / "idle")


@pytest.mark.parametrize("mode", ["sync", "locked"])
def test_a_dead_worker_ends_the_run_in_every_mode(tmp_path: Path, mode: str) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--mode", mode, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.workers()[1].kill()
        assert program.wait(15) == 3
        program.assert_nobody_left()
    assert (run_dir / "checkpoints" / "latest.json").exists()


@pytest.mark.parametrize("mode", ["sync", "locked"])
def test_every_mode_solves_cartpole(tmp_path: Path, mode: str) -> None:
    summary = train(mode=mode, seed=1, run_dir=tmp_path / "run", dashboard="off")
    assert summary.status == "solved"
    assert summary.mode == mode
    rollouts_per_update = {"sync": summary.workers, "locked": 1}[mode]
    rollout = summary.env_steps / summary.updates / rollouts_per_update
    assert 0.8 * Config().n_steps < rollout <= Config().n_steps
    if mode == "sync":
        assert summary.staleness is not None
        assert summary.staleness.max == 0
