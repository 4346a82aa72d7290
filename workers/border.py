"""The border of every child process: where it logs, how it fails, and that it never outlives the run."""

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from workers import exit_codes


class DiskError(RuntimeError):
    """A checkpoint could not be written; one line that names the file. Other OSErrors are the environment's own."""


def run(log: Path, work: Callable[[], None]) -> None:
    """Run a child's `work` logging what it prints to `log`; exit with a code that names the kind of failure."""
    _redirect_output(log)
    _exit_with_parent()
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        work()
    except FloatingPointError:
        _fail(exit_codes.NUMERICS)
    except DiskError:
        _fail(exit_codes.DISK)
    except (Exception, SystemExit):  # an environment that calls sys.exit has not finished its worker's run
        _fail(exit_codes.WORKER)


def last_words(log: Path) -> str:
    """The last traceback or crash report in a child's log; '' where there is none."""
    text = log.read_text(errors="replace") if log.exists() else ""
    starts = [text.rfind(marker) for marker in ("Traceback (most recent call last)", "Fatal Python error")]
    return text[max(starts) :].strip() if max(starts) >= 0 else ""


def _redirect_output(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()


def _exit_with_parent() -> None:
    """End this process when the parent is gone, whatever it is doing: nobody is left to read its results."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(exit_codes.WORKER)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def _fail(code: int) -> None:
    traceback.print_exc()
    sys.stderr.flush()
    sys.exit(code)
