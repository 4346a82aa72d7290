"""Shared memory as NumPy arrays."""

import errno
import mmap
import os
import weakref
from functools import cached_property
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray


class SharedArray:
    """A zeroed NumPy array in memory that every process sees to which this object is passed as an argument.

    On Linux the memory is a file without a name, outside every file system: it has no size limit but the machine's,
    takes no page before that is written to, and nothing stays behind however the processes end. Its descriptor travels
    with the object. Elsewhere the memory belongs to torch. It starts at a page border, hence aligned for every kernel.
    It must exist before the process that gets it is started.

    Raises:
        MemoryError: there is not as much memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike):
        size = max(int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize, 1)
        try:
            descriptor = _nameless_file(size)
            self._memory = _torch_bytes(size) if descriptor is None else _mapped(descriptor, size)
        except (OSError, OverflowError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise MemoryError(f"{size:,} bytes of shared memory cannot be had: {reason}") from error
        self._attach(descriptor, shape, np.dtype(dtype))

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The same memory as a torch tensor."""
        return torch.from_numpy(self.array)

    @cached_property
    def numbers(self) -> memoryview:
        """The same memory as Python numbers, for arrays of a few counters: NumPy takes longer for each than for all."""
        return self.array.data

    def _attach(self, descriptor: int | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor).atexit = False
        size = int(np.prod(shape)) * dtype.itemsize
        self.array: NDArray[Any] = self._memory.numpy()[:size].view(dtype).reshape(shape)

    def __getstate__(self) -> tuple[Any, int, tuple[int, ...], np.dtype[Any]]:
        memory = self._memory if self._descriptor is None else reduction.DupFd(self._descriptor)
        return memory, len(self._memory), self.array.shape, self.array.dtype

    def __setstate__(self, state: tuple[Any, int, tuple[int, ...], np.dtype[Any]]) -> None:
        memory, size, shape, dtype = state
        descriptor = None if isinstance(memory, torch.Tensor) else memory.detach()
        self._memory = memory if descriptor is None else _mapped(descriptor, size)
        self._attach(descriptor, shape, dtype)


def _nameless_file(size: int) -> int | None:
    """The descriptor of a file in memory; None where the system has none."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("a3c")
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EACCES):  # an old kernel, a sandbox
            return None
        raise
    try:
        if size > os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE:  # the kernel would say so only when it is written to
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _mapped(descriptor: int, size: int) -> torch.Tensor:
    """The content of a file as bytes [size], mapped for as long as anybody looks at it."""
    try:
        return torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)
    except BaseException:
        os.close(descriptor)
        raise


def _torch_bytes(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8, device="cpu").share_memory_()  # type: ignore[no-untyped-call, no-any-return]
