"""Shared memory seen from other processes: real ones, started the way the program starts them."""

import gc
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
import torch

from shared.memory import SharedArray
from shared.optimizers import SharedAdam
from shared.scoreboard import ROW, Scoreboard
from shared.store import SharedStore
from tests.process.command import run_in_processes
from workers.processes.start import context, start_forkserver, start_process

SIZE, WORKERS, PUSHES = 1000, 4, 500


def push_once(store: SharedStore, scoreboard: Scoreboard, local: torch.Tensor, answer: Connection) -> None:
    store.push(0, torch.ones(SIZE), 0.1, 3, store.pull(local))
    scoreboard.row(0)[(ROW.names or ()).index("env_steps")] = 7
    answer.send((store.optimizer.moments["exp_avg"].tensor.clone().numpy(), local.numpy().copy()))


def push_many(store: SharedStore, worker_index: int) -> None:
    local, gradient = torch.zeros(SIZE), torch.ones(SIZE)
    for _ in range(PUSHES):
        store.push(worker_index, gradient, 1e-3, 0, store.pull(local))


def double(array: SharedArray, answer: Connection) -> None:
    array.tensor.mul_(2)
    answer.send((array.array.ctypes.data % os.sysconf("SC_PAGE_SIZE"), array.numbers.tolist()))


def started(target: Callable[..., None], *arguments: object) -> tuple[Connection, BaseProcess]:
    """A process that runs a function, as processes of a run are started, and what it answers by."""
    receiver, sender = context().Pipe(duplex=False)
    start_forkserver()
    process = context().Process(target=target, args=(*arguments, sender))
    start_process(process)
    return receiver, process


def descriptors() -> set[str]:
    """What the descriptors of this process lead to that are memory."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return {f"{link}: {os.readlink(link)}" for link in links if os.path.exists(link) and "memfd" in os.readlink(link)}


@pytest.mark.parametrize("memory", ["file in memory", "file on disk"])
def test_an_array_is_the_same_memory_in_another_process(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if memory == "file on disk":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    array = SharedArray((3,), "int64")
    array.array[:] = 1, 2, 3
    receiver, process = started(double, array)
    assert receiver.poll(60)
    assert receiver.recv() == (0, [2, 4, 6])
    process.join(60)
    assert process.exitcode == 0
    assert array.tensor.tolist() == [2, 4, 6]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the memory is a file on disk")
def test_an_array_that_nobody_needs_any_more_leaves_neither_memory_nor_a_descriptor() -> None:
    before = descriptors()
    array = SharedArray((1000,), "float32")
    view = array.tensor
    del array
    view += 1  # what still looks at the memory keeps it
    assert view.sum() == 1000
    del view
    gc.collect()
    assert descriptors() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the memory is a file on disk")
def test_an_array_takes_no_memory_before_it_is_written_to() -> None:
    array = SharedArray((2**28,), "uint8")
    assert os.stat(array._state[0].descriptor).st_blocks == 0
    array.array[0] = 1
    assert 0 < os.stat(array._state[0].descriptor).st_blocks * 512 < 2**26


@pytest.mark.parametrize("shape", [(2**50,), (2**62, 2**62)])
def test_more_memory_than_there_is_is_refused_in_a_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(MemoryError, match=r"^[\d,]+ bytes of shared memory cannot be had: Cannot allocate memory$"):
        SharedArray(shape, "float32")


def test_parameters_moments_and_rows_are_shared_and_local_parameters_are_not() -> None:
    scoreboard = Scoreboard(1)
    store = SharedStore(torch.zeros(SIZE), SharedAdam(SIZE), scoreboard)
    local = np.full(SIZE, 5, np.float32)
    receiver, process = started(push_once, store, scoreboard, torch.from_numpy(local.copy()))
    assert receiver.poll(60)
    moments_there, local_there = receiver.recv()
    process.join(60)
    assert process.exitcode == 0
    assert store.updates == 1
    assert scoreboard.read()["env_steps"] == [7]
    assert store.parameters.numpy() == pytest.approx(np.full(SIZE, -0.1), rel=1e-5)
    assert moments_there.any()
    assert np.array_equal(store.optimizer.moments["exp_avg"].tensor.numpy(), moments_there)
    assert not local_there.any()  # the pull overwrote the other process's copy
    assert (local == 5).all()  # and not ours


def test_no_push_is_lost_from_the_count_when_all_push_at_once() -> None:
    store = SharedStore(torch.zeros(SIZE), SharedAdam(SIZE), Scoreboard(WORKERS))
    run_in_processes(push_many, [(store, index) for index in range(WORKERS)])
    assert store.updates == WORKERS * PUSHES
    snapshot = store.snapshot()
    assert snapshot.consistent
    assert snapshot.updates == WORKERS * PUSHES
    assert torch.isfinite(snapshot.parameters).all()
