"""Optimizers of flat vectors in shared memory; constructing one of `torch.optim` would cost a process over a second.

Who writes: every worker, unlocked on purpose (Hogwild, Recht et al. 2011): where two steps overlap, some elements keep
only one worker's contribution. An element itself is never torn: aligned 32-bit stores are atomic.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from shared.memory import SharedArray

COUNT = torch.zeros((), dtype=torch.float32, device="cpu")  # made once: making one takes longer than a small step
OFF: Any = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}


SLOW = "slow_parameters"  # among the moments of an optimizer that keeps such a copy
Place = slice | None  # of the elements to step; None: all


class SharedOptimizer(Protocol):
    """What a store needs of an optimizer."""

    moments: dict[str, SharedArray]  # by name, [P] each

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        """Step `parameters` [P] in place along `gradient` [P]; `count` is the number of this step, from 1."""


class SharedAdam:
    """Adam (Kingma and Ba 2015, Algorithm 1) with shared moments; equal to torch.optim.Adam(fused=True) bit for bit.

    The step count is the sum of the store's push counters: exact and unbounded, where a racing one loses increments.
    """

    def __init__(self, size: int, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8):
        self._options = beta1, beta2, epsilon
        self._exp_avg, self._exp_avg_sq = (SharedArray((size,), "float32") for _ in range(2))
        self.moments = {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}
        self._step = fused_adam if fused_adam_fits() else plain_adam

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        vectors: Sequence[Tensor] = (parameters, gradient, self._exp_avg.tensor, self._exp_avg_sq.tensor)
        if place is not None:
            vectors = [vector[place] for vector in vectors]
        self._step(vectors, *self._options, learning_rate, count)


def fused_adam(vectors: Sequence[Tensor], b1: float, b2: float, eps: float, lr: float, t: int) -> None:
    """Step t by the kernel of torch.optim.Adam(fused=True), which is private to torch."""
    p, g, m, v = vectors
    COUNT.fill_(t)
    torch._fused_adam_([p], [g], [m], [v], [], [COUNT], lr=lr, beta1=b1, beta2=b2, eps=eps, **OFF)


def plain_adam(vectors: Sequence[Tensor], b1: float, b2: float, eps: float, lr: float, t: int) -> None:
    """The same in NumPy, to 1e-6; each vector is stored once, as by the kernel."""
    p, g, m, v = (vector.numpy() for vector in vectors)
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g * g
    p -= lr / (1 - b1**t) * m / (np.sqrt(v) / math.sqrt(1 - b2**t) + eps)


def fused_adam_fits() -> bool:
    """Whether this torch has the kernel, and one small step with it gives Adam's numbers."""
    fused, plain = (torch.tensor([[1.0], [0.5], [0.25], [0.125]], device="cpu") for _ in range(2))
    plain_adam(plain.unbind(), 0.9, 0.999, 1e-8, 0.1, 3)
    try:
        fused_adam(fused.unbind(), 0.9, 0.999, 1e-8, 0.1, 3)
    except (AttributeError, TypeError, RuntimeError):
        return False
    return np.allclose(fused.numpy(), plain.numpy())


class SharedRMSProp:
    """The paper's RMSProp with a shared squared-gradient average (Mnih et al. 2016, equations S2 and S3).

    g <- decay * g + (1 - decay) * gradient^2,   parameters <- parameters - learning_rate * gradient / sqrt(g + epsilon)
    """

    def __init__(self, size: int, decay: float = 0.99, epsilon: float = 1e-8):
        self._decay, self._epsilon = decay, epsilon
        self.moments = {"square_avg": SharedArray((size,), "float32")}

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        square_avg = self.moments["square_avg"].tensor
        if place is not None:
            parameters, gradient, square_avg = parameters[place], gradient[place], square_avg[place]
        updated = torch.lerp(gradient.square(), square_avg, self._decay)
        square_avg.copy_(updated)  # stored once, so that no other worker reads a half-decayed average
        parameters.addcdiv_(gradient, updated.add_(self._epsilon).sqrt_(), value=-learning_rate)


class SharedSGD:
    """Plain gradient descent; it has no moments."""

    def __init__(self) -> None:
        self.moments: dict[str, SharedArray] = {}

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: Place = None) -> None:
        if place is not None:
            parameters, gradient = parameters[place], gradient[place]
        parameters.add_(gradient, alpha=-learning_rate)
