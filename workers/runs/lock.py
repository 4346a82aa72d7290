"""A directory that one process uses at a time."""

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TextIO

from a3c.config import ConfigError
from a3c.files import is_alive
from shared.locks import NoLocksError, try_lock

LOCK = ".lock"
_held: set[tuple[int, int]] = set()  # the directories of this process: not every kind of lock tells them apart


class DirectoryLock:
    """Holds a directory for this process; the kernel lets go of it however the process ends.

    Where the file system has no locks, the holder's process number in the file stands for one: whether that process
    lives decides. So two commands that start in the same moment may get the same directory there; the user is warned.

    Args:
        name: the option and what the user calls the directory, for the message where somebody else holds it.
    Raises:
        ConfigError: another process holds it; names its pid.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, name: str):
        self._path, self._complaint = path / LOCK, f"{name} is in use by process"
        status = os.stat(path)
        self._directory = (status.st_dev, status.st_ino)
        if self._directory in _held:
            raise ConfigError(f"{self._complaint} {os.getpid()}, this one")
        self._file: TextIO = self._open()
        while not self._is_there():  # its last holder has removed it between our opening and our locking it
            self._file.close()
            self._file = self._open()
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {socket.gethostname()}")
        self._file.flush()
        _held.add(self._directory)

    def _open(self) -> TextIO:
        file = open(self._path, "a+")
        try:
            try:
                if not try_lock(file.fileno()):
                    raise ConfigError(f"{self._complaint} {_owner(file)[0]}")
            except NoLocksError as error:
                self._ask_for_the_owner(file, error)
        except BaseException:
            file.close()
            raise
        return file

    def _ask_for_the_owner(self, file: TextIO, error: NoLocksError) -> None:
        """Where there are no locks: whether the process that has written its number there has ended."""
        owner, host = _owner(file)
        remedy = f"if that has ended, remove '{self._path}'"
        if host not in ("", socket.gethostname()):
            raise ConfigError(f"{self._complaint} {owner} on {host}; {remedy}")
        if owner.isdecimal() and int(owner) != os.getpid() and is_alive(int(owner)):
            raise ConfigError(f"{self._complaint} {owner}; {remedy}")
        print(f"run_a3c.py: warning: the file system of '{self._path.parent}' has no locks ({error.strerror}): "
              "see to it that no other command uses this directory", file=sys.stderr)

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
        _held.discard(self._directory)


def require_locks(path: Path) -> None:
    """See that workers can take turns by a lock on the file `path`, which is made.

    Raises:
        ConfigError: its file system has no locks.
        OSError: it cannot be written.
    """
    with open(path, "a+") as file:
        try:
            try_lock(file.fileno())
        except NoLocksError as error:
            raise ConfigError(f"mode: locked needs a file system with locks, which that of '{path.parent}' has not "
                              f"({error.strerror}); choose another --run-dir or --mode async") from None


def _owner(file: TextIO) -> tuple[str, str]:
    """The process number and the machine that stand in a lock's file."""
    file.seek(0)
    owner, _, host = file.read().strip().partition(" ")
    return owner or "another process", host
