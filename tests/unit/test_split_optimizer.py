"""A critic with a pace of its own, and a slow copy of the parameters."""

import numpy as np
import torch

from shared.optimizers import SLOW, SharedAdam, SharedRMSProp, SharedSGD
from shared.split_optimizer import SlowCopy, SplitOptimizer

SIZE, PLACE = 12, slice(5, 10)


def vectors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SIZE, generator=generator), torch.randn(SIZE, generator=generator)


def test_each_part_is_stepped_as_if_it_were_alone() -> None:
    parameters, gradient = vectors()
    before = parameters.clone()
    optimizer = SplitOptimizer(SharedSGD(), SharedAdam(SIZE), PLACE, rate=3.0, weight_decay=0.0)
    alone = before[PLACE].clone()
    adam = SharedAdam(5)
    for count in (1, 2, 3):
        optimizer.step(parameters, gradient, 0.1, count)
        adam.step(alone, gradient[PLACE], 0.1 * 3.0, count)
    torch.testing.assert_close(parameters[:5], before[:5] - 3 * 0.1 * gradient[:5])
    assert torch.equal(parameters[PLACE], alone)
    assert torch.equal(parameters[10:], before[10:])  # what is learned by nobody
    assert set(optimizer.moments) == {"critic.exp_avg", "critic.exp_avg_sq"}


def test_an_update_of_the_critic_alone_moves_nothing_else_whatever_the_momentum() -> None:
    parameters, gradient = vectors()
    adam = SharedAdam(SIZE)
    optimizer = SplitOptimizer(adam, adam, PLACE, rate=1.0, weight_decay=0.0)
    optimizer.step(parameters, gradient, 0.1, 1)
    before, alone = parameters.clone(), gradient.clone()
    alone[:5] = 0
    optimizer.step(parameters, alone, 0.1, 2)
    assert torch.equal(parameters[:5], before[:5])
    assert not torch.equal(parameters[PLACE], before[PLACE])


def test_weight_decay_takes_its_share_of_the_critic_alone() -> None:
    parameters, _ = vectors()
    before = parameters.clone()
    critic = SharedSGD()
    SplitOptimizer(critic, critic, PLACE, rate=2.0, weight_decay=0.5).step(parameters, torch.zeros(SIZE), 0.1, 1)
    torch.testing.assert_close(parameters[PLACE], before[PLACE] * (1 - 0.1 * 2.0 * 0.5))
    assert torch.equal(parameters[:5], before[:5])


def test_a_part_of_rmsprop_is_rmsprop_of_that_part() -> None:
    parameters, gradient = vectors()
    alone, whole, part = parameters[PLACE].clone(), SharedRMSProp(SIZE), SharedRMSProp(5)
    for count in (1, 2):
        whole.step(parameters, gradient, 0.1, count, PLACE)
        part.step(alone, gradient[PLACE].clone(), 0.1, count)
    assert torch.equal(parameters[PLACE], alone)


def test_a_slow_copy_moves_by_its_share_or_every_so_many_steps() -> None:
    parameters, gradient = vectors()
    start = parameters.clone()
    drifting = SlowCopy(SharedSGD(), parameters, share=0.25, interval=0)
    drifting.step(parameters, gradient, 0.1, 1)
    np.testing.assert_allclose(drifting.moments[SLOW].array, start + 0.25 * (parameters - start), rtol=1e-6)
    parameters = start.clone()
    copied = SlowCopy(SharedSGD(), parameters, share=1.0, interval=3)
    for count in range(1, 8):
        copied.step(parameters, gradient, 0.1, count)
        expected = start - 0.1 * gradient * (count - count % 3)
        np.testing.assert_allclose(copied.moments[SLOW].array, expected, rtol=1e-4, atol=1e-5)
