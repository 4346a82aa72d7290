"""What environments may do to the command's own process while it uses one: print, read, change the folder."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def environment_output() -> Iterator[None]:
    """Send what is written to standard output, by Python or by C code, to standard error: the output is the command's.

    The current folder, into which some simulators change for their files, is put back at the end.
    """
    folder = _current_folder()
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.callback(_return_to, folder)
        if (kept := _duplicate(1)) is not None:
            stack.callback(_put_back, kept)
            _flush()
            with contextlib.suppress(OSError):  # standard error is closed
                os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def no_input() -> Iterator[None]:
    """Nothing is typed meanwhile, as in a worker: a debugger ends there instead of waiting."""
    before = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = before


def _put_back(kept: int) -> None:
    _flush()
    os.dup2(kept, 1)
    os.close(kept)


def _flush() -> None:
    """Empty the buffers of Python and of C: what they hold belongs to where descriptor 1 leads now."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stdout.flush()
    with contextlib.suppress(OSError, AttributeError):  # no such library on this platform
        _c_library().fflush(None)


@functools.cache
def _c_library() -> Any:
    import ctypes  # not needed where nobody's environment runs

    return ctypes.CDLL(None)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed
        return None


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return None


def _return_to(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(folder)
