"""The border of every child process: where it logs, how it fails, and that it never outlives the run."""

import ctypes
import faulthandler
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from workers import exit_codes
from workers.launch import SAFE_PATH

if sys.platform != "win32":
    import fcntl

SHOW_CURSOR = b"\x1b[?25h"


class DiskError(RuntimeError):
    """A checkpoint could not be written; one line that names the file. Other OSErrors are the environment's own."""


def run(log: Path, work: Callable[[], None], terminal: str | None = None) -> None:
    """Run a child's `work` logging what it prints to `log`; exit with a code that names the kind of failure.

    Args:
        terminal: the path of the terminal whose cursor this process shows again, should the parent be killed while a
            live frame hides it; None where there is none, or where that is another process's duty.
    """
    _redirect_output(log)
    _exit_with_parent(terminal)
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.pop(SAFE_PATH, None)  # it has done its work, and is not meant for what an environment may start
    torch.set_num_threads(1)
    gc.freeze()  # what was imported is never garbage: looking through it would only copy pages that are shared
    try:
        work()
    except FloatingPointError:
        _fail(exit_codes.NUMERICS)
    except DiskError:
        _fail(exit_codes.DISK)
    except (Exception, SystemExit):  # an environment that calls sys.exit has not finished its worker's run
        _fail(exit_codes.WORKER)


def last_words(log: Path, since: int = 0) -> str:
    """The last traceback, crash report or stack in a child's log; '' where there is none.

    Args:
        since: the log's size in bytes when the child was started: what its predecessors left is not its own.
    """
    text = log.read_bytes()[since:].decode(errors="replace") if log.exists() else ""
    markers = ("Traceback (most recent call last)", "Fatal Python error", "Stack (most recent call first)")
    start = max(text.rfind(marker) for marker in markers)
    return text[start:].strip() if start >= 0 else ""


def _redirect_output(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=False)  # sent to a process that hangs: it tells where


def _exit_with_parent(terminal: str | None) -> None:
    """End this process when the parent is gone, whatever it is doing: nobody is left to read its results."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def leave() -> None:
        if terminal is not None:
            _show_cursor(terminal)
        os._exit(exit_codes.WORKER)

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        leave()

    if sys.platform == "linux":
        _signal_at_hang_up(sentinel, _alarm_signal() if terminal is not None else signal.SIGKILL)
    if multiprocessing.connection.wait([sentinel], timeout=0):  # gone before anybody watched
        leave()
    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def _signal_at_hang_up(sentinel: int, number: int) -> None:
    """Have the kernel signal this process when the parent has closed its end of the sentinel, which is a pipe.

    A process that holds the interpreter's lock in C code never runs the thread that watches. The kernel's signal at the
    death of a process's own parent (PR_SET_PDEATHSIG) would come too late for it: its own parent is the forkserver,
    which lives for as long as any process that it has started.
    """
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETSIG, number)
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)


def _alarm_signal() -> int:
    """A signal that ends this process some seconds after it came, so that the thread has the time to do its duty.

    Its handler must be C code: Python's own wait for the interpreter's lock. The C library's alarm will do, which takes
    what a handler is given, the signal's number, for seconds: SIGQUIT, 3, is followed by SIGALRM after three.
    """
    library = ctypes.CDLL(None)
    library.signal(int(signal.SIGQUIT), library.alarm)
    return signal.SIGQUIT


def _show_cursor(terminal: str) -> None:
    with suppress(OSError):  # the terminal may be gone as well
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # a shell has taken it back: do not stop for that
        os.write(os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), SHOW_CURSOR + b"\n")


def _fail(code: int) -> None:
    traceback.print_exc()
    sys.stderr.flush()
    sys.exit(code)
