"""Policy heads: what an action space needs of a network. A new kind of action is a new class here.

A head turns the outputs of the linear policy layer and its own free parameters, together *parameters* [..., outputs +
free], into a distribution over actions. It has a NumPy side, for acting and for the closed form of the gradient, and a
torch side for automatic differentiation; a test holds them together.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from a3c.spaces import Space

Array = NDArray[np.float32]
TINY = np.finfo(np.float32).tiny  # a float32 exponential variate is exactly 0 once in ten million draws
MASKED = np.float32(-1e8)  # the logit of an action that is not allowed: its probability is exactly 0
LOG_2PI = math.log(2 * math.pi)


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

    def env_mode(self, parameters: Tensor) -> Tensor:
        """The most probable actions [B, *action_shape] in the environment's numbers, for export."""

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        """One distribution and the action that is taken (None: none), in the environment's numbers, for display."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `count` actions: pi(a|s) = softmax(logits)_a. The environment calls the first of them `start`."""

    count: int
    start: int = 0

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def free(self) -> int:
        return 0

    @property
    def groups(self) -> tuple[int, ...]:
        return (self.count,)

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

    def noise_of(self, normal: Array) -> Array:
        return np.log(-np.log(_uniform(normal)))

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

    def env_mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(-1) + self.start

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        shares = enumerate(self.probabilities(parameters).tolist())
        return [Part(f"={self.start + i}", share, _taken(action, action == i)) for i, share in shares]


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


@dataclass(frozen=True, slots=True)
class MultiCategorical:
    """One of so many actions for each of several choices, which are independent."""

    counts: tuple[int, ...]
    starts: tuple[int, ...]
    shape: tuple[int, ...]  # as the environment takes them

    @property
    def outputs(self) -> int:
        return sum(self.counts)

    @property
    def free(self) -> int:
        return 0

    @property
    def groups(self) -> tuple[int, ...]:
        return self.counts

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (len(self.counts),)

    @property
    def action_dtype(self) -> Any:
        return np.int64

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
        pairs = pairwise(_ends_of(self.counts).tolist())
        parts = zip((parameters[..., slice(*pair)] for pair in pairs), actions.unbind(-1), strict=True)
        return _sums(Categorical(logits.shape[-1]).log_prob_entropy(logits, chosen) for logits, chosen in parts)

    def env_mode(self, parameters: Tensor) -> Tensor:
        chosen = [logits.argmax(-1) for logits in torch.split(parameters, list(self.counts), -1)]
        return torch.stack(chosen, -1) + torch.tensor(self.starts)

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        heads = map(Categorical, self.counts, self.starts)
        actions = [None] * len(self.counts) if action is None else action
        parts = zip(heads, self._split(parameters), actions, strict=True)
        return _named((f"[{i}]", head.describe(*own)) for i, (head, *own) in enumerate(parts))

    def _split(self, parameters: Array) -> list[Array]:
        return [parameters[..., slice(*pair)] for pair in pairwise(_ends_of(self.counts).tolist())]


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Any of `count` actions at once: pi(a_i = 1|s) = sigmoid(logit_i), independently."""

    count: int
    shape: tuple[int, ...]

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def free(self) -> int:
        return 0

    @property
    def groups(self) -> tuple[int, ...]:
        return ()

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def action_dtype(self) -> Any:
        return np.int8

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        rng.random(dtype=np.float32, out=noise)  # from which the logistic distribution follows
        np.clip(noise, TINY, 1 - 2**-24, out=noise)
        np.log(noise / (1 - noise), out=noise)

    def noise_of(self, normal: Array) -> Array:
        uniform = _uniform(normal)
        return np.log(uniform / (1 - uniform))  # type: ignore[no-any-return]

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

    def env_mode(self, parameters: Tensor) -> Tensor:
        return (parameters > 0).long()

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        shares = enumerate(np.exp(-np.logaddexp(0, -parameters)).tolist())
        return [Part(f"[{i}]", share, _taken(action, action is not None and action[i])) for i, share in shares]


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
    def groups(self) -> tuple[int, ...]:
        return ()

    @property
    def action_shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def action_dtype(self) -> Any:
        return np.float32

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

    def env_mode(self, parameters: Tensor) -> Tensor:
        scale, middle, low, high = (torch.tensor(numbers, dtype=torch.float32) for numbers in self._affine)
        inside = torch.minimum(torch.maximum(parameters[..., : self.count] * scale + middle, low), high)
        return inside if np.dtype(self.dtype).kind == "f" else inside.round()

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        scale, middle, *_ = self._affine
        mean, spread = parameters[: self.count] * scale + middle, np.exp(parameters[self.count :]) * scale
        taken = [None] * self.count if action is None else self.to_env(action[None]).reshape(-1).tolist()
        numbers = enumerate(zip(mean.tolist(), taken, spread.tolist(), strict=True))
        return [Part(f"[{i}]", *own) for i, own in numbers]


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


class EvaluatedSum:
    """Independent distributions together: their log-probabilities and entropies add up."""

    def __init__(self, parts: list[Any]):
        self._parts = parts
        self.log_prob: Array = sum(part.log_prob for part in parts)
        self.entropy: Array = sum(part.entropy for part in parts)

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        return np.concatenate([part.backward(d_log_prob, d_entropy) for part in self._parts], 1)


@dataclass(frozen=True)
class Product:
    """Actions in several parts, each with a head of its own, independent of each other.

    An action is one vector of float32, part after part; parameters are all outputs, then all free ones.
    """

    heads: tuple[Head, ...]
    names: tuple[str, ...] | None  # of a Dict's parts; None: a Tuple

    @cached_property
    def _ours(self) -> list[NDArray[np.int64]]:
        """Which parameters are each head's."""
        outputs, free = _ends(self.heads, "outputs"), _ends(self.heads, "free")
        ranges = zip(pairwise(outputs), pairwise(outputs[-1] + free), strict=True)
        return [np.r_[slice(*own), slice(*own_free)] for own, own_free in ranges]

    @cached_property
    def _actions(self) -> list[slice]:
        return [slice(*pair) for pair in pairwise(_ends(self.heads, "action_shape").tolist())]

    @cached_property
    def _noises(self) -> list[slice]:
        return [slice(*pair) for pair in pairwise(_ends(self.heads, "noise_shape").tolist())]

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
    def action_dtype(self) -> Any:
        return np.float32

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
        return _sums(
            head.log_prob_entropy(parameters[..., ours], _cast(actions[..., place], head))
            for head, ours, place in parts
        )

    def env_mode(self, parameters: Tensor) -> Tensor:
        parts = zip(self.heads, self._ours, strict=True)
        modes = [head.env_mode(parameters[:, torch.from_numpy(ours)]) for head, ours in parts]
        return torch.cat([mode.to(torch.float32).reshape(len(parameters), -1) for mode in modes], 1)

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        names = self.names or [f"[{i}]" for i in range(len(self.heads))]
        taken = [None] * len(names) if action is None else [part[0] for part in self._split(action[None])]
        parts = zip(names, self.heads, self._ours, taken, strict=True)
        return _named((name, head.describe(parameters[ours], own)) for name, head, ours, own in parts)

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


def head_for(space: Space) -> Head:
    """The head for an action space; a ValueError where there is none."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = (np.asarray(numbers).reshape(-1).tolist() for numbers in (space.nvec, space.start))
        return MultiCategorical(tuple(counts), tuple(starts), space.shape)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(math.prod(space.shape), space.shape)
    if isinstance(space, spaces.Box) and 0 not in space.shape and space.dtype.kind in "iuf":
        low, high = (tuple(bound.reshape(-1).astype(float).tolist()) for bound in (space.low, space.high))
        return DiagonalGaussian(low, high, space.shape, space.dtype.name)
    if isinstance(space, spaces.Dict | spaces.Tuple) and len(space.spaces):
        parts: Any = space.spaces
        names = tuple(parts) if isinstance(space, spaces.Dict) else None
        return Product(tuple(map(head_for, parts.values() if names else parts)), names)
    found = f"{type(space).__name__}{space.shape or ''}"
    raise ValueError(
        f"acts in {found}; supported are Discrete, MultiDiscrete, MultiBinary, Box, and Dict and Tuple of them"
    )


def _uniform(normal: Array) -> Array:
    """Uniform numbers in (0, 1) of standard normal ones."""
    uniform: Array = torch.special.ndtr(torch.from_numpy(normal).double()).clamp(1e-12, 1 - 1e-7).float().numpy()
    return uniform


def _ends(heads: Iterable[Head], kind: str) -> NDArray[np.int64]:
    return _ends_of(int(np.prod(getattr(head, kind))) for head in heads)


def _ends_of(counts: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *counts])


def _taken(action: Any, taken: Any) -> float | None:
    return None if action is None else float(taken)


def _named(parts: Iterable[tuple[str, list[Part]]]) -> list[Part]:
    """Parts of several distributions, their names beginning with what each is of."""
    return [part._replace(name=f"{name}{part.name}") for name, own in parts for part in own]


def _sums(parts: Any) -> tuple[Tensor, Tensor]:
    log_probs, entropies = zip(*parts, strict=True)
    return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)


def _cast(actions: Tensor, head: Head) -> Tensor:
    """A part of joint actions as its head takes them."""
    shaped = actions.reshape(*actions.shape[:-1], *head.action_shape)
    return shaped if np.dtype(head.action_dtype).kind == "f" else shaped.long()
