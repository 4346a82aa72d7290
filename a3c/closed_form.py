"""The default network and loss with their exact derivative written out, in NumPy.

The networks of A3C are small and its batches smaller: most of the time torch spends on them goes into dispatching
operations and recording a graph. The same arithmetic in NumPy, on the same memory as the torch module, takes an
eighth of the time for the paper's five-step rollout and a quarter for a batch of 256 (docs/decisions/0003). It is one
way to the numbers of `a3c.losses`, not another definition of them: a test holds both together.

With arrays this small the number of calls is the cost, and how a call is written matters: `a.dot(b)` is half of
`np.dot(a, b)`, a ufunc's `reduce` a third of the method, and operands of one shape half of a broadcast. With thousands
of rows the cost is memory: a large array made anew is pages that the kernel has to clear, so learning reuses its own.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from a3c.config import LossConfig
from a3c.losses import LossTerms
from a3c.networks import ActorCritic

Array = NDArray[np.float32]
ZERO = np.zeros((), np.float32)  # cheaper to compare with than Python's 0, which has to be converted each time

WIDE = 16  # environments from which on a copy of the weights pays


class ClosedForm:
    """Forward pass of an `ActorCritic` on NumPy views of its parameters, enough to act and to evaluate.

    The views share the module's memory, so whatever is copied into its parameters is seen here at once.
    """

    def __init__(self, model: ActorCritic):
        layers = [*model.trunk, model.policy_head, model.value_head]
        self._layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()[None]) for layer in layers]
        self._value_scale = np.float32(model.value_scale)

    def policy_logits(self, observations: Array) -> Array:
        """Logits [B, A] of observations [B, O], without the value head: all that acting needs."""
        return self._head(self._trunk(observations), -2)

    def values(self, observations: Array) -> Array:
        """V(s) [B] of observations [B, O], in units of return."""
        return self._head(self._trunk(observations), -1)[:, 0] * self._value_scale

    def _trunk(self, observations: Array) -> Array:
        outputs = observations
        for weight, bias in self._layers[:-2]:
            outputs = outputs.dot(weight)
            outputs += bias
            np.maximum(outputs, ZERO, out=outputs)
        return outputs

    def _head(self, hidden: Array, index: int, out: Array | None = None) -> Array:
        weight, bias = self._layers[index]
        outputs: Array = hidden.dot(weight, out)
        outputs += bias
        return outputs


class LearningPass(ClosedForm):
    """Forward and backward pass over a rollout of T steps of B environments; the forward pass is made by acting.

    The policy that acts is the one that learns, so what each step has computed is kept and not computed again. Wide
    batches act on copies: of the weights, transposed, which BLAS multiplies in half to three quarters of the time, and
    of the biases, a row for each environment, which NumPy adds in a third.

    `backward` needs the module's gradients to be allocated and overwrites them.
    """

    def __init__(self, model: ActorCritic, n_steps: int, count: int):
        super().__init__(model)
        layers, steps = [*model.trunk, model.policy_head, model.value_head], n_steps * count
        self._weights = [layer.weight.detach().numpy() for layer in layers]
        self._weight_gradients = [_gradient(layer.weight) for layer in layers]
        self._bias_gradients = [_gradient(layer.bias) for layer in layers]
        self._logits = np.empty((n_steps + 1, count, model.action_count), np.float32)
        self._hidden = [np.empty((n_steps + 1, count, units), np.float32) for units in model.hidden_sizes]
        self._active = [np.empty((steps, units), np.bool_) for units in model.hidden_sizes]
        self._d_hidden = [np.empty((steps, units), np.float32) for units in model.hidden_sizes]
        self._ones = np.ones(steps, np.float32)
        self._trunk_layers = self._layers[:-2]
        self._copies = (
            [
                (np.empty(weight.shape, np.float32), np.empty((count, bias.size), np.float32))
                for weight, bias in self._trunk_layers
            ]
            if count >= WIDE
            else []
        )
        self._acting = list(zip(self._hidden, self._copies or self._trunk_layers, strict=True))

    def act(self, t: int, observations: Array) -> Array:
        """Logits [B, A] of step t's observations [B, O]; step 0 comes first, with the parameters of all steps."""
        if not t and self._copies:
            for copies, originals in zip(self._copies, self._trunk_layers, strict=True):
                for copy, original in zip(copies, originals, strict=True):
                    copy[...] = original
        outputs = observations
        for hidden, (weight, bias) in self._acting:
            outputs = outputs.dot(weight, hidden[t])
            outputs += bias
            np.maximum(outputs, ZERO, out=outputs)
        return self._head(outputs, -2, self._logits[t])

    def outputs(self, last_observations: Array) -> tuple[Array, Array]:
        """Logits [T * B, A] of the steps; values [(T + 1) * B] of them and of what follows the last, [B, O]."""
        self.act(len(self._logits) - 1, last_observations)
        values = self._head(_rows(self._hidden[-1]), -1)[:, 0] * self._value_scale
        return _rows(self._logits)[: len(self._ones)], values

    def backward(self, observations: Array, d_logits: Array, d_values: Array) -> None:
        """Write dL/dparameters, given the steps' observations [N, O], dL/dlogits [N, A], dL/dvalues [N]; N = T * B."""
        inputs = [observations, *(_rows(hidden)[: len(observations)] for hidden in self._hidden)]
        d_value = (d_values * self._value_scale)[:, None]  # [N, 1]
        self._write(-2, d_logits, inputs[-1])
        self._write(-1, d_value, inputs[-1])
        heads = np.concatenate(self._weights[-2:])  # [A + 1, H]
        d_outputs = np.concatenate((d_logits, d_value), 1).dot(heads, self._d_hidden[-1])
        for index in range(len(self._hidden) - 1, -1, -1):
            d_outputs *= np.greater(inputs[index + 1], ZERO, out=self._active[index])  # ReLU
            self._write(index, d_outputs, inputs[index])
            if index:
                d_outputs = d_outputs.dot(self._weights[index], self._d_hidden[index - 1])

    def _write(self, index: int, d_outputs: Array, inputs: Array) -> None:
        d_outputs.T.dot(inputs, self._weight_gradients[index])
        self._ones.dot(d_outputs, self._bias_gradients[index])  # their sum


def loss_gradients(
    logits: Array,
    values: Array,
    actions: NDArray[np.int64],
    advantages: Array,
    returns: Array,
    valid: Array,
    config: LossConfig,
) -> tuple[LossTerms, Array, Array]:
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


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _gradient(parameter: Tensor) -> Array:
    assert parameter.grad is not None
    gradient: Array = parameter.grad.numpy()
    return gradient
