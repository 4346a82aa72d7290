"""Optimizers whose state lies in shared memory and which many processes step at once.

Both work on flat vectors and need no `torch.optim`: constructing its first optimizer costs a process over a second.
Who writes: every worker, unlocked on purpose (Hogwild, Recht et al. 2011): where two steps overlap, some elements keep
only one worker's contribution. An element itself is never torn: aligned 32-bit stores are atomic.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shared.memory import SharedArray

# A scalar for torch, made once in every process: making one takes longer than a small step. As a part of the optimizer
# it would be passed to other processes, as memory that all of them write to.
COUNT = torch.zeros((), dtype=torch.float32, device="cpu")


class SharedOptimizer(Protocol):
    """What a store needs of an optimizer."""

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int) -> None:
        """Step `parameters` [P] in place along `gradient` [P]; `count` is the number of this step, from 1."""

    def state(self) -> dict[str, Tensor]:
        """The shared moments by name, [P] each."""


@dataclass(frozen=True, slots=True)
class AdamOptions:
    """Decay rates and denominator term of Adam."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True, slots=True)
class RMSPropOptions:
    """Decay rate and denominator term of RMSProp."""

    decay: float = 0.99
    epsilon: float = 1e-8


class SharedAdam:
    """Adam (Kingma and Ba 2015, Algorithm 1) with shared moments; equal to torch.optim.Adam(fused=True) bit for bit.

    The step count is not kept here but handed in: it is the sum of the store's push counters, shared, exact, and
    unbounded, where torch's float32 count stops at 2^24 and a racing one loses increments.
    """

    def __init__(self, size: int, options: AdamOptions):
        self._options = options
        self._exp_avg = SharedArray((size,), "float32")
        self._exp_avg_sq = SharedArray((size,), "float32")

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int) -> None:
        COUNT.fill_(count)
        torch._fused_adam_(
            [parameters],
            [gradient],
            [self._exp_avg.tensor],
            [self._exp_avg_sq.tensor],
            [],
            [COUNT],
            lr=learning_rate,
            beta1=self._options.beta1,
            beta2=self._options.beta2,
            eps=self._options.epsilon,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        return {"exp_avg": self._exp_avg.tensor, "exp_avg_sq": self._exp_avg_sq.tensor}


class SharedRMSProp:
    """The paper's RMSProp with a shared squared-gradient average (Mnih et al. 2016, equations S2 and S3).

    g <- decay * g + (1 - decay) * gradient^2,   parameters <- parameters - learning_rate * gradient / sqrt(g + epsilon)
    """

    def __init__(self, size: int, options: RMSPropOptions):
        self._options = options
        self._square_avg = SharedArray((size,), "float32")

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int) -> None:
        square_avg = self._square_avg.tensor
        # Computed aside and stored once, so that no other worker reads a half-decayed average.
        updated = torch.lerp(gradient.square(), square_avg, self._options.decay)
        square_avg.copy_(updated)
        parameters.addcdiv_(gradient, updated.add_(self._options.epsilon).sqrt_(), value=-learning_rate)

    def state(self) -> dict[str, Tensor]:
        return {"square_avg": self._square_avg.tensor}
