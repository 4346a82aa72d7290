"""Where a worker's own network is, and in what it computes: on the CPU, or on a GPU with a copy of the parameters."""

import copy
from typing import Any

import torch
from torch import Tensor

from a3c.config import ConfigError
from a3c.convolution import Convolution
from a3c.networks import ActorCritic, bind, flat_zeros


def device_of(name: str) -> str:
    """What an option means here: cpu or cuda; a ConfigError where it asks for a GPU that is not there."""
    if name == "cpu":
        return name
    is_there = torch.cuda.is_available()
    if name == "cuda" and not is_there:
        raise ConfigError("device: torch finds no GPU here that it can use (CUDA); choose --device cpu")
    return "cuda" if is_there else "cpu"


def use_precision(model: ActorCritic, name: str, device: str) -> None:
    """Have a network's images pass their layers in what an option means on a device: bfloat16 or float32."""
    is_fast = torch.cuda.is_bf16_supported() if device == "cuda" else multiplies_bfloat16()
    for module in model.modules():
        if isinstance(module, Convolution):
            module.in_bfloat16 = name == "bfloat16" or (name == "auto" and is_fast)


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them it takes five times as long as float32."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch 2.10 and later
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


class Local:
    """A network in the process that it is bound in: what `a3c.autograd` calls."""

    def __init__(self, model: ActorCritic):
        self.model = model

    def refresh(self) -> None:
        """Take over the parameters as they are now."""

    def zero_gradient(self) -> None:
        self.model.zero_grad(set_to_none=False)  # the gradients are views of one vector: keep them

    def deliver_gradient(self) -> None:
        """Have the gradient where it is pushed from."""

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        parameters, values = self.model(observations)
        return parameters, values

    def step(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.step(observations, state)

    def sequence(self, observations: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.sequence(observations, state, starts)


class OnGPU(Local):
    """A copy of a network on the GPU. What it is given and what it gives is in host memory, in single numbers a step.

    The flat vectors that the network on the host is bound to are the source of every pull and the target of every
    push; they are copied whole, from and to pinned memory where they are in such.
    """

    def __init__(self, model: ActorCritic, device: str):
        super().__init__(copy.deepcopy(model))
        first = next(model.parameters())
        assert first.grad is not None
        self._host, self._host_gradient = _whole(first.data), _whole(first.grad)
        self._vector, self._gradient = (flat_zeros(model).to(device) for _ in range(2))
        bind(self.model, self._vector, self._gradient)
        self._device = device

    def refresh(self) -> None:
        self._vector.copy_(self._host, non_blocking=True)

    def zero_gradient(self) -> None:
        self._gradient.zero_()

    def deliver_gradient(self) -> None:
        self._host_gradient.copy_(self._gradient)

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        parameters, values = super().__call__(observations.to(self._device))
        return parameters.cpu(), values.cpu()

    def step(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parameters, values, following = super().step(*self._there(observations, state))
        return parameters.cpu(), values.cpu(), following.cpu()

    def sequence(self, observations: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parameters, values, following = super().sequence(*self._there(observations, state, starts))
        return parameters.cpu(), values.cpu(), following.cpu()

    def _there(self, *tensors: Tensor) -> Any:
        return (tensor.to(self._device) for tensor in tensors)


def _whole(part: Tensor) -> Tensor:
    """All of the flat vector that a tensor is a view of."""
    storage = part.untyped_storage()
    return torch.empty(0, dtype=part.dtype).set_(storage, 0, (storage.nbytes() // part.element_size(),))  # type: ignore[call-overload, no-any-return]
