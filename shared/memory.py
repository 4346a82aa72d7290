"""Shared memory: NumPy arrays of a fixed shape, slots for bytes of any size, and a way to wake who waits for them."""

import contextlib
import errno
import mmap
import os
import socket
import tempfile
import weakref
from functools import cached_property
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

ATTEMPTS = 100  # of a slot's reader; a slot is written a few times a second at most
# Bytes between two contents of slots; the file has pages only where something was written. Those that are larger than
# ROOM lie further out: where the size of files is limited (`ulimit -f`), what is usual must not need a large one.
ROOM, LARGE_ROOM = 2**20, 2**36


class NamelessFile:
    """A file for every process that this object is passed to as an argument; its descriptor travels with the object.

    It is in memory where the system has such files (Linux), else unlinked on a disk: nothing stays behind however the
    processes end. It takes no page before that is written to.
    """

    def __init__(self, size: int):
        if size > os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE:  # the kernel would say so only when it is written to
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        try:
            self._hold(os.memfd_create("a3c"))
        except (AttributeError, OSError) as error:  # another system, an old kernel, a sandbox
            if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
                raise
            with tempfile.TemporaryFile() as file:
                self._hold(os.dup(file.fileno()))
        os.ftruncate(self.descriptor, size)

    def _hold(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.descriptor)

    def __setstate__(self, duplicate: Any) -> None:
        self._hold(duplicate.detach())


class SharedArray:
    """A zeroed NumPy array, aligned to a page, that every process sees to which this object is passed as an argument.

    Raises:
        MemoryError: there is not as much memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike = "int64"):
        size = max(int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize, 1)
        try:
            self.__setstate__((NamelessFile(size), size, shape, np.dtype(dtype)))
        except OSError as error:
            raise MemoryError(f"{size:,} bytes of shared memory cannot be had: {error.strerror}") from error

    def __getstate__(self) -> tuple[Any, ...]:
        return self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = file, size, shape, dtype = state
        self.array: NDArray[Any] = np.ndarray(shape, dtype, buffer=mmap.mmap(file.descriptor, size))

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The same memory as a torch tensor."""
        return torch.from_numpy(self.array)

    @cached_property
    def numbers(self) -> memoryview:
        """The same memory as Python numbers, for arrays of a few counters: NumPy takes longer for each than for all."""
        return self.array.data


class Slots:
    """A numbered slot each for some bytes of any size.

    Slot i has one writer; everybody may read at any moment and gets the last content that was written whole. A writer
    fills the half that readers do not read and then counts up, so that one that dies halfway leaves what was there.
    A reader that was overtaken twice starts again.
    """

    def __init__(self, count: int):
        self._file = NamelessFile(0)
        self._versions = SharedArray((count,))  # 0: empty
        self._lengths = SharedArray((count, 2))

    def put(self, index: int, content: bytes) -> None:
        """Replace what slot `index` holds."""
        version = int(self._versions.numbers[index]) + 1
        offset, rest = self._offset(index, version, len(content)), memoryview(content)
        while rest:  # a system may write, or read, less than it is asked to
            written = os.pwrite(self._file.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        self._lengths.numbers[index, version % 2] = len(content)
        self._versions.numbers[index] = version

    def get(self, index: int) -> bytes | None:
        """What slot `index` holds; None where nothing was ever written, or it is overwritten faster than it is read."""
        for _ in range(ATTEMPTS):
            version = int(self._versions.numbers[index])
            if version == 0:
                return None
            length = int(self._lengths.numbers[index, version % 2])
            content, offset = b"", self._offset(index, version, length)
            while len(content) < length and (
                part := os.pread(self._file.descriptor, length - len(content), offset + len(content))
            ):
                content = content + part if content else part
            if self._versions.numbers[index] == version and len(content) == length:
                return content
        return None

    @staticmethod
    def _offset(index: int, version: int, length: int) -> int:
        half = 2 * index + version % 2
        return half * ROOM if length <= ROOM else (half + 1) * LARGE_ROOM


class Notifier:
    """Wakes a process that waits for shared memory to change; what has changed, that process reads there.

    So one notification too many or too few does no harm, and unlike a lock or a message it has no state that could
    keep others waiting where a process dies in the middle of it.
    """

    def __init__(self) -> None:
        self._listener, self._sender = socket.socketpair()
        self._sender.setblocking(False)

    def notify(self) -> None:
        """Wake the process that waits, or that will wait next."""
        with contextlib.suppress(BlockingIOError):  # full of notifications that nobody has read
            self._sender.send(b"!")

    def wait(self, seconds: float) -> None:
        """Until there is a notification since the last wait, for `seconds` at most."""
        self._listener.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            self._listener.recv(4096)
