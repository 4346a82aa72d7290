"""The parameter store: what a worker pulls from and pushes to. The one seam at which the modes differ."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared.memory import SharedArray
from shared.optimizers import SharedOptimizer

SNAPSHOT_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the shared parameters."""

    parameters: Tensor  # [P], the reader's own
    updates: int  # shared optimizer steps it contains
    consistent: bool  # no step was under way while it was copied; else up to one step per worker is there in part


class SharedStore:
    """Shared parameters, stepped without a lock by whoever pushes (`--mode async`, Hogwild).

    Written by every worker at once: the parameters and the optimizer's moments. A pull that overlaps another worker's
    push copies some elements from before and some from after it; Hogwild tolerates that (docs/decisions/0002).
    Written by one worker each: its two counters of pushes begun and pushes done. Their sums are the number of shared
    updates: no increment is ever lost, and each process can tell whether a push is under way.
    """

    def __init__(self, initial: Tensor, optimizer: SharedOptimizer, workers: int):
        self._parameters = SharedArray(tuple(initial.shape), "float32")
        self._parameters.array[:] = initial.detach().numpy()
        self.optimizer = optimizer
        self._begun = SharedArray((workers,), "int64")
        self._done = SharedArray((workers,), "int64")

    @property
    def parameters(self) -> Tensor:
        """The shared vector itself, [P]."""
        return torch.from_numpy(self._parameters.array)

    @property
    def updates(self) -> int:
        """Optimizer steps made so far, by anyone."""
        return int(self._done.array.sum())

    def pull(self, into: Tensor) -> int:
        """Copy the shared parameters into [P]; return how many updates had been made before."""
        updates = self.updates
        np.copyto(into.numpy(), self._parameters.array)
        return updates

    def push(self, worker_index: int, gradient: Tensor, learning_rate: float, pulled: int) -> int:
        """Step the shared optimizer along a gradient [P] that was computed at the pull which returned `pulled`.

        Returns: the staleness, updates made by anyone between that pull and this push.
        """
        before = self.updates
        self._begun.array[worker_index] += 1
        self.optimizer.step(self.parameters, gradient, learning_rate, before + 1)
        self._done.array[worker_index] += 1
        return before - pulled

    def snapshot(self) -> Snapshot:
        """A copy during which nobody pushed, or after many attempts one that says that somebody did."""
        for _ in range(SNAPSHOT_ATTEMPTS):
            begun = int(self._begun.array.sum())
            if begun != self.updates:
                continue
            copy = self.parameters.clone()
            if int(self._begun.array.sum()) == begun:
                return Snapshot(copy, begun, consistent=True)
        return Snapshot(self.parameters.clone(), self.updates, consistent=False)
