"""The shared parameters, optimizers, counters and board, seen from one process."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from a3c.networks import ActorCritic, initialize
from shared.board import FINISH, LATEST, MONITOR, ROW, RUN, STALENESS_BINS, STOP, SUMS, SUPERVISOR, Board
from shared.optimizers import AdamOptions, RMSPropOptions, SharedAdam, SharedRMSProp
from shared.parameters import bind, flat_size
from shared.store import Pulled, SharedStore

SIZE = 100


def adam_store(initial: torch.Tensor, workers: int = 1, **options: float) -> SharedStore:
    return SharedStore(initial, SharedAdam(len(initial), AdamOptions(**options)), workers)


def push(store: SharedStore, worker: int, gradient: torch.Tensor, learning_rate: float) -> int | None:
    return store.push(worker, gradient, learning_rate, 0, store.pull(torch.zeros(len(gradient))))


def row(**values: float) -> np.ndarray:
    return np.array([values.get(name, 0.0) for name in (*SUMS, *LATEST)])


def test_a_bound_module_computes_the_same_and_lives_in_the_vector() -> None:
    model = ActorCritic(4, 2, (10, 7))
    initialize(model, 1)
    observations = torch.randn(3, 4)
    before = [output.detach().clone() for output in model(observations)]
    vector, gradient = torch.zeros(flat_size(model)), torch.zeros(flat_size(model))
    bind(model, vector, gradient)
    for output, expected in zip(model(observations), before, strict=True):
        assert torch.equal(output, expected)
    vector.zero_()
    assert all(not parameter.any() for parameter in model.parameters())


def test_every_parameter_starts_at_a_cache_line_and_the_padding_stays_zero() -> None:
    model = ActorCritic(4, 2, (10, 7))
    vector, gradient = torch.zeros(flat_size(model)), torch.zeros(flat_size(model))
    bind(model, vector, gradient)
    assert {parameter.storage_offset() * 4 % 64 for parameter in model.parameters()} == {0}
    logits, values = model(torch.randn(3, 4))
    (logits.sum() + values.sum()).backward()
    store = adam_store(vector)
    push(store, 0, gradient, 0.1)
    used = torch.zeros_like(vector, dtype=torch.bool)
    for parameter in model.parameters():
        used[parameter.storage_offset() : parameter.storage_offset() + parameter.numel()] = True
    assert (~used).any()
    assert not store.parameters[~used].any()
    assert not gradient[~used].any()


def test_pull_copies_the_shared_parameters_and_push_leaves_the_local_ones_alone() -> None:
    store, local = adam_store(torch.arange(SIZE, dtype=torch.float32)), torch.zeros(SIZE)
    assert store.pull(local) == (0, 0, False)
    assert torch.equal(local, torch.arange(SIZE, dtype=torch.float32))
    push(store, 0, torch.ones(SIZE), 0.1)
    assert torch.equal(local, torch.arange(SIZE, dtype=torch.float32))
    assert not torch.equal(store.parameters, local)


def test_shared_adam_equals_torch_adam_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(SIZE, generator=generator)
    reference = nn.Parameter(initial.clone())
    optimizer = torch.optim.Adam([reference], lr=0.01, betas=(0.8, 0.95), eps=1e-6, fused=True)
    store = adam_store(initial, beta1=0.8, beta2=0.95, epsilon=1e-6)
    for _ in range(50):
        gradient = torch.randn(SIZE, generator=generator)
        reference.grad = gradient.clone()
        optimizer.step()
        push(store, 0, gradient, 0.01)
        assert torch.equal(store.parameters, reference.detach())


def test_three_pushes_of_a_known_gradient_neither_freeze_nor_accumulate() -> None:
    """With beta1 = beta2 = 0 and a large epsilon a step is lr * g / eps: each push moves by its own gradient alone."""
    store = adam_store(torch.zeros(SIZE), beta1=0.0, beta2=0.0, epsilon=1e6)
    positions = []
    for factor in (1.0, 2.0, -4.0):
        push(store, 0, torch.full((SIZE,), factor), 1e6)
        positions.append(float(store.parameters[0]))
    assert positions == pytest.approx([-1.0, -3.0, 1.0], rel=1e-4)


def test_shared_rmsprop_follows_the_papers_equations() -> None:
    rng = np.random.default_rng(0)
    store = SharedStore(torch.ones(SIZE), SharedRMSProp(SIZE, RMSPropOptions(decay=0.9, epsilon=0.1)), 1)
    parameters, average = np.ones(SIZE), np.zeros(SIZE)
    for _ in range(20):
        gradient = rng.standard_normal(SIZE)
        for i in range(SIZE):
            average[i] = 0.9 * average[i] + 0.1 * gradient[i] ** 2
            parameters[i] -= 0.05 * gradient[i] / math.sqrt(average[i] + 0.1)
        push(store, 0, torch.from_numpy(gradient.astype(np.float32)), 0.05)
    np.testing.assert_allclose(store.parameters.numpy(), parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 10, 2**24 + 1, 2**40])
def test_adams_step_count_is_the_one_handed_in_however_large(count: int) -> None:
    adam = SharedAdam(1, AdamOptions(0.9, 0.999, 1e-8))
    parameters = torch.zeros(1)
    adam.step(parameters, torch.ones(1), 0.1, count)
    mean, square = 0.1 / (1 - 0.9**count), 0.001 / (1 - 0.999**count)
    assert float(parameters[0]) == pytest.approx(-0.1 * mean / (math.sqrt(square) + 1e-8), rel=1e-4)


def test_staleness_counts_the_updates_of_anyone_between_pull_and_push() -> None:
    store, local, gradient = adam_store(torch.zeros(SIZE), workers=3), torch.zeros(SIZE), torch.ones(SIZE)
    pulled = [store.pull(local) for _ in range(3)]
    assert [store.push(worker, gradient, 0.1, 5, pulled[worker]) for worker in range(3)] == [0, 1, 2]
    assert store.push(0, gradient, 0.1, 10, store.pull(local)) == 0
    assert store.pull(local)[:2] == (4, 20)
    assert store.updates == 4


def test_pushes_that_meet_and_pulls_that_meet_a_push_are_counted() -> None:
    class Meeting(SharedAdam):
        """While worker 0 steps, worker 1 pulls, and pushes within its own turn what it pulled before."""

        def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
            super().step(parameters, gradient, learning_rate, count)
            if not met:
                met.append(store.pull(torch.zeros(SIZE)))
                store.push(1, gradient, learning_rate, 5, met[0])

    met: list[Pulled] = []
    store = SharedStore(torch.zeros(SIZE), Meeting(SIZE, AdamOptions()), workers=2)
    store.push(0, torch.ones(SIZE), 0.1, 5, store.pull(torch.zeros(SIZE)))
    assert met[0].torn
    assert (store.overlapped_pushes, store.torn_pulls, store.updates) == (2, 1, 2)
    alone = store.pull(torch.zeros(SIZE))
    assert not alone.torn
    store.push(0, torch.ones(SIZE), 0.1, 10, alone)
    assert (store.overlapped_pushes, store.torn_pulls, store.updates) == (2, 1, 3)


def test_a_snapshot_is_a_copy_of_one_generation() -> None:
    store = adam_store(torch.zeros(SIZE))
    push(store, 0, torch.ones(SIZE), 0.1)
    snapshot = store.snapshot()
    assert (snapshot.updates, snapshot.consistent) == (1, True)
    before = snapshot.parameters.clone()
    push(store, 0, torch.ones(SIZE), 0.1)
    assert torch.equal(snapshot.parameters, before)


def test_a_snapshot_taken_during_a_push_says_so() -> None:
    taken = []

    class Interrupted(SharedAdam):
        def step(self, *arguments: object, **options: object) -> None:
            taken.append(store.snapshot())

    store = SharedStore(torch.zeros(SIZE), Interrupted(SIZE, AdamOptions()), 1)
    push(store, 0, torch.ones(SIZE), 0.1)
    assert not taken[0].consistent


def test_totals_are_sums_over_rows_and_a_read_is_a_copy() -> None:
    board = Board(3)
    for worker in range(3):
        board.row(worker)[:] = row(env_steps=10**worker)
    rows = board.read()
    assert rows["env_steps"].sum() == 111
    rows["env_steps"] = 0
    assert board.read()["env_steps"].sum() == 111


def test_the_strongest_request_to_stop_counts() -> None:
    board = Board(1)
    assert board.requested() == RUN
    board.request(SUPERVISOR, FINISH)
    assert board.requested() == FINISH
    board.request(MONITOR, STOP)
    assert board.requested() == STOP


def test_training_seconds_count_from_the_first_workers_start() -> None:
    board = Board(2)
    assert board.training_seconds(now=50.0) == 0.0
    for worker, started in ((0, 20.0), (1, 10.0)):
        board.row(worker)[:] = row(started=started)
    assert board.training_seconds(now=50.0) == 40.0


def test_a_row_is_read_by_the_names_it_was_written_with() -> None:
    board = Board(2)
    names = ROW.names or ()
    board.row(1)[:] = np.arange(len(names))
    assert [board.read()[1][name] for name in names] == list(range(len(names)))
    assert not board.read()[0]["env_steps"]


def test_staleness_is_counted_exactly_up_to_the_last_bin() -> None:
    board = Board(2)
    for staleness in (0, 3, 3, STALENESS_BINS - 1, 10 * STALENESS_BINS):
        board.count_staleness(1, staleness)
    counts = board.staleness_counts()
    assert not counts[0].any()
    assert {int(value): int(counts[1][value]) for value in counts[1].nonzero()[0]} == {
        0: 1,
        3: 2,
        STALENESS_BINS - 1: 2,
    }
