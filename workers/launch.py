"""How processes are started: from a preloaded forkserver, or by spawn where there is none. Standard library alone.

Importing torch takes most of a short run's time. A forkserver imports it once, in a process of its own, while the
parent imports it too; every worker is then a fork of that clean process (no threads, no locks held), which takes
milliseconds (docs/decisions/0001).
"""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path

PRELOAD = ["torch", "gymnasium", "workers.actor_learner", "workers.monitor"]
# Workers are the parallelism: BLAS threads on top of them take each other's cores, and a thread pool does not survive
# a fork. Read when the libraries are loaded, hence set before any process starts.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
SAFE_PATH = "PYTHONSAFEPATH"  # else a forkserver imports what the current directory has under our packages' names


def context() -> BaseContext:
    """The way processes are started on this platform."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def start_forkserver() -> None:
    """Start preloading now, so that it runs beside the parent's own imports; nothing where it runs already."""
    if context().get_start_method() != "forkserver":
        return
    multiprocessing.set_forkserver_preload(PRELOAD)
    multiprocessing.resource_tracker.ensure_running()  # starting it unblocks signals, so it goes first
    with inherited():
        multiprocessing.forkserver.ensure_running()


@contextmanager
def inherited() -> Iterator[None]:
    """What a process started inside inherits: single-threaded BLAS, importable packages, blocked signals.

    A terminal's Ctrl-C and hang-up, or `timeout`, signal every process of the group. Only the parent acts on them;
    blocking rather than ignoring them in the children leaves no moment in which one of them could die of it.
    """
    packages = str(Path(__file__).resolve().parent.parent)
    changed = {
        **ENVIRONMENT,
        SAFE_PATH: "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    if sys.platform != "win32":
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
