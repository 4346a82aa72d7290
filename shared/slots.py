"""Bytes of any size that one process leaves for others."""

import os
import sys
import tempfile
from multiprocessing import reduction
from typing import Any

from shared.memory import SharedArray

ATTEMPTS = 100  # of a reader; a slot is written a few times a second at most
# Bytes between two contents; the file has pages only where something was written. Those that are larger than the room
# lie further out: where the size of files is limited (`ulimit -f`), what is usual must not need a large one.
ROOM, LARGE_ROOM = 2**20, 2**36


class Slots:
    """A numbered slot each for some bytes, in one unlinked file in memory.

    Slot i has one writer; everybody may read at any moment and gets the last content that was written whole. A writer
    fills the half that readers do not look at and then counts up, so that one that dies halfway leaves what was there.
    A reader that was overtaken twice starts again.
    """

    def __init__(self, count: int):
        self._descriptor = _memory_file()
        self._versions = SharedArray((count,), "int64")  # 0: empty
        self._lengths = SharedArray((count, 2), "int64")

    def put(self, index: int, content: bytes) -> None:
        """Replace what slot `index` holds."""
        version = int(self._versions.numbers[index]) + 1
        offset, rest = self._offset(index, version, len(content)), memoryview(content)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
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
            content = os.pread(self._descriptor, length, self._offset(index, version, length))
            if self._versions.numbers[index] == version and len(content) == length:
                return content
        return None

    @staticmethod
    def _offset(index: int, version: int, length: int) -> int:
        half = 2 * index + version % 2
        return half * ROOM if length <= ROOM else (half + 1) * LARGE_ROOM

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_descriptor": reduction.DupFd(self._descriptor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._descriptor = state["_descriptor"].detach()

    def __del__(self) -> None:
        if (descriptor := vars(self).get("_descriptor")) is not None and isinstance(descriptor, int):
            os.close(descriptor)


def _memory_file() -> int:
    """The descriptor of a new file without a name."""
    if sys.platform == "linux":
        return os.memfd_create("slots")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
