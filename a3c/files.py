"""Files that are whole at every moment, and reading that trusts no file."""

import contextlib
import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from a3c.config import ConfigError

_TEMPORARY = re.compile(r"\..+\.(\d{1,9})\.tmp", re.DOTALL)
# What file systems answer that cannot make something durable, as opposed to those that failed to (EIO, ENOSPC).
_NAMES = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EACCES", "EPERM", "EISDIR", "EROFS", "ENOTTY")
_CANNOT_SYNC = {getattr(errno, name) for name in _NAMES}


def typed_path(option: str, typed: str | os.PathLike[str]) -> Path:
    """The path that a user means: `~` is the home directory; a ConfigError where it is empty or that is unknown."""
    text = os.fspath(typed)
    if not text or "\0" in text:
        raise ConfigError(f"{option}: expected a path, got {text!r}")
    path = os.path.expanduser(text)
    if path.partition("/")[0] == "~":
        raise ConfigError(f"{option}: '{text}': the home directory is unknown; set HOME, or write the path without ~")
    return Path(path)


def absolute_path(option: str, path: Path) -> Path:
    """Where a path leads now; a ConfigError where it is relative to a folder that has been deleted."""
    try:
        return Path(os.path.abspath(path))
    except OSError as error:
        raise ConfigError(
            f"{option}: '{path}' is in the current folder, which has been deleted; give an absolute path"
        ) from error


def leave_deleted_folder() -> None:
    """Go to the root directory where the current folder has been deleted: no process can be started from there."""
    try:
        os.getcwd()
    except OSError:
        os.chdir(os.sep)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file by `content` so that a crash at any moment leaves the old file or the new one, whole.

    An OSError names `path`; no temporary file is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
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
    try:
        descriptor = os.open(path, os.O_RDONLY)  # a directory that may be written need not be readable
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make what was written to an open file durable, where its file system can; else OSError."""
    try:
        os.fsync(descriptor)
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
            if match and (int(match[1]) == os.getpid() or not _is_alive(int(match[1]))):
                discard(directory / name)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # alive, and another user's
        pass
    return True


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; else an OSError, and nothing waits for a pipe."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than the {limit} bytes expected", os.fspath(path))
        return file.read(status.st_size)


def json_bytes(value: Any) -> bytes:
    """Indented JSON with a final newline; refuses NaN, which JSON has not."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object that `content` is: a ValueError where a number is not finite or a key comes twice, too."""
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
