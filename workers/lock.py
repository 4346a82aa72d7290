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
        self._file: TextIO = self._open(path, option)
        while not self._is_there():  # its last holder has removed it between our opening and our locking it
            self._file.close()
            self._file = self._open(path, option)
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def _open(self, path: Path, option: str) -> TextIO:
        file = open(self._path, "a+")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                file.close()
                raise ConfigError(f"{option}: '{path}' is in use by process {owner}") from None
        return file

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others use the directory."""
        with contextlib.suppress(OSError):  # Windows removes no open file
            self._path.unlink()  # while it is still held, so that nobody else's is removed
        self._file.close()
