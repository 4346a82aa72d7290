"""The head of switches, any of which may be on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from a3c.heads import TINY, Array, Part, taken, uniform


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Any of `count` actions at once: pi(a_i = 1|s) = sigmoid(logit_i), independently."""

    count: int
    shape: tuple[int, ...]
    free, groups, action_dtype = 0, (), np.int8

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        rng.random(dtype=np.float32, out=noise)  # from which the logistic distribution follows
        np.clip(noise, TINY, 1 - 2**-24, out=noise)
        np.log(noise / (1 - noise), out=noise)

    def noise_of(self, normal: Array) -> Array:
        below = uniform(normal)
        return np.log(below / (1 - below))  # type: ignore[no-any-return]

    def sample(self, parameters: Array, noise: Array) -> NDArray[np.int8]:
        return (parameters > noise).astype(np.int8)

    def mode(self, parameters: Array) -> NDArray[np.int8]:
        return (parameters > 0).astype(np.int8)

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        return actions.reshape(len(actions), *self.shape)

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedBernoulli":
        return EvaluatedBernoulli(parameters, actions)

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_prob = -functional.softplus(parameters * (1 - 2 * actions.to(parameters.dtype)))
        entropy = functional.softplus(parameters) - parameters * parameters.sigmoid()
        return log_prob.sum(-1), entropy.sum(-1)

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        shares = enumerate(np.exp(-np.logaddexp(0, -parameters)).tolist())
        return [Part(f"[{i}]", share, taken(action, action is not None and action[i])) for i, share in shares]

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return parameters.sigmoid(), (parameters > 0).long()

    def from_answer(self, actions: NDArray[Any]) -> NDArray[np.int8]:
        return actions.astype(np.int8)


class EvaluatedBernoulli:
    """N vectors of Bernoulli distributions at one action each.

    With p = sigmoid(logit):   d log p_a / dlogit = a - p,   dH / dlogit = -logit * p * (1 - p)
    """

    def __init__(self, logits: Array, actions: NDArray[Any]):
        self._logits, self._actions = logits, actions.astype(np.float32)
        self._probs = np.exp(-np.logaddexp(0, -logits))
        self.log_prob: Array = -np.logaddexp(0, logits * (1 - 2 * self._actions)).sum(-1)
        self.entropy: Array = (np.logaddexp(0, logits) - logits * self._probs).sum(-1)

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        spread = self._logits * self._probs * (1 - self._probs)
        d_logits: Array = (self._actions - self._probs) * d_log_prob[:, None] - spread * d_entropy[:, None]
        return d_logits
