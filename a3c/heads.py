"""Policy heads: what an action space needs of a network. A new kind of action is a new class here.

A head turns the outputs of the linear policy layer, *parameters* [..., outputs], into a distribution over actions. It
has a NumPy side, for acting and for the closed form of the gradient, and a torch side for automatic differentiation; a
test holds them together.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
TINY = np.finfo(np.float32).tiny  # a float32 exponential variate is exactly 0 once in ten million draws


class Evaluated(Protocol):
    """A batch of N distributions at one action each."""

    log_prob: Array  # [N], log pi(a|s)
    entropy: Array  # [N], in nats

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        """dL/dparameters [N, outputs], given dL/dlog_prob [N] and dL/dentropy [N]."""


class Head(Protocol):
    """A distribution over the actions of one space; the dtype and the shapes are of one action and of its noise."""

    @property
    def outputs(self) -> int: ...  # of the linear policy layer
    @property
    def action_shape(self) -> tuple[int, ...]: ...
    @property
    def action_dtype(self) -> Any: ...
    @property
    def noise_shape(self) -> tuple[int, ...]: ...

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        """Fill `noise` [..., *noise_shape] for so many actions at once."""

    def sample(self, parameters: Array, noise: Array) -> NDArray[Any]:
        """Actions [B, *action_shape], sampled with noise [B, *noise_shape]."""

    def mode(self, parameters: Array) -> NDArray[Any]:
        """The most probable actions [B, *action_shape]."""

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions as the environment takes them."""

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> Evaluated:
        """Log-probabilities and entropies of N actions, with their derivative."""

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The same for autograd: [T, B] each, of parameters [T, B, outputs] and actions [T, B, *action_shape]."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `count` actions: pi(a|s) = softmax(logits)_a. The environment calls the first of them `start`."""

    count: int
    start: int = 0

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def action_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def action_dtype(self) -> Any:
        return np.int64

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        # argmax(logits + Gumbel noise) is a sample of softmax(logits); -log of an Exp(1) variate is Gumbel.
        rng.standard_exponential(dtype=np.float32, out=noise)
        np.log(np.maximum(noise, TINY, out=noise), out=noise)

    def sample(self, parameters: Array, noise: Array) -> NDArray[np.int64]:
        return (parameters - noise).argmax(-1)  # type: ignore[no-any-return]

    def mode(self, parameters: Array) -> NDArray[np.int64]:
        return parameters.argmax(-1)  # type: ignore[no-any-return]

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        return actions + self.start if self.start else actions

    def probabilities(self, parameters: Array) -> Array:
        """pi(a|s), [B, count]."""
        weights = np.exp(parameters - parameters.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedCategorical":
        return EvaluatedCategorical(parameters, actions)

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = parameters.log_softmax(-1)
        chosen = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return chosen, -(log_probs.exp() * log_probs).sum(-1)


class EvaluatedCategorical:
    """N categorical distributions at one action each.

    With p = softmax(logits), H its entropy:
        d log p_a / dlogits = onehot(a) - p,   dH / dlogits = -p * (log p + H)
    """

    def __init__(self, logits: Array, actions: NDArray[Any]):
        log_probs = logits - np.maximum.reduce(logits, -1, keepdims=True)
        log_probs -= np.log(np.add.reduce(np.exp(log_probs), -1, keepdims=True))  # [N, A]
        self._log_probs, self._probs = log_probs, np.exp(log_probs)
        self._minus_entropy = np.add.reduce(self._probs * log_probs, -1)
        self._chosen = np.arange(0, logits.size, logits.shape[1]) + actions  # of the flattened logits
        self.log_prob: Array = log_probs.reshape(-1)[self._chosen]
        self.entropy: Array = -self._minus_entropy

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        coefficient = -d_entropy
        d_logits: Array = self._log_probs * coefficient[:, None]
        d_logits -= (d_log_prob + coefficient * self._minus_entropy)[:, None]
        d_logits *= self._probs
        d_logits.reshape(-1)[self._chosen] += d_log_prob
        return d_logits


def head_for(space: gymnasium.Space[Any]) -> Head:
    """The head for an action space; a ValueError where there is none."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    found = f"{type(space).__name__}{space.shape or ''}"
    raise ValueError(f"acts in {found}; supported is Discrete (one of n actions)")
