"""What distinguishes the modes: who steps when, what is lost, and what repeats itself."""

import csv
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a3c import Config
from a3c.checkpoint import load_training
from shared.locked_store import LockedStore
from shared.memory import SharedArray
from shared.optimizers import SharedAdam, SharedOptimizer
from shared.scoreboard import STOP, Scoreboard
from shared.store import SharedStore
from shared.sync_store import SyncStore
from tests.process.command import FOREVER, Program, run_in_processes
from workers import train

SIZE, WORKERS = 20_000, 3
N_STEPS = Config.from_options({}).n_steps


class PlainSGD:
    """theta <- theta - gradient, in one read and one write that other processes can come between."""

    moments: dict[str, SharedArray] = {}  # noqa: RUF012

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        parameters.copy_(parameters - gradient)


def push_ones(store: SharedStore, worker_index: int, pushes: int) -> None:
    local, gradient = torch.zeros(SIZE), torch.ones(SIZE)
    for count in range(pushes):
        assert store.push(worker_index, gradient, 1.0, count, store.pull(local)) is not None


def push_noise(store: SharedStore, worker_index: int, pushes: int) -> None:
    local = torch.zeros(SIZE)
    for count in range(pushes):
        store.enqueue_due(worker_index, lambda: None)
        store.push(worker_index, noise(worker_index, count), 1e-3, count + 1, store.pull(local))


def noise(worker_index: int, count: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(100 * worker_index + count))


def push_from_all(store: SharedStore, target: Any, pushes: int) -> None:
    run_in_processes(target, [(store, index, pushes) for index in range(WORKERS)])


def sync_store(optimizer: SharedOptimizer, interval: int = 10**9) -> SyncStore:
    return SyncStore(torch.zeros(SIZE), optimizer, Scoreboard(WORKERS), interval)


def test_locked_loses_no_update() -> None:
    store = LockedStore(torch.zeros(SIZE), PlainSGD(), Scoreboard(WORKERS))
    push_from_all(store, push_ones, 400)
    assert (store.parameters == -WORKERS * 400).all()


def test_sync_loses_no_update_and_averages() -> None:
    store = sync_store(PlainSGD())
    push_from_all(store, push_ones, 200)
    assert (store.parameters == -200).all()
    assert store.updates == 200


def test_sync_steps_with_the_average_in_worker_order() -> None:
    store = sync_store(SharedAdam(SIZE))
    push_from_all(store, push_noise, 20)
    expected, adam = torch.zeros(SIZE), SharedAdam(SIZE)
    for count in range(20):
        average = (noise(0, count) + noise(1, count) + noise(2, count)) / WORKERS
        adam.step(expected, average, 1e-3, count + 1)
    assert torch.equal(store.parameters, expected)
    assert store.env_steps == WORKERS * 20


def test_snapshots_of_sync_are_queued_at_fixed_env_steps() -> None:
    store = sync_store(PlainSGD(), interval=10)
    push_from_all(store, push_noise, 20)
    queued = []
    while (snapshot := store.next_snapshot(0)) is not None:
        queued.append((snapshot.updates, snapshot.env_steps))
        store.release(len(queued))
    assert queued == [(4, 12), (8, 24), (12, 36), (16, 48)]


def test_nobody_waits_for_a_worker_that_has_left() -> None:
    scoreboard = Scoreboard(WORKERS)
    store = SyncStore(torch.zeros(SIZE), PlainSGD(), scoreboard, 10**9)
    scoreboard.request(STOP)

    def push(worker_index: int) -> int | None:
        return store.push(worker_index, torch.ones(SIZE), 1.0, 1, store.pull(torch.zeros(SIZE)))

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(push, (0, 2))) == [None, None]  # the one between them has left
    assert store.updates == 0


def fingerprint(run_dir: Path) -> str:
    """A hash of the saved weights and of the evaluation curve, times left out."""
    digest = hashlib.sha256()
    for name in ("best", "latest"):
        digest.update(json.loads((run_dir / "checkpoints" / f"{name}.json").read_text())["weights"]["sha256"].encode())
    for row in csv.DictReader((run_dir / "evaluations.csv").open()):
        digest.update(repr([value for name, value in row.items() if name != "seconds"]).encode())
    return digest.hexdigest()


def burn() -> None:
    while True:
        np.random.default_rng(0).standard_normal(10_000).sort()


@contextmanager
def load() -> Iterator[None]:
    """Busy processes, each of which the kernel prefers to a worker."""
    processes = [multiprocessing.get_context("fork").Process(target=burn, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.parametrize("options", [{"mode": "sync", "workers": 4}, {"workers": 1}], ids=str)
def test_sync_and_one_worker_repeat_themselves_bit_for_bit_under_load(tmp_path: Path, options: dict[str, Any]) -> None:
    def run(name: str, seed: int = 3) -> tuple[str, str]:
        settings = {"max_env_steps": 2000, "eval_interval": 200, "eval_episodes": 5, "target_return": 501.0, **options}
        summary = train(run_dir=tmp_path / name, dashboard="off", seed=seed, **settings)
        assert summary.status == "budget_exhausted"
        return summary.state_sha256, fingerprint(tmp_path / name)

    idle = run("idle")
    with load():
        assert run("loaded") == idle
    assert run("other", seed=4) != idle


def test_a_run_without_torchs_kernel_makes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parameters(name: str) -> torch.Tensor:
        train(run_dir=tmp_path / name, mode="sync", seed=1, max_env_steps=300, eval_interval=10**6, dashboard="off")
        return load_training(tmp_path / name)[1].tensors["parameters"]

    expected = parameters("with")
    monkeypatch.delattr(torch, "_fused_adam_")  # here, where the optimizer is made
    torch.testing.assert_close(parameters("without"), expected, rtol=1e-4, atol=1e-6)


def test_in_sync_the_same_snapshot_is_the_solution_every_time(tmp_path: Path) -> None:
    def best(name: str) -> tuple[str, str]:
        train(run_dir=tmp_path / name, mode="sync", seed=1, eval_episodes=10, target_return=100.0, dashboard="off")
        manifest = json.loads((tmp_path / name / "checkpoints" / "best.json").read_text())
        return manifest["weights"]["sha256"], repr(manifest["evaluation"]["mean"])

    with load():
        loaded = best("loaded")
    assert loaded == best("idle")


def test_two_asynchronous_runs_are_not_the_same_run(tmp_path: Path) -> None:
    settings = {"max_env_steps": 6000, "eval_episodes": 10, "dashboard": "off", "seed": 3}
    first, *others = (train(run_dir=tmp_path / str(count), **settings).state_sha256 for count in range(2))
    assert others != [first]


# The deaths that are marked as long are among those of test_supervision.py.
@pytest.mark.parametrize(
    ("mode", "victim"),
    [
        ("locked", 1),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("async", 1), ("sync", 1), ("sync", 0))),
    ],
)
def test_a_dead_worker_is_replaced_in_every_mode(tmp_path: Path, mode: str, victim: int) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--mode", mode, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.until((run_dir / "config.json").exists)  # until then git may come and go among the processes
        program.workers()[victim].kill()
        program.until(lambda: "restarted" in [kind for kind, _ in events(run_dir)])
        before = len(updates(run_dir))
        program.until(lambda: len(updates(run_dir)) >= before + 2)  # the first may have been made before the death
        program.note_family()
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130
        program.assert_nobody_left()
    assert [message[:8] for kind, message in events(run_dir) if kind == "crashed"] == [f"worker-{victim}"]
    assert json.loads((run_dir / "summary.json").read_text())["worker_restarts"] == 1


def events(run_dir: Path) -> list[tuple[str, str]]:
    """What has happened in a run so far: kinds and messages."""
    lines = map(json.loads, (run_dir / "events.jsonl").read_text().splitlines())
    return [(line["kind"], line["message"]) for line in lines]


def updates(run_dir: Path) -> set[str]:
    """How many updates there were at the moments of which metrics.csv tells."""
    return {row["updates"] for row in csv.DictReader((run_dir / "metrics.csv").open())}


@pytest.mark.parametrize("mode", ["sync", "locked"])
def test_every_mode_solves_cartpole(tmp_path: Path, mode: str) -> None:
    summary = train(mode=mode, seed=1, run_dir=tmp_path / "run", dashboard="off")
    assert summary.status == "solved"
    assert summary.mode == mode
    rollouts_per_update = {"sync": summary.workers, "locked": 1}[mode]
    rollout = summary.env_steps / summary.updates / rollouts_per_update
    assert 0.8 * N_STEPS < rollout <= N_STEPS
    if mode == "sync":
        assert summary.staleness is not None
        assert summary.staleness.max == 0
