"""Files that are whole at every moment, and reading that trusts no file."""

import contextlib
import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from a3c.config import ConfigError

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})\.tmp", re.DOTALL)
_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has it, and lacks the next two
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # at a pipe or a terminal
# What file systems answer that cannot make something durable, as opposed to those that failed to (EIO, ENOSPC).
_NAMES = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EACCES", "EPERM", "EISDIR", "EROFS", "ENOTTY")
_CANNOT_SYNC = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}


def typed_path(option: str, typed: str | os.PathLike[str]) -> Path:
    """The path that a user means; `~` is the home directory, for not every shell replaces it.

    Raises:
        ConfigError: it is empty, or the home directory is unknown.
    """
    text = os.fspath(typed)
    if not text or "\0" in text:
        raise ConfigError(f"{option}: expected a path, got {text!r}")
    path = os.path.expanduser(text)
    if path == "~" or path.startswith("~/"):
        raise ConfigError(
            f"{option}: '{text}': this system knows no home directory of yours; set HOME, or write the path without ~"
        )
    return Path(path)


def absolute_path(option: str, path: Path) -> Path:
    """Where a path leads now, and still does when an environment has changed the current folder.

    Raises:
        ConfigError: it is relative to a folder that is gone.
    """
    try:
        return Path(os.path.abspath(path))
    except OSError as error:
        raise ConfigError(
            f"{option}: '{path}' is in the current folder, which has been deleted ({error.strerror}); "
            "go to another, or give an absolute path"
        ) from error


def leave_deleted_folder() -> None:
    """Go to the root directory where the current folder has been deleted: no process can be started from there."""
    try:
        os.getcwd()
    except OSError:
        os.chdir(os.sep)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file by `content` so that a crash at any moment leaves the old file or the new one, whole.

    Raises:
        OSError: as the system reports it, naming `path`; no temporary file is left, and the old file is still there
            unless only the last step failed, that of making the new one's name durable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            sync(descriptor)
        finally:
            os.close(descriptor)  # some file systems report only here that the content was lost
        os.replace(temporary, path)
        sync_file(path.parent)
    except BaseException as error:
        discard(temporary)
        if isinstance(error, OSError):  # a full disk is reported without a name, other failures with the temporary one
            error.filename, error.filename2 = os.fspath(path), None
        raise


def sync_file(path: Path) -> None:
    """Make durable what a file holds, or the names in a directory, where its file system can; else OSError."""
    with _where_possible():  # a directory that may be written need not be readable
        descriptor = os.open(path, os.O_RDONLY | _BINARY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make what was written to an open file durable, where its file system can; else OSError."""
    with _where_possible():
        os.fsync(descriptor)


@contextlib.contextmanager
def _where_possible() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def discard(path: Path) -> None:
    """Remove a file that nothing needs; where that fails, it stays."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def discard_leftovers(directory: Path) -> None:
    """Remove the temporary files of writers that died; call it while this process writes nothing in `directory`."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            match = _TEMPORARY.fullmatch(name)
            # A dead writer's number may have come round again to this process.
            if match and (int(match[1]) == os.getpid() or not is_alive(int(match[1]))):
                discard(directory / name)


def is_alive(process: int) -> bool:
    """Whether a process of this number may be running."""
    try:
        if os.name == "posix":  # elsewhere the question itself would end it
            os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # alive, and another user's
        pass
    return True


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is a directory, a pipe or a device; nothing waits for one.
    """
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_WAITING)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than the {limit} bytes expected", os.fspath(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(descriptor)


def json_bytes(value: Any) -> bytes:
    """Indented JSON with a final newline; refuses NaN, which JSON has not."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object that `content` is, read by the letter.

    Raises:
        ValueError: it is something else; also where a number is not finite, a key comes twice, or it nests too deep.
    """
    try:
        value = json.loads(content.decode(), parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found
