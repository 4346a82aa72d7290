"""Locks on open files, which the kernel takes back from whoever dies with one. Standard library alone."""

import errno

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What a file system, or a sandbox, answers that does not know a kind of lock; EAGAIN means that somebody else has it.
UNKNOWN = {getattr(errno, name) for name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK", "EINVAL", "EPERM")}


class NoLocksError(OSError):
    """A file system that knows no locks; says what it answered."""


def try_lock(descriptor: int) -> bool:
    """Take the lock of a file that is open for reading and writing; False where somebody else has it.

    It is one of flock's. A file system without those is asked for a POSIX record lock instead, which belongs to the
    whole process: it says nothing about another holder in this one, and goes when any of its descriptors is closed.

    Raises:
        NoLocksError: the file system has neither kind.
        OSError: as the system reports it.
    """
    return _ask(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if fcntl else 0)


def unlock(descriptor: int) -> None:
    """Let others have the lock."""
    _ask(descriptor, fcntl.LOCK_UN)


def _ask(descriptor: int, operation: int) -> bool:
    if fcntl is None:
        raise NoLocksError(errno.ENOSYS, "this system has no file locks")
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNKNOWN | {errno.EACCES}:
            raise
    else:
        return True
    try:
        fcntl.lockf(descriptor, operation)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in UNKNOWN:
            raise NoLocksError(error.errno, error.strerror) from None
        raise
    return True
