"""The head of several independent choices, each one of n; and what heads of several parts share."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.heads import Array, Categorical, EvaluatedCategorical, Part


@dataclass(frozen=True, slots=True)
class MultiCategorical:
    """One of so many actions for each of several choices, which are independent."""

    counts: tuple[int, ...]
    starts: tuple[int, ...]
    shape: tuple[int, ...]  # as the environment takes them
    free, action_dtype = 0, np.int64

    @property
    def outputs(self) -> int:
        return sum(self.counts)

    @property
    def groups(self) -> tuple[int, ...]:
        return self.counts

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (len(self.counts),)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.outputs,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        Categorical(self.outputs).draw_noise(rng, noise)

    def noise_of(self, normal: Array) -> Array:
        return Categorical(self.outputs).noise_of(normal)

    def sample(self, parameters: Array, noise: Array) -> NDArray[np.int64]:
        return self.mode(parameters - noise)

    def mode(self, parameters: Array) -> NDArray[np.int64]:
        return np.stack([part.argmax(-1) for part in self._split(parameters)], -1)

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        given: NDArray[Any] = actions + np.array(self.starts)
        return given.reshape(len(actions), *self.shape)

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedSum":
        parts = zip(self._split(parameters), actions.T, strict=True)
        return EvaluatedSum([EvaluatedCategorical(logits, chosen) for logits, chosen in parts])

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self._split(parameters), actions.unbind(-1), strict=True)
        return summed(Categorical(logits.shape[-1]).log_prob_entropy(logits, chosen) for logits, chosen in parts)

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        heads = map(Categorical, self.counts, self.starts)
        actions = [None] * len(self.counts) if action is None else action
        parts = zip(heads, self._split(parameters), actions, strict=True)
        return named((f"[{i}]", head.describe(*own)) for i, (head, *own) in enumerate(parts))

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        heads = map(Categorical, self.counts, self.starts)
        answers = [head.answer(logits) for head, logits in zip(heads, self._split(parameters), strict=True)]
        shares, actions = zip(*answers, strict=True)
        return torch.cat(shares, -1), torch.stack(actions, -1)

    def from_answer(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        own: NDArray[np.int64] = actions.astype(np.int64) - np.array(self.starts)
        return own

    def _split(self, parameters: Any) -> list[Any]:
        """Parameters [..., outputs], an array or a tensor, choice by choice."""
        return [parameters[..., place] for place in places(self.counts)]


class EvaluatedSum:
    """Independent distributions together: their log-probabilities and entropies add up."""

    def __init__(self, parts: list[Any]):
        self._parts = parts
        self.log_prob: Array = sum(part.log_prob for part in parts)
        self.entropy: Array = sum(part.entropy for part in parts)

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        return np.concatenate([part.backward(d_log_prob, d_entropy) for part in self._parts], 1)


def places(counts: Iterable[int]) -> list[slice]:
    """Where parts of so many numbers lie, one after the other."""
    return [slice(*pair) for pair in pairwise(accumulate(counts, initial=0))]


def named(parts: Iterable[tuple[str, list[Part]]]) -> list[Part]:
    """Parts of several distributions, their names beginning with what each is of."""
    return [part._replace(name=f"{name}{part.name}") for name, own in parts for part in own]


def summed(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy of independent distributions together."""
    log_probs, entropies = zip(*parts, strict=True)
    return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)
