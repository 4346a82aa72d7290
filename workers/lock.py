"""A directory that one process uses at a time."""

import contextlib
import os
from pathlib import Path
from typing import TextIO

from a3c.config import ConfigError

try:
    import fcntl
except ImportError:  # Windows: two processes in one directory are then told apart by its files alone
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class DirectoryLock:
    """Holds a directory for this process; the kernel lets go of it however the process ends.

    Args:
        option: what the user calls the directory, for the message where somebody else holds it.
    Raises:
        ConfigError: another process holds it; names its pid.
    """

    def __init__(self, path: Path, option: str):
        self._path = path / LOCK
        self._file: TextIO = open(self._path, "a+")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
                self._file.close()
                raise ConfigError(f"{option}: '{path}' is in use by process {owner}") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let others use the directory."""
        with contextlib.suppress(OSError):  # Windows removes no open file
            self._path.unlink()  # while it is still held, so that nobody else's is removed
        self._file.close()
