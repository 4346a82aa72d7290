"""All parameters of a module as one flat vector, so that a pull is one copy and a push one kernel."""

import torch
from torch import Tensor, nn

LINE = 16  # float32 values in a cache line of 64 bytes: each parameter tensor starts at one


def flat_size(module: nn.Module) -> int:
    """Length P of the flat vector of a module, padding included."""
    return sum(_padded(parameter.numel()) for parameter in module.parameters())


def flat_zeros(module: nn.Module) -> Tensor:
    """A vector for a module's parameters, or for their gradients; of float32 on the CPU, whatever torch's defaults."""
    return torch.zeros(flat_size(module), dtype=torch.float32, device="cpu")


def bind(module: nn.Module, vector: Tensor, gradient: Tensor | None = None) -> None:
    """Make a module's parameters (and gradients) views of a flat vector; the module's values move into the vector.

    The padding between tensors belongs to no parameter: it is 0 in both vectors and every optimizer leaves it there.

    Args:
        vector, gradient: [P] with P = flat_size(module), float32.
    """
    assert vector.shape == (flat_size(module),) and vector.dtype == torch.float32
    offset = 0
    for parameter in module.parameters():
        end = offset + parameter.numel()
        vector[offset:end].copy_(parameter.detach().reshape(-1))
        parameter.data = vector[offset:end].view(parameter.shape)
        parameter.grad = None if gradient is None else gradient[offset:end].view(parameter.shape)
        offset += _padded(parameter.numel())


def _padded(count: int) -> int:
    return -(-count // LINE) * LINE
