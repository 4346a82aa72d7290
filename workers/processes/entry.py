"""What every child process does first and last: where it logs, how it fails, and that it never outlives the run."""

import faulthandler
import fcntl
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import torch

from a3c.config import NumericsError
from workers import ExitCode
from workers.processes.start import SAFE_PATH, TERMINAL_SIGNALS, redirect_output

SHOW_CURSOR = b"\x1b[?25h"
LEAVE_SECONDS = 1.0  # for threads and processes that an environment has left to end
MARKERS = ("Traceback (most recent call last)", "Fatal Python error", "Stack (most recent call first)")


class DiskError(RuntimeError):
    """A checkpoint could not be written; one line that names the file. Other OSErrors are the environment's own."""


def run(log: Path, work: Callable[[], None], terminal: str | None = None) -> None:
    """Run a child's `work`, its output appended to `log`; exit with a code that names the kind of failure.

    It shows the cursor of `terminal` again, should the parent be killed while a live frame hides it.
    """
    # A group of its own, with all that its environment starts, to be signalled as one: the terminal's signals, which
    # only the parent acts on, go to another. A scheduler's may come all the same: handlers that do nothing, since what
    # is blocked or ignored here would be so in every simulator too.
    os.setpgid(0, 0)
    for number in TERMINAL_SIGNALS:
        signal.signal(number, lambda number, frame: None)
    os.register_at_fork(after_in_child=_restore_signals)
    redirect_output(log)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=False)  # sent to a process that hangs: logs where
    _exit_with_parent(terminal)
    os.environ.pop(SAFE_PATH, None)  # it has done its work, and is not meant for what an environment may start
    torch.set_num_threads(1)
    np.seterr(all="ignore")  # what is not finite is looked for, and refused, before it is learned from
    gc.freeze()  # what was imported is never garbage: looking through it would only copy pages that are shared
    code = ExitCode.FINISHED
    try:
        work()
    except (Exception, SystemExit) as error:  # an environment that calls sys.exit has not finished its worker's run
        traceback.print_exc()
        sys.stderr.flush()
        known = {NumericsError: ExitCode.NUMERICS, DiskError: ExitCode.DISK}
        code = next((code for kind, code in known.items() if isinstance(error, kind)), ExitCode.WORKER)
    timer = threading.Timer(LEAVE_SECONDS, os._exit, (code,))  # what an environment has left may not end
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # an environment has used up what this process may have
        os._exit(code)
    if code:
        sys.exit(code)


def crash_report(log: Path, since: int = 0) -> str:
    """The last traceback, crash report or stack in a child's log after `since` bytes; '' where there is none."""
    text = log.read_bytes()[since:].decode(errors="replace") if log.exists() else ""
    start = max(text.rfind(marker) for marker in MARKERS)
    return text[start:].strip() if start >= 0 else ""


def _restore_signals() -> None:
    """In a process that an environment has forked: the terminal's signals do what they do by default."""
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _exit_with_parent(terminal: str | None) -> None:
    """End this process's group when the parent is gone, whatever it is doing: nobody is left to read its results."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def leave_after_parent() -> None:
        wait([sentinel])
        if terminal is not None:
            with suppress(OSError):  # the terminal may be gone as well
                # A shell has taken the terminal back: do not stop for that.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
                os.write(os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), SHOW_CURSOR + b"\n")
        os.killpg(0, signal.SIGKILL)

    if sys.platform == "linux" and terminal is None:
        # Have the kernel kill this group when the parent has closed its end of the sentinel, a pipe: a process that
        # holds the interpreter's lock in C code never runs the thread that watches. PR_SET_PDEATHSIG would come too
        # late: the own parent of this process is the forkserver, which lives as long as any that it has started.
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([sentinel], timeout=0):  # gone before this process watched
        leave_after_parent()
    threading.Thread(target=leave_after_parent, name="exit-with-parent", daemon=True).start()
