"""Shared memory as NumPy arrays."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray


class SharedArray:
    """A zeroed NumPy array in memory that every process sees to which this object is passed as an argument.

    The memory belongs to torch: on Linux an unlinked file whose descriptor travels with the object, so that nothing
    stays behind under /dev/shm however the processes end. It starts at a page border, hence aligned for every kernel.
    It must exist before the process that gets it is started.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = torch.zeros(max(size, 1), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._attach(shape, np.dtype(dtype))

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The same memory as a torch tensor."""
        return torch.from_numpy(self.array)

    @cached_property
    def numbers(self) -> memoryview:
        """The same memory as Python numbers, for arrays of a few counters: NumPy takes longer for each than for all."""
        return self.array.data

    def _attach(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = int(np.prod(shape)) * dtype.itemsize
        self.array: NDArray[Any] = self._memory.numpy()[:size].view(dtype).reshape(shape)

    def __getstate__(self) -> tuple[torch.Tensor, tuple[int, ...], np.dtype[Any]]:
        return self._memory, self.array.shape, self.array.dtype

    def __setstate__(self, state: tuple[torch.Tensor, tuple[int, ...], np.dtype[Any]]) -> None:
        self._memory, shape, dtype = state
        self._attach(shape, dtype)
