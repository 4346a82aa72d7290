"""Shared memory seen from other processes: real ones, started the way the program starts them."""

import multiprocessing
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch

from shared.board import ROW, Board
from shared.optimizers import AdamOptions, SharedAdam
from shared.store import SharedStore
from tests.process.command import run_in_processes
from workers.launch import inherited

SIZE, WORKERS, PUSHES = 1000, 4, 500


def push_once(store: SharedStore, board: Board, local: torch.Tensor, answer: Connection) -> None:
    store.push(0, torch.ones(SIZE), 0.1, 3, store.pull(local))
    board.row(0)[(ROW.names or ()).index("env_steps")] = 7
    answer.send((store.optimizer.state()["exp_avg"].clone().numpy(), local.numpy().copy()))


def push_many(store: SharedStore, worker_index: int) -> None:
    local, gradient = torch.zeros(SIZE), torch.ones(SIZE)
    for _ in range(PUSHES):
        store.push(worker_index, gradient, 1e-3, 0, store.pull(local))


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_parameters_moments_and_rows_are_shared_and_local_parameters_are_not(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    processes = multiprocessing.get_context(method)
    board = Board(1)
    store = SharedStore(torch.zeros(SIZE), SharedAdam(SIZE, AdamOptions()), board)
    local = np.full(SIZE, 5, np.float32)
    receiver, sender = processes.Pipe(duplex=False)
    with inherited():
        arguments = (store, board, torch.from_numpy(local.copy()), sender)
        process = processes.Process(target=push_once, args=arguments)  # type: ignore[attr-defined]
        process.start()
    assert receiver.poll(60)
    moments_there, local_there = receiver.recv()
    process.join(60)
    assert process.exitcode == 0
    assert store.updates == 1
    assert board.read()["env_steps"] == [7]
    assert store.parameters.numpy() == pytest.approx(np.full(SIZE, -0.1), rel=1e-5)
    assert moments_there.any()
    assert np.array_equal(store.optimizer.state()["exp_avg"].numpy(), moments_there)
    assert not local_there.any()  # the pull overwrote the other process's copy
    assert (local == 5).all()  # and not ours


def test_no_push_is_lost_from_the_count_when_all_push_at_once() -> None:
    store = SharedStore(torch.zeros(SIZE), SharedAdam(SIZE, AdamOptions()), Board(WORKERS))
    run_in_processes(push_many, [(store, index) for index in range(WORKERS)])
    assert store.updates == WORKERS * PUSHES
    snapshot = store.snapshot()
    assert snapshot.consistent
    assert snapshot.updates == WORKERS * PUSHES
    assert torch.isfinite(snapshot.parameters).all()
