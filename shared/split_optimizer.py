"""Optimizers around others: for a critic with a pace of its own, and for a slow copy of the parameters."""

import numpy as np
from torch import Tensor

from shared.memory import SharedArray
from shared.optimizers import SLOW, Place, SharedOptimizer


class SplitOptimizer:
    """Steps the actor's parameters and the critic's, which lie behind them, by optimizers and rates of their own.

    An actor whose gradient is all 0 is left alone: such an update is of the critic only, and no momentum moves what has
    nothing to learn.

    Args:
        rate: the critic's learning rate, in units of that of the step.
        weight_decay: of the critic's weights, decoupled from its gradient (Loshchilov and Hutter 2019).
    """

    def __init__(self, actor: SharedOptimizer, critic: SharedOptimizer, place: slice, rate: float, weight_decay: float):
        self._actor, self._critic, self._place = actor, critic, place
        self._rate, self._weight_decay = rate, weight_decay
        self.moments = {**critic.moments, **actor.moments}
        if actor is not critic:
            self.moments = {**actor.moments, **{f"critic.{name}": m for name, m in critic.moments.items()}}

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        before, rate = slice(0, self._place.start), learning_rate * self._rate
        if gradient.numpy()[before].any():
            self._actor.step(parameters, gradient, learning_rate, count, before)
        if self._weight_decay:
            parameters[self._place].mul_(1 - rate * self._weight_decay)
        self._critic.step(parameters, gradient, rate, count, self._place)


class SlowCopy:
    """Keeps a copy of the parameters that follows them slowly: a target network (Mnih et al. 2015; Lillicrap 2016).

    Args:
        share: of the way to the parameters that it moves with every step.
        interval: steps after which it becomes equal to them; 0: never at once.
    """

    def __init__(self, optimizer: SharedOptimizer, initial: Tensor, share: float, interval: int):
        self._optimizer, self._share, self._interval = optimizer, share, interval
        self._slow, self._copies = SharedArray(tuple(initial.shape), "float32"), SharedArray((1,))
        self._slow.array[:] = initial.detach().numpy()
        self._copies.array[:] = -1  # until the first step of a sitting, which may be a resumed run's
        self.moments = {**optimizer.moments, SLOW: self._slow}

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        self._optimizer.step(parameters, gradient, learning_rate, count, place)
        slow, fast = self._slow.array, parameters.numpy()
        if not self._interval:
            slow += np.float32(self._share) * (fast - slow)
            return
        if self._copies.numbers[0] < 0:
            self._copies.numbers[0] = (count - 1) // self._interval
        if count // self._interval > self._copies.numbers[0]:
            self._copies.numbers[0] = count // self._interval
            slow[:] = fast
