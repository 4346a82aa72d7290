"""Policy heads: what an action space needs of a network. A new kind of action is a new file beside this one.

A head turns the outputs of the linear policy layer and its own free parameters, together *parameters* [..., outputs +
free], into a distribution over actions. It has a NumPy side, for acting and for the closed form of the gradient, and a
torch side for automatic differentiation; a test holds them together.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from a3c.spaces import ObservationSpec, Space, kind_of

Array = NDArray[np.float32]
TINY = np.finfo(np.float32).tiny  # a float32 exponential variate is exactly 0 once in ten million draws
MASKED = np.float32(-1e8)  # the logit of an action that is not allowed: its probability is exactly 0


class Part(NamedTuple):
    """One number that describes a distribution: a probability, or the mean of a real number and its spread."""

    name: str
    value: float
    taken: float | None  # what is done: 0 or 1 beside a probability, else the number itself; None: nothing
    spread: float | None = None  # a standard deviation; None: `value` is a probability


class Evaluated(Protocol):
    """A batch of N distributions at one action each."""

    log_prob: Array  # [N], log pi(a|s)
    entropy: Array  # [N], in nats

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        """dL/dparameters [N, outputs + free], given dL/dlog_prob [N] and dL/dentropy [N]."""


class Head(Protocol):
    """A distribution over the actions of one space; the dtype and the shapes are of one action and of its noise."""

    @property
    def outputs(self) -> int: ...  # of the linear policy layer
    @property
    def free(self) -> int: ...  # parameters behind them that no observation changes
    @property
    def groups(self) -> tuple[int, ...]: ...  # outputs of which a mask must allow one each; () where nothing is masked
    @property
    def action_shape(self) -> tuple[int, ...]: ...
    @property
    def action_dtype(self) -> Any: ...
    @property
    def noise_shape(self) -> tuple[int, ...]: ...

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        """Fill `noise` [..., *noise_shape] for so many actions at once."""

    def noise_of(self, normal: Array) -> Array:
        """The same of standard normal numbers [..., *noise_shape], so that noise may be correlated."""

    def sample(self, parameters: Array, noise: Array) -> NDArray[Any]:
        """Actions [B, *action_shape], sampled with noise [B, *noise_shape]."""

    def mode(self, parameters: Array) -> NDArray[Any]:
        """The most probable actions [B, *action_shape]."""

    def to_env(self, actions: NDArray[Any]) -> Any:
        """Actions as a vector environment takes them; where each has several parts, a list of so many."""

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> Evaluated:
        """Log-probabilities and entropies of N actions, with their derivative."""

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The same for autograd, of parameters [..., outputs + free] and actions [..., *action_shape]."""

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        """One distribution and the action that is taken (None: none), in the environment's numbers, for display."""

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """What a client is told, in the environment's numbers: the distribution [B, K] and the most probable actions.

        A distribution is its probabilities; of real numbers, their means and then their standard deviations. Actions
        are one number each [B], or all parts of each in one row [B, N].
        """

    def from_answer(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Such actions as the head counts them, [B, *action_shape]."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `count` actions: pi(a|s) = softmax(logits)_a. The environment calls the first of them `start`."""

    count: int
    start: int = 0
    free, action_shape, action_dtype = 0, (), np.int64

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def groups(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        # argmax(logits + Gumbel noise) is a sample of softmax(logits); -log of an Exp(1) variate is Gumbel.
        rng.standard_exponential(dtype=np.float32, out=noise)
        np.log(np.maximum(noise, TINY, out=noise), out=noise)

    def noise_of(self, normal: Array) -> Array:
        return np.log(-np.log(uniform(normal)))

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

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        shares = enumerate(self.probabilities(parameters).tolist())
        return [Part(f"={self.start + i}", share, taken(action, action == i)) for i, share in shares]

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        # Actions are of the logits, as in `mode`: rounding may have made two probabilities one.
        return parameters.softmax(-1), parameters.argmax(-1) + self.start

    def from_answer(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        return actions.astype(np.int64) - self.start


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


def head_for(space: Space) -> Head:
    """The head for an action space; a ValueError where there is none. Only what it needs is imported."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        from a3c.multi_categorical import MultiCategorical

        counts, starts = (np.asarray(numbers).reshape(-1).tolist() for numbers in (space.nvec, space.start))
        return MultiCategorical(tuple(counts), tuple(starts), space.shape)
    if isinstance(space, spaces.MultiBinary):
        from a3c.bernoulli import Bernoulli

        return Bernoulli(math.prod(space.shape), space.shape)
    if isinstance(space, spaces.Box) and 0 not in space.shape and space.dtype.kind in "iuf":
        from a3c.diagonal_gaussian import DiagonalGaussian

        low, high = (tuple(bound.reshape(-1).astype(float).tolist()) for bound in (space.low, space.high))
        return DiagonalGaussian(low, high, space.shape, space.dtype.name)
    if isinstance(space, spaces.Dict | spaces.Tuple) and len(space.spaces):
        from a3c.product import Product

        parts: Any = space.spaces
        names = tuple(parts) if isinstance(space, spaces.Dict) else None
        return Product(tuple(map(head_for, parts.values() if names else parts)), names)
    raise ValueError(
        f"acts in {kind_of(space)}; supported are Discrete, MultiDiscrete, MultiBinary, Box, and Dict and Tuple of them"
    )


def indifferent(head: Head, observation: ObservationSpec, observations: NDArray[Any]) -> Array:
    """Parameters [B, outputs + free] that prefer no action, and allow those that observations [B, ...] do."""
    parameters = np.zeros((len(observations), head.outputs + head.free), np.float32)
    if mask := observation.mask:
        np.copyto(parameters[:, :mask], MASKED, where=observations[:, -mask:] == 0)
    return parameters


def uniform(normal: Array) -> Array:
    """Uniform numbers in (0, 1) of standard normal ones."""
    below: Array = torch.special.ndtr(torch.from_numpy(normal).double()).clamp(1e-12, 1 - 1e-7).float().numpy()
    return below


def taken(action: Any, value: Any) -> float | None:
    """What a `Part` says of an action, None where there is none."""
    return None if action is None else float(value)
