"""The head of an action in several parts, each of a kind of its own."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.heads import Array, Head, Part
from a3c.multi_categorical import EvaluatedSum, named, places, summed


@dataclass(frozen=True)
class Product:
    """Actions in several parts, each with a head of its own, independent of each other.

    An action is one vector of float32, part after part; parameters are all outputs, then all free ones.
    """

    heads: tuple[Head, ...]
    names: tuple[str, ...] | None  # of a Dict's parts; None: a Tuple
    action_dtype = np.float32

    @cached_property
    def _ours(self) -> list[NDArray[np.int64]]:
        """Which parameters are each head's."""
        outputs, free = (places(getattr(head, kind) for head in self.heads) for kind in ("outputs", "free"))
        last = outputs[-1].stop
        ranges = zip(outputs, free, strict=True)
        return [np.r_[own, slice(last + own_free.start, last + own_free.stop)] for own, own_free in ranges]

    @cached_property
    def _actions(self) -> list[slice]:
        return places(math.prod(head.action_shape) for head in self.heads)

    @cached_property
    def _noises(self) -> list[slice]:
        return places(math.prod(head.noise_shape) for head in self.heads)

    @property
    def outputs(self) -> int:
        return sum(head.outputs for head in self.heads)

    @property
    def free(self) -> int:
        return sum(head.free for head in self.heads)

    @property
    def groups(self) -> tuple[int, ...]:
        groups = [head.groups for head in self.heads]
        return sum(groups, ()) if all(groups) else ()

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self._actions[-1].stop,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self._noises[-1].stop,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        for head, place in zip(self.heads, self._noises, strict=True):
            part = np.empty((*noise.shape[:-1], *head.noise_shape), np.float32)
            head.draw_noise(rng, part)
            noise[..., place] = part.reshape(*noise.shape[:-1], -1)

    def noise_of(self, normal: Array) -> Array:
        shapes = [(*normal.shape[:-1], *head.noise_shape) for head in self.heads]
        parts = zip(self.heads, shapes, self._noises, strict=True)
        made = [head.noise_of(normal[..., place].reshape(shape)) for head, shape, place in parts]
        return np.concatenate([part.reshape(*normal.shape[:-1], -1) for part in made], -1)

    def sample(self, parameters: Array, noise: Array) -> Array:
        parts = zip(self.heads, self._ours, self._noises, strict=True)
        shaped = ((head, parameters[..., ours], noise[..., place]) for head, ours, place in parts)
        return self._joined([head.sample(own, part) for head, own, part in shaped], len(parameters))

    def mode(self, parameters: Array) -> Array:
        parts = zip(self.heads, self._ours, strict=True)
        return self._joined([head.mode(parameters[..., ours]) for head, ours in parts], len(parameters))

    def to_env(self, actions: NDArray[Any]) -> list[Any]:
        parts = [head.to_env(part) for head, part in zip(self.heads, self._split(actions), strict=True)]
        one_by_one = (
            part.tolist() if head.action_shape == () else part for head, part in zip(self.heads, parts, strict=True)
        )
        listed = zip(*one_by_one, strict=True)
        return [tuple(one) if self.names is None else dict(zip(self.names, one, strict=True)) for one in listed]

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedProduct":
        parts = zip(self.heads, self._ours, self._split(actions), strict=True)
        return EvaluatedProduct(
            [head.evaluate(np.ascontiguousarray(parameters[:, ours]), part) for head, ours, part in parts],
            self._ours,
            parameters.shape,
        )

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self.heads, self._ours, self._actions, strict=True)
        return summed(
            head.log_prob_entropy(parameters[..., ours], _cast(actions[..., place], head))
            for head, ours, place in parts
        )

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        names = self.names or [f"[{i}]" for i in range(len(self.heads))]
        taken = [None] * len(names) if action is None else [part[0] for part in self._split(action[None])]
        parts = zip(names, self.heads, self._ours, taken, strict=True)
        return named((name, head.describe(parameters[ours], own)) for name, head, ours, own in parts)

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self.heads, self._ours, strict=True)
        answers = [(head, *head.answer(parameters[..., ours])) for head, ours in parts]
        shares = [own for _, own, _ in answers]
        rows = [part.reshape(-1, math.prod(head.action_shape)).to(parameters.dtype) for head, _, part in answers]
        return torch.cat(shares, -1), torch.cat(rows, -1)

    def from_answer(self, actions: NDArray[Any]) -> Array:
        parts = zip(self.heads, self._split(actions), strict=True)
        return self._joined([head.from_answer(part) for head, part in parts], len(actions))

    def _split(self, actions: NDArray[Any]) -> list[NDArray[Any]]:
        shapes = [(len(actions), *head.action_shape) for head in self.heads]
        parts = zip(self.heads, shapes, self._actions, strict=True)
        return [actions[:, place].astype(head.action_dtype).reshape(shape) for head, shape, place in parts]

    @staticmethod
    def _joined(parts: list[NDArray[Any]], count: int) -> Array:
        return np.concatenate([part.reshape(count, -1).astype(np.float32) for part in parts], 1)


class EvaluatedProduct(EvaluatedSum):
    """N products of distributions at one action each."""

    def __init__(self, parts: list[Any], ours: list[NDArray[np.int64]], shape: tuple[int, ...]):
        super().__init__(parts)
        self._ours, self._shape = ours, shape

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        d_parameters = np.empty(self._shape, np.float32)
        for part, ours in zip(self._parts, self._ours, strict=True):
            d_parameters[:, ours] = part.backward(d_log_prob, d_entropy)
        return d_parameters


def _cast(actions: Tensor, head: Head) -> Tensor:
    """A part of joint actions as its head takes them."""
    shaped = actions.reshape(*actions.shape[:-1], *head.action_shape)
    return shaped if np.dtype(head.action_dtype).kind == "f" else shaped.long()
