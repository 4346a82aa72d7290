"""The shared parameters, optimizers and counters; what a push leaves behind that is not made to its end."""

import math
import multiprocessing
import time

import numpy as np
import pytest
import torch
from torch import nn

from a3c.networks import bind, flat_zeros, initialize
from shared.locked_store import LockedStore
from shared.optimizers import SharedAdam, SharedOptimizer, SharedRMSProp, fused_adam, plain_adam
from shared.scoreboard import FINISH, Scoreboard
from shared.store import Pulled, SharedStore
from shared.sync_store import SyncStore
from tests.unit.networks import mlp
from tests.unit.processes import SECONDS, die, exit_code, forked, killed, wait_until

SIZE = 100


def adam_store(initial: torch.Tensor, workers: int = 1, **options: float) -> SharedStore:
    return SharedStore(initial, SharedAdam(len(initial), **options), Scoreboard(workers))


def push(store: SharedStore, worker: int, gradient: torch.Tensor, learning_rate: float) -> int | None:
    return store.push(worker, gradient, learning_rate, 0, store.pull(torch.zeros(len(gradient))))


def test_a_bound_module_computes_the_same_and_lives_in_the_vector() -> None:
    model = mlp(4, 2, (10, 7))
    initialize(model, 1)
    observations = torch.randn(3, 4)
    before = [output.detach().clone() for output in model(observations)]
    vector, gradient = flat_zeros(model), flat_zeros(model)
    bind(model, vector, gradient)
    for output, expected in zip(model(observations), before, strict=True):
        assert torch.equal(output, expected)
    vector.zero_()
    assert all(not parameter.any() for parameter in model.parameters())


def test_every_parameter_starts_at_a_cache_line_and_the_padding_stays_zero() -> None:
    model = mlp(4, 2, (10, 7))
    vector, gradient = flat_zeros(model), flat_zeros(model)
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
    assert store.pull(local) == Pulled(updates=0, env_steps=0, torn=False, stopped=False)
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


def without_the_kernel(*arguments: object, **options: object) -> None:
    raise TypeError("an unexpected keyword argument")


def of_other_numbers(parameters: list[torch.Tensor], *arguments: object, **options: object) -> None:
    parameters[0] += 1


@pytest.mark.parametrize("kernel", [None, without_the_kernel, of_other_numbers])
@pytest.mark.parametrize("options", [{}, {"beta1": 0.3, "beta2": 0.5, "epsilon": 1e-3}, {"beta1": 0.0, "beta2": 0.0}])
def test_without_torchs_kernel_adam_makes_the_same_steps(
    kernel: object, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(SIZE, generator=generator)
    fused = adam_store(initial, **options)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_fused_adam_", kernel) if kernel else patch.delattr(torch, "_fused_adam_")
        plain = adam_store(initial, **options)
    assert (fused.optimizer._step, plain.optimizer._step) == (fused_adam, plain_adam)  # type: ignore[attr-defined]
    for count in range(100):
        gradient = torch.randn(SIZE, generator=generator) * 10.0 ** -(count % 7)
        for store in (fused, plain):
            push(store, 0, gradient, 0.01)
        for name, vector in fused.vectors().items():
            torch.testing.assert_close(plain.vectors()[name], vector, rtol=1e-6, atol=1e-6)


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
    store = SharedStore(torch.ones(SIZE), SharedRMSProp(SIZE, decay=0.9, epsilon=0.1), Scoreboard(1))
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
    adam = SharedAdam(1, 0.9, 0.999, 1e-8)
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
    store = SharedStore(torch.zeros(SIZE), Meeting(SIZE), Scoreboard(2))
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

    store = SharedStore(torch.zeros(SIZE), Interrupted(SIZE), Scoreboard(1))
    push(store, 0, torch.ones(SIZE), 0.1)
    assert not taken[0].consistent


def modes_store(mode: str, scoreboard: Scoreboard, optimizer: SharedOptimizer | None = None) -> SharedStore:
    optimizer = optimizer or SharedAdam(SIZE)
    if mode == "sync":
        return SyncStore(torch.zeros(SIZE), optimizer, scoreboard, interval=10**9)
    if mode == "locked":
        return LockedStore(torch.zeros(SIZE), optimizer, scoreboard)
    return SharedStore(torch.zeros(SIZE), optimizer, scoreboard)


def gradient(count: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(count))


def push_some(store: SharedStore, counts: range) -> None:
    """Push from worker 0, known gradients with known counts."""
    local = torch.zeros(SIZE)
    for count in counts:
        assert store.push(0, gradient(count), 0.1, 10 * (count + 1), store.pull(local)) == 0


def counters(store: SharedStore) -> list[int]:
    return [store.updates, store.env_steps, store.overlapped_pushes, store.torn_pulls]


@pytest.mark.parametrize("mode", ["async", "locked", "sync"])
def test_a_restored_store_goes_on_bit_for_bit(mode: str) -> None:
    stores = [modes_store(mode, Scoreboard(1)) for _ in range(2)]
    push_some(stores[0], range(4))
    stores[0].barrier.request()
    push_some(stores[0], range(4, 5))
    capture = stores[0].capture()
    assert capture.snapshot.consistent
    assert (capture.snapshot.updates, capture.snapshot.env_steps) == (5, 50)
    assert torch.equal(capture.snapshot.parameters, stores[0].parameters)
    push_some(stores[0], range(5, 8))  # of which the capture knows nothing
    stores[1].restore(capture.tensors)
    assert counters(stores[1]) == [5, 50, 0, 0]
    assert torch.equal(stores[1].parameters, capture.snapshot.parameters)
    push_some(stores[1], range(5, 8))
    assert counters(stores[1]) == counters(stores[0])
    assert stores[1].sha256() == stores[0].sha256()


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_a_store_restored_for_another_number_of_workers_keeps_its_totals(workers: int) -> None:
    before, after, local = adam_store(torch.zeros(SIZE), 3), adam_store(torch.zeros(SIZE), workers), torch.zeros(SIZE)
    for worker in range(3):
        before.push(worker, gradient(worker), 0.1, 10**worker, before.pull(local)._replace(torn=True))
    after.restore(before.capture().tensors)
    assert counters(after) == [3, 111, 0, 3]
    assert after.snapshot().consistent
    assert [after.env_steps_of(worker) for worker in range(workers)][1:3] == [10, 100][: workers - 1]


@pytest.mark.parametrize("name", ["parameters", "moment.exp_avg", "moment.exp_avg_sq", "counters"])
def test_tensors_that_do_not_fit_a_store_are_refused(name: str) -> None:
    store = adam_store(torch.zeros(SIZE))
    tensors = store.capture().tensors
    with pytest.raises(ValueError, match=r"."):
        store.restore(tensors | {name: torch.zeros(2, 7)})
    del tensors[name]
    with pytest.raises(KeyError):
        store.restore(tensors)


def test_a_roll_back_sets_parameters_and_moments_back_and_the_counters_go_on() -> None:
    store = adam_store(torch.zeros(SIZE))
    push_some(store, range(3))
    good, digest = store.capture().tensors, store.sha256()
    push_some(store, range(3, 5))
    store.parameters[7] = torch.nan
    store.roll_back(good)
    assert store.sha256() == digest
    assert counters(store) == [5, 50, 0, 0]


@pytest.mark.parametrize(("mode", "due"), [("async", 1), ("locked", 1), ("sync", 0)])
def test_where_steps_are_made_by_one_worker_for_all_it_makes_a_checkpoint_due_too(mode: str, due: int) -> None:
    store = modes_store(mode, Scoreboard(1))
    store.barrier.request()
    assert store.barrier.due(0) == due
    push_some(store, range(1))
    assert store.barrier.due(0) == 1


@pytest.mark.parametrize("mode", ["async", "locked"])
def test_snapshots_that_are_not_queued_are_taken_when_their_env_steps_have_come(mode: str) -> None:
    store = modes_store(mode, Scoreboard(1))
    assert store.next_snapshot(0) is None  # nothing is worth saying of the untrained network
    push_some(store, range(3))
    assert store.next_snapshot(31) is None
    for _ in range(2):  # releasing is for queues
        snapshot = store.next_snapshot(30)
        assert snapshot is not None
        assert (snapshot.updates, snapshot.env_steps) == (3, 30)
        store.release(1)
    assert not store.queue_is_full


def test_a_pull_tells_that_the_run_is_being_ended() -> None:
    scoreboard = Scoreboard(1)
    store = SharedStore(torch.zeros(SIZE), SharedAdam(SIZE), scoreboard)
    assert not store.pull(torch.zeros(SIZE)).stopped
    scoreboard.request(FINISH)
    assert store.pull(torch.zeros(SIZE)).stopped


@pytest.mark.parametrize("mode", ["async", "locked", "sync"])
def test_a_late_push_of_a_replaced_process_changes_nothing(mode: str) -> None:
    scoreboard = Scoreboard(1)
    store = modes_store(mode, scoreboard)
    push_some(store, range(2))
    digest, pulled = store.sha256(), store.pull(torch.zeros(SIZE))
    scoreboard.replace(0)
    assert store.push(0, gradient(2), 0.1, 30, pulled) is None
    assert store.sha256() == digest
    assert counters(store) == [2, 20, 0, 0]
    store.incarnation = 1  # as in the process of its successor
    push_some(store, range(2, 3))
    assert counters(store) == [3, 30, 0, 0]


class Deadly(SharedAdam):
    """Its process dies in the middle of a step."""

    def __init__(self) -> None:
        super().__init__(SIZE // 2)

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
        super().step(parameters[: SIZE // 2], gradient[: SIZE // 2], learning_rate, count)
        die()


def test_a_push_in_the_middle_of_which_its_worker_died_is_closed() -> None:
    scoreboard = Scoreboard(2)
    store = SharedStore(torch.zeros(SIZE), Deadly(), scoreboard)
    assert killed(push, store, 1, torch.ones(SIZE), 0.1)
    assert store.parameters[: SIZE // 2].any()  # half a step was made
    assert store.pull(torch.zeros(SIZE)).torn
    assert not store.snapshot().consistent
    store.close_push(1)
    assert not store.pull(torch.zeros(SIZE)).torn
    assert store.snapshot().consistent
    assert store.updates == 0


def test_closing_the_push_of_a_worker_that_was_not_pushing_changes_nothing() -> None:
    store = adam_store(torch.zeros(SIZE))
    push_some(store, range(2))
    store.close_push(0)
    assert counters(store) == [2, 20, 0, 0]
    assert store.snapshot().consistent


def test_a_worker_that_dies_with_the_lock_lets_the_others_push() -> None:
    class Stuck(SharedAdam):
        """Holds on in the middle of worker 0's step."""

        def step(self, parameters: torch.Tensor, gradient: torch.Tensor, learning_rate: float, count: int) -> None:
            super().step(parameters, gradient, learning_rate, count)
            if gradient[0] == 0:
                entered.send(None)
                time.sleep(600)

    arrived, entered = multiprocessing.Pipe(duplex=False)
    scoreboard = Scoreboard(2)
    store = modes_store("locked", scoreboard, Stuck(SIZE))
    with forked(push, store, 0, torch.zeros(SIZE), 0.1) as holder:
        assert arrived.poll(SECONDS)
        with forked(push, store, 1, torch.ones(SIZE), 0.1) as other:
            wait_until(lambda: scoreboard.beats(1) > 20)  # it tries for the lock, and shows that it lives
            assert store.updates == 0
            holder.kill()
            assert exit_code(other) == 0
    assert store.updates == 1
