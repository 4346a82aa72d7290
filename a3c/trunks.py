"""Trunks: how an observation becomes features. A new kind of network is a new class here.

A trunk is a torch module with two attributes, `observation` and `features`. One that has a closed form also acts and
learns in NumPy, on the memory of its own parameters; any other acts and learns by torch.

With arrays this small the number of calls is the cost (docs/decisions/0003), and how a call is written matters:
`a.dot(b)` is half of `np.dot(a, b)`, a ufunc's `reduce` a third of the method, and operands of one shape half of a
broadcast. With thousands of rows the cost is memory: a large new array is pages to clear, so learning reuses its own.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a3c.spaces import ObservationSpec

Array = NDArray[np.float32]
ZERO = np.zeros((), np.float32)  # cheaper to compare with than Python's 0, which has to be converted each time
WIDE = 16  # environments from which on acting on copies of the weights pays


class Trunk(Protocol):
    """What `a3c.networks.ActorCritic` needs of a torch module."""

    observation: ObservationSpec
    features: int

    def __call__(self, observations: Tensor) -> Tensor:
        """Features [..., F] of observations [..., *shape], or [..., size] where a mask has been cut off."""

    def entries(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that `a3c.networks.trunk_of` makes it again."""


class MLP(nn.ModuleList):
    """Fully connected ReLU layers, of `hidden_sizes` units each, over the flattened observation."""

    def __init__(self, observation: ObservationSpec, hidden_sizes: Sequence[int]):
        sizes = [observation.size, *hidden_sizes]
        super().__init__(linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        self.observation, self.hidden_sizes, self.features = observation, list(hidden_sizes), sizes[-1]

    def forward(self, observations: Tensor) -> Tensor:
        outputs = observations.flatten(observations.dim() - len(self.observation.shape))
        for layer in self.layers:
            outputs = torch.relu(layer(outputs))
        return outputs

    def entries(self) -> dict[str, Any]:
        return {"hidden_sizes": self.hidden_sizes}

    @property
    def layers(self) -> list[nn.Linear]:
        return [layer for layer in self if isinstance(layer, nn.Linear)]

    def closed_form(self, n_steps: int = 0, count: int = 0, batch: int = 0) -> "ClosedFormMLP":
        """The same in NumPy; acting in T steps of B environments, it also learns from `batch` of them at once."""
        return ClosedFormMLP(self, n_steps, count, batch)


class ClosedFormLinear:
    """A torch layer y = x W^T + b in NumPy, on the same memory."""

    def __init__(self, layer: nn.Linear):
        self.weight: Array = layer.weight.detach().numpy()  # [K, F]
        self.transposed, self.bias = self.weight.T, layer.bias.detach().numpy()[None]
        if layer.weight.grad is not None and layer.bias.grad is not None:
            self._gradients: tuple[Array, Array] = layer.weight.grad.numpy(), layer.bias.grad.numpy()

    def __call__(self, inputs: Array, out: Array | None = None) -> Array:
        """Outputs [N, K] of inputs [N, F]."""
        outputs: Array = inputs.dot(self.transposed, out)
        outputs += self.bias
        return outputs

    def backward(self, inputs: Array, d_outputs: Array, ones: Array) -> None:
        """Write dL/dW and dL/db into the layer's gradients, which must be there; `ones` [N] sums over the rows."""
        weight_gradient, bias_gradient = self._gradients
        d_outputs.T.dot(inputs, weight_gradient)
        ones.dot(d_outputs, bias_gradient)


class ClosedFormMLP:
    """An MLP in NumPy: forward, and the exact derivative written out.

    The policy that acts is the one that learns, so `act` keeps what each step has computed, and `backward` does not
    compute it again. Wide batches act on copies: of the weights, transposed, which BLAS multiplies in half to three
    quarters of the time, and of the biases, a row for each environment, which NumPy adds in a third.
    """

    def __init__(self, trunk: MLP, n_steps: int, count: int, batch: int):
        hidden_sizes = trunk.hidden_sizes
        self._layers = [ClosedFormLinear(layer) for layer in trunk.layers]
        self._hidden = [np.empty((n_steps + 1, count, units), np.float32) for units in hidden_sizes]
        self._active = [np.empty((batch, units), np.bool_) for units in hidden_sizes]
        self._d_hidden = [np.empty((batch, units), np.float32) for units in hidden_sizes]
        self._ones = np.ones(batch, np.float32)
        originals = [(layer.transposed, layer.bias) for layer in self._layers]
        self._copies: list[tuple[Array, Array]] = []  # each with its original
        if count >= WIDE:
            shapes = [(weight.shape, (count, bias.size)) for weight, bias in originals]
            copies = [(np.empty(weight, np.float32), np.empty(bias, np.float32)) for weight, bias in shapes]
            self._copies = [pair for layer in zip(copies, originals, strict=True) for pair in zip(*layer, strict=True)]
            originals = copies
        self._acting = list(zip(self._hidden, originals, strict=True))

    def __call__(self, observations: Array) -> Array:
        """Features [B, F] of observations [B, *shape]."""
        return self.forward(observations)[-1]

    def forward(self, observations: Array) -> list[Array]:
        """What every layer gives, the features last, [B, units] each; the observations themselves come first."""
        outputs = [_flat(observations)]
        for layer in self._layers:
            units = layer(outputs[-1])
            outputs.append(np.maximum(units, ZERO, out=units))
        return outputs

    def act(self, t: int, observations: Array) -> Array:
        """The same for step t of a rollout, kept; step 0 comes first, with the parameters of all steps."""
        if not t:
            for copy, original in self._copies:
                copy[...] = original
        outputs = observations if observations.ndim == 2 else _flat(observations)
        for hidden, (weight, bias) in self._acting:
            outputs = outputs.dot(weight, hidden[t])
            outputs += bias
            np.maximum(outputs, ZERO, out=outputs)
        return outputs

    @property
    def features(self) -> Array:
        """What `act` has kept of a rollout of the most steps there can be, [(T + 1) * B, F]."""
        return _rows(self._hidden[-1])

    def kept(self, observations: Array) -> list[Array]:
        """As `forward`, of the first observations [N, *shape] of those that `act` was given."""
        return [_flat(observations), *(_rows(hidden)[: len(observations)] for hidden in self._hidden)]

    def backward(self, outputs: list[Array], d_outputs: Array, weight: Array) -> None:
        """Write dL/dparameters into the module's gradients, given what `forward` or `kept` has returned of a batch.

        The product of d_outputs [N, K] and weight [K, F] is dL/dfeatures.
        """
        d_hidden, active, ones, rows = self._d_hidden, self._active, self._ones, len(d_outputs)
        if rows != len(ones):  # of whole episodes, which are of any length
            d_hidden, active, ones = [part[:rows] for part in d_hidden], [part[:rows] for part in active], ones[:rows]
        for index in range(len(self._layers) - 1, -1, -1):
            d_outputs = d_outputs.dot(weight, d_hidden[index])
            d_outputs *= np.greater(outputs[index + 1], ZERO, out=active[index])  # ReLU
            self._layers[index].backward(outputs[index], d_outputs, ones)
            weight = self._layers[index].weight

    def gram(self, outputs: list[Array], d_outputs: Array, weight: Array) -> Array:
        """The inner products [N, N] of the rows' own gradients by the parameters, of the arguments of `backward`.

        Each is a sum over layers: a row's gradient by a layer's weights is an outer product.
        """
        products = np.zeros((len(d_outputs), len(d_outputs)), np.float32)
        for index in range(len(self._layers) - 1, -1, -1):
            d_outputs = d_outputs.dot(weight) * (outputs[index + 1] > ZERO)
            products += d_outputs.dot(d_outputs.T) * (outputs[index].dot(outputs[index].T) + 1)
            weight = self._layers[index].weight
        return products


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A layer in single precision on the CPU, whatever an environment has made torch's defaults."""
    return nn.Linear(fan_in, fan_out, device="cpu", dtype=torch.float32)


def _flat(observations: Array) -> Array:
    """Observations as rows, [B, O]."""
    return observations if observations.ndim == 2 else observations.reshape(len(observations), -1)


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])
