"""A link whose worker acts with old parameters, so that staleness can be set and its cost measured."""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from shared.scoreboard import Scoreboard
from shared.store import Pulled, SharedStore, StaleGradientError
from workers.link import SharedMemoryLink


class LaggingLink(SharedMemoryLink):
    """Between two rollouts it hands out what it pulled at least `staleness` updates ago, or its first pull until then.

    A pull between two minibatches, or before a correction, is of now.
    """

    def __init__(self, worker_index: int, store: SharedStore, scoreboard: Scoreboard, staleness: int):
        super().__init__(worker_index, store, scoreboard)
        self._staleness, self._pulls = staleness, deque[tuple[Pulled, Tensor]]()

    def pull(self, into: Tensor) -> Pulled:
        self._now = super().pull(into)
        self._pulls.append((self._now, into.clone()))
        while len(self._pulls) > 1 and self._pulls[1][0].updates <= self._now.updates - self._staleness:
            self._pulls.popleft()
        pulled, parameters = self._pulls[0]
        into.copy_(parameters)
        return pulled._replace(env_steps=self._now.env_steps, stopped=self._now.stopped)

    def first(self, pulled: Pulled, minibatches: int) -> int:
        return super().first(self._now, minibatches)

    def pull_again(self, into: Tensor) -> Pulled:
        self._now = super().pull_again(into)
        return self._now

    def push(self, gradient: Tensor, learning_rate: float, pulled: Pulled) -> int | None:
        older = self._now.updates - pulled.updates
        if older > self._store.max_staleness:
            raise StaleGradientError
        staleness = super().push(gradient, learning_rate, self._now)
        return None if staleness is None else staleness + older

    def _state(self) -> dict[str, Any]:
        pulls = [[pulled.updates, pulled.torn, parameters.numpy()] for pulled, parameters in self._pulls]
        return {**super()._state(), "pulls": pulls}

    def _restore(self, state: dict[str, Any]) -> bool:
        for updates, torn, parameters in state["pulls"]:
            self._pulls.append((Pulled(updates, 0, torn), torch.from_numpy(parameters)))
        return super()._restore(state)
