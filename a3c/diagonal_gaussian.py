"""The head of real numbers."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.heads import Array, Part

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """Real numbers: pi(a|s) = N(mean, exp(log_std)^2) for each, independently; log_std depends on no observation.

    A Box with bounds is acted in with its middle as 0 and its bounds as -1 and 1; what lies beyond is cut off at the
    environment, and the log-probability stays that of what was sampled.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    groups, action_dtype = (), np.float32

    @cached_property
    def _affine(self) -> tuple[NDArray[np.float64], ...]:
        low, high = np.array(self.low), np.array(self.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(bounded, (high - low) / 2, 1.0), np.where(bounded, (high + low) / 2, 0.0), low, high

    @property
    def count(self) -> int:
        return len(self.low)

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def free(self) -> int:
        return self.count

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        rng.standard_normal(dtype=np.float32, out=noise)

    def noise_of(self, normal: Array) -> Array:
        return normal

    def sample(self, parameters: Array, noise: Array) -> Array:
        count = self.count
        scale: Array = np.exp(parameters[..., count:])
        return parameters[..., :count] + scale * noise

    def mode(self, parameters: Array) -> Array:
        return parameters[..., : self.count]

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        scale, middle, low, high = self._affine
        inside = np.clip(actions * scale + middle, low, high)
        if np.dtype(self.dtype).kind != "f":
            inside = np.rint(inside)
        return inside.astype(self.dtype).reshape(len(actions), *self.shape)

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedGaussian":
        return EvaluatedGaussian(parameters, actions)

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = parameters[..., : self.count], parameters[..., self.count :]
        z = (actions - mean) * torch.exp(-log_std)
        return (-0.5 * z * z - log_std - 0.5 * LOG_2PI).sum(-1), (log_std + 0.5 * (1 + LOG_2PI)).sum(-1)

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        scale, middle, *_ = self._affine
        mean, spread = parameters[: self.count] * scale + middle, np.exp(parameters[self.count :]) * scale
        taken = [None] * self.count if action is None else self.to_env(action[None]).reshape(-1).tolist()
        numbers = enumerate(zip(mean.tolist(), taken, spread.tolist(), strict=True))
        return [Part(f"[{i}]", *own) for i, own in numbers]

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale, middle, low, high = (parameters.new_tensor(bound.tolist()) for bound in self._affine)
        mean, spread = parameters[..., : self.count] * scale + middle, parameters[..., self.count :].exp() * scale
        actions = torch.minimum(torch.maximum(mean, low), high)
        return torch.cat((mean, spread), -1), actions if np.dtype(self.dtype).kind == "f" else actions.round()

    def from_answer(self, actions: NDArray[Any]) -> Array:
        scale, middle, *_ = self._affine
        own: Array = ((actions - middle) / np.where(scale > 0, scale, 1.0)).astype(np.float32)
        return own


class EvaluatedGaussian:
    """N diagonal Gaussians at one action each.

    With z = (a - mean) / std:   d log p / dmean = z / std,   d log p / dlog_std = z^2 - 1,   dH / dlog_std = 1
    """

    def __init__(self, parameters: Array, actions: NDArray[Any]):
        count = actions.shape[-1]
        log_std = parameters[:, count:]
        self._inverse = np.exp(-log_std)
        self._z = z = (actions - parameters[:, :count]) * self._inverse
        self.log_prob: Array = (np.float32(-0.5) * z * z - log_std - np.float32(0.5 * LOG_2PI)).sum(-1)
        self.entropy: Array = (log_std + np.float32(0.5 * (1 + LOG_2PI))).sum(-1)

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        z, d = self._z, d_log_prob[:, None]
        return np.concatenate((z * self._inverse * d, (z * z - 1) * d + d_entropy[:, None]), 1)
