"""Action values as a head: Q(s, a) of each of n actions, and an epsilon-greedy choice among them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from a3c.heads import MASKED, Array, Categorical, Part, taken, uniform


@dataclass(frozen=True, slots=True)
class ActionValues:
    """Of `count` actions the one of highest value, or with probability epsilon any; the first is called `start`.

    Parameters are the values [..., count], in units of the network's value, and epsilon. What other heads call the
    log-probability of an action is here its value, and the entropy is 0: that is all an objective needs.
    """

    count: int
    start: int = 0
    free, action_shape, action_dtype = 1, (), np.int64

    @property
    def outputs(self) -> int:
        return self.count

    @property
    def groups(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.count + 1,)

    def draw_noise(self, rng: np.random.Generator, noise: Array) -> None:
        rng.random(dtype=np.float32, out=noise)

    def noise_of(self, normal: Array) -> Array:
        return uniform(normal)

    def sample(self, parameters: Array, noise: Array) -> NDArray[np.int64]:
        values, epsilon = parameters[..., :-1], parameters[..., -1]
        any_allowed = np.where(values > MASKED / 2, noise[..., 1:], -1).argmax(-1)
        chosen: NDArray[np.int64] = np.where(noise[..., 0] < epsilon, any_allowed, values.argmax(-1))
        return chosen

    def mode(self, parameters: Array) -> NDArray[np.int64]:
        return parameters[..., :-1].argmax(-1)  # type: ignore[no-any-return]

    def best(self, parameters: Any) -> Any:
        """The highest value [...], of arrays or tensors."""
        return parameters[..., :-1].max(-1) if isinstance(parameters, np.ndarray) else parameters[..., :-1].amax(-1)

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        return actions + self.start if self.start else actions

    def evaluate(self, parameters: Array, actions: NDArray[Any]) -> "EvaluatedActionValues":
        return EvaluatedActionValues(parameters, actions)

    def log_prob_entropy(self, parameters: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        chosen = parameters.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return chosen, chosen * 0

    def describe(self, parameters: Array, action: Any) -> list[Part]:
        best = int(self.mode(parameters))
        return [Part(f"={self.start + i}", float(i == best), taken(action, action == i)) for i in range(self.count)]

    def answer(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        best = parameters[..., :-1].argmax(-1)
        chosen = (parameters[..., :-1] >= parameters[..., :-1].amax(-1, keepdim=True)).to(parameters.dtype)
        return chosen / chosen.sum(-1, keepdim=True), best + self.start

    def from_answer(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        return actions.astype(np.int64) - self.start


class EvaluatedActionValues:
    """The values of N actions."""

    def __init__(self, parameters: Array, actions: NDArray[Any]):
        self._shape, self._chosen = parameters.shape, (np.arange(len(parameters)), actions)
        self.log_prob: Array = parameters[self._chosen]
        self.entropy: Array = np.zeros_like(self.log_prob)

    def backward(self, d_log_prob: Array, d_entropy: Array) -> Array:
        d_parameters = np.zeros(self._shape, np.float32)
        d_parameters[self._chosen] = d_log_prob
        return d_parameters


def action_values_of(head: Any) -> ActionValues:
    """The same actions, by their values; a ValueError where they are not one of n."""
    if not isinstance(head, Categorical):
        raise ValueError(f"needs one of n actions, and the environment has {type(head).__name__}")
    return ActionValues(head.count, head.start)
