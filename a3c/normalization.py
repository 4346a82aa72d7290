"""Scales that find themselves: running statistics of observations and returns, and the layer that applies them."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a3c.config import Config

if TYPE_CHECKING:
    from a3c.rollouts import Rollout

CLIP = 10.0  # standard deviations beyond which a normalised observation is cut off
FLOOR = 1e-4  # the least standard deviation that is divided by: a feature that never changes stays small
LARGEST_RETURN = 4.0  # in units of the spread, at most: rare rewards are large beside the spread of mostly nothing


class Normalizer(nn.Module):
    """Observations in standard deviations from their mean, and the unit of the returns; the run's statistics set both.

    `statistics` [2 * D + 1] is no parameter that is learned, but it lies behind those that are, so that whatever copies
    or saves them has it too: D means, D inverse standard deviations, and the unit of the returns.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.statistics = nn.Parameter(
            torch.from_numpy(combined(np.zeros((1, row_size(size))), size)), requires_grad=False
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Normalised observations [..., D]."""
        mean, inverse = self.statistics[: self.size], self.statistics[self.size : -1]
        return ((observations - mean) * inverse).clamp(-CLIP, CLIP)

    def closed_form(self, observations: NDArray[Any], out: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same in NumPy, written into `out` [..., D]."""
        statistics = self.statistics.numpy()
        np.subtract(observations, statistics[: self.size], out)
        out *= statistics[self.size : -1]
        return np.clip(out, -CLIP, CLIP, out)

    def set_unit(self, row: NDArray[np.float64]) -> None:
        """Take the unit of returns from one worker's row: of the first rollout, before any statistics are shared."""
        self.statistics.data[-1] = float(combined(row[None], self.size)[-1])

    @property
    def unit(self) -> float:
        """The spread of the returns."""
        return float(self.statistics[-1])


class RunningStatistics:
    """One worker's count, means and sums of squared deviations: of its observations, and of its discounted returns.

    `row` is what is shared: [count, means, squares, return count, return mean, return squares, largest return].
    Chan, Golub and LeVeque (1983) add a batch, and the rows of all workers.
    """

    def __init__(self, config: Config, size: int):
        self._size, self._count, self._gamma = size, config.envs_per_worker, config.loss.gamma
        self._observations, self._returns = config.network.normalize_observations, config.loss.value_scale is None
        self.row = np.zeros(row_size(size))
        self.restart()

    def restart(self) -> None:
        """All environments begin an episode."""
        self._accumulated = np.zeros(self._count)  # the discounted rewards so far, of each environment's episode

    def update(self, rollout: "Rollout", ended: NDArray[np.bool_]) -> None:
        """Add a rollout; `ended` [T, B] is True where an episode ended."""
        rewards, valid = rollout.rewards, rollout.valid
        size, row = self._size, self.row
        if self._observations:
            batch = rollout.flat_observations.reshape(valid.size, -1)[valid.reshape(-1), :size].astype(np.float64)
            row[: 2 * size + 1] = _added(row[: 2 * size + 1], _summary(batch))
        if self._returns:
            returns = np.empty(rewards.shape)
            for t, reward in enumerate(rewards):
                self._accumulated = self._accumulated * self._gamma + reward
                returns[t] = self._accumulated
                self._accumulated[ended[t]] = 0.0
            chosen = returns[valid]
            row[-4:-1] = _added(row[-4:-1], _summary(chosen[:, None]))
            row[-1] = max(row[-1], float(np.abs(chosen).max(initial=0.0)))

    def state(self) -> list[float]:
        """What the row does not hold."""
        return self._accumulated.tolist()

    def restore(self, state: list[float]) -> None:
        """Resume where `state` was taken."""
        self._accumulated = np.array(state)


def row_size(size: int) -> int:
    """How many numbers a worker's row of D observed numbers has."""
    return 2 * size + 5


def combined(rows: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """The normaliser's statistics [2 * D + 1] of the rows [W, R] of all workers, added in their order."""
    observed, returned = rows[0, : 2 * size + 1], rows[0, -4:-1]
    for row in rows[1:]:
        observed, returned = _added(observed, row[: 2 * size + 1]), _added(returned, row[-4:-1])
    statistics = np.ones(2 * size + 1, np.float32)
    statistics[:size] = observed[1 : size + 1]
    if observed[0] > 1:
        statistics[size:-1] = 1 / np.maximum(np.sqrt(observed[size + 1 :] / observed[0]), FLOOR)
    if returned[0] > 1:
        unit = max(math.sqrt(returned[2] / returned[0]), float(rows[:, -1].max()) / LARGEST_RETURN)
        statistics[-1] = unit if unit > 0 else 1.0
    return statistics


def _summary(batch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count, means [D] and sums of squared deviations [D] of a batch [N, D]."""
    if not len(batch):
        return np.zeros(1 + 2 * batch.shape[1])
    mean = batch.mean(0)
    return np.concatenate(([len(batch)], mean, np.square(batch - mean).sum(0)))


def _added(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The summary of two summaries' numbers together."""
    count = first[0] + second[0]
    if not count:
        return first
    means, squares = np.split(np.stack((first[1:], second[1:])), 2, 1)
    change = means[1] - means[0]
    mean = means[0] + change * (second[0] / count)
    return np.concatenate(([count], mean, squares.sum(0) + change * change * (first[0] * second[0] / count)))
