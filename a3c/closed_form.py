"""The default network and loss with their exact derivative written out, in NumPy.

The networks of A3C are small and its batches smaller: most of the time torch spends on them goes into dispatching
operations and recording a graph. The same arithmetic in NumPy, on the same memory as the torch module, takes an
eighth of the time for the paper's five-step rollout and half of it for a batch of 256 (docs/decisions/0003). It is one
way to the numbers of `a3c.losses`, not another definition of them: a test holds both together.

With arrays this small the number of calls is the cost, and how a call is written matters: `a.dot(b)` is half of
`np.dot(a, b)`, a ufunc's `reduce` a third of the method, and operands of one shape half of a broadcast.
"""

import numpy as np
from numpy.typing import NDArray

from a3c.config import LossConfig
from a3c.losses import LossTerms
from a3c.networks import ActorCritic

Array = NDArray[np.float32]
ZERO = np.zeros((), np.float32)  # cheaper to compare with than Python's 0, which has to be converted each time


class ClosedForm:
    """Forward and backward pass of an `ActorCritic` on NumPy views of its parameters and gradients.

    The views share the module's memory, so whatever is copied into its parameters is seen here at once. `backward`
    needs gradients to be allocated and overwrites them.
    """

    def __init__(self, model: ActorCritic):
        layers = [*model.trunk, model.policy_head, model.value_head]
        self._weights = [layer.weight.detach().numpy() for layer in layers]
        self._layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()[None]) for layer in layers]
        self._weight_gradients = [_gradient(layer.weight) for layer in layers]
        self._bias_gradients = [_gradient(layer.bias) for layer in layers]
        self._value_scale = np.float32(model.value_scale)
        self._activations: list[Array] = []
        self._ones = np.ones(0, np.float32)

    def policy_logits(self, observations: Array) -> Array:
        """Logits [B, A] of observations [B, O], without the value head: all that acting needs."""
        return self._head(self._trunk(observations)[-1], -2)

    def values(self, observations: Array) -> Array:
        """V(s) [B] of observations [B, O], in units of return."""
        return self._head(self._trunk(observations)[-1], -1)[:, 0] * self._value_scale

    def forward(self, observations: Array) -> tuple[Array, Array]:
        """Logits [B, A] and values [B] of observations [B, O]; keeps what `backward` needs."""
        self._activations = self._trunk(observations)
        last = self._activations[-1]
        return self._head(last, -2), self._head(last, -1)[:, 0] * self._value_scale

    def backward(self, d_logits: Array, d_values: Array) -> None:
        """Write dL/dparameters of the last `forward`, given dL/dlogits [N, A] and dL/dvalues [N] of its first N rows.

        The rows beyond, such as those whose values only bootstrap, have no gradient.
        """
        if len(self._ones) != len(d_logits):
            self._ones = np.ones(len(d_logits), np.float32)
        activations = [activation[: len(d_logits)] for activation in self._activations]
        d_value = (d_values * self._value_scale)[:, None]  # [N, 1]
        last = activations[-1]
        self._write(-2, d_logits, last)
        self._write(-1, d_value, last)
        d_hidden = d_logits.dot(self._weights[-2])
        d_hidden += d_value.dot(self._weights[-1])
        for index in range(len(activations) - 2, -1, -1):
            d_hidden *= activations[index + 1] > ZERO  # ReLU
            self._write(index, d_hidden, activations[index])
            if index:
                d_hidden = d_hidden.dot(self._weights[index])

    def _trunk(self, observations: Array) -> list[Array]:
        """The observations and what each ReLU layer makes of them."""
        activations = [observations]
        for weight, bias in self._layers[:-2]:
            hidden = activations[-1].dot(weight)
            hidden += bias
            activations.append(np.maximum(hidden, ZERO, out=hidden))
        return activations

    def _head(self, hidden: Array, index: int) -> Array:
        weight, bias = self._layers[index]
        outputs: Array = hidden.dot(weight)
        outputs += bias
        return outputs

    def _write(self, index: int, d_outputs: Array, inputs: Array) -> None:
        d_outputs.T.dot(inputs, self._weight_gradients[index])
        self._ones.dot(d_outputs, self._bias_gradients[index])  # their sum


def loss_gradients(
    logits: Array, values: Array, actions: NDArray[np.int64], advantages: Array, returns: Array, valid: Array,
    config: LossConfig,
) -> tuple[LossTerms, Array, Array]:  # fmt: skip
    """`a3c.losses.actor_critic_loss` and its derivative by logits and values.

    With p = softmax(logits), H its entropy, n the number of valid steps and c the entropy coefficient:
        dL/dlogits = (A * (p - onehot(a)) + c * p * (log p + H)) / n = (p * (c * log p + A + c * H) - A * onehot(a)) / n
        dL/dvalues = value_coef * (V - G) / value_scale^2 / n

    Args: [N, A], then [N] each; flattened over time and environments.
    Returns: the terms of the loss, dL/dlogits [N, A] and dL/dvalues [N].
    """
    weight = valid / max(np.add.reduce(valid), 1)  # [N]
    log_probs = logits - np.maximum.reduce(logits, -1, keepdims=True)
    log_probs -= np.log(np.add.reduce(np.exp(log_probs), -1, keepdims=True))  # [N, A]
    probs = np.exp(log_probs)
    minus_entropy = np.add.reduce(probs * log_probs, -1)  # [N]
    chosen = np.arange(0, logits.size, logits.shape[1]) + actions  # of the flattened logits
    coefficient, weighted = np.float32(config.entropy_coef) * weight, advantages * weight  # [N]
    d_logits = log_probs * coefficient[:, None]
    d_logits += (weighted - coefficient * minus_entropy)[:, None]
    d_logits *= probs
    d_logits.reshape(-1)[chosen] -= weighted
    error = (values - returns) * np.float32(1 / config.value_scale)
    weighted_error = error * weight
    terms = LossTerms(
        policy_loss=-float(log_probs.reshape(-1)[chosen].dot(weighted)),
        value_loss=0.5 * float(error.dot(weighted_error)),
        entropy=-float(minus_entropy.dot(weight)),
    )
    return terms, d_logits, weighted_error * np.float32(config.value_coef / config.value_scale)


def _gradient(parameter: object) -> Array:
    gradient = getattr(parameter, "grad", None)
    if gradient is None:  # acting and evaluating need none
        return np.empty(0, dtype=np.float32)
    array: Array = gradient.numpy()
    return array
