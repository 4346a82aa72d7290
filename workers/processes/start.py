"""How processes are started: from a preloaded forkserver, or by spawn where there is none. Standard library alone.

Importing torch takes most of a short run's time. A forkserver imports it once, in a process of its own, while the
parent imports it too; every worker is then a fork of that clean process (no threads, no locks held), which takes
milliseconds (docs/decisions/0001). It is ours alone: processes that a user's program starts do not come from it.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker, spawn
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workers.processes.limits import short_temporary_directory

PRELOAD = ["workers.processes.forkserver_entry", "torch", "gymnasium"]
PRELOAD += ["workers.actor_learner", "workers.monitor", "workers.checkpointer"]
# Workers are the parallelism: BLAS threads on top of them take each other's cores, and a thread pool does not survive
# a fork. Read when the libraries are loaded, hence set before any process starts.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
SAFE_PATH = "PYTHONSAFEPATH"  # else a forkserver imports what the current directory has under our packages' names
FORKSERVER = "A3C_FORKSERVER_LOG"  # marks a process as our forkserver, and names the file for its errors
TERMINAL_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HAS_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()


def context() -> Any:
    """The multiprocessing context by which processes are started on this platform."""
    return multiprocessing.get_context("forkserver" if HAS_FORKSERVER else "spawn")


def start_process(process: BaseProcess, needs_main: bool = False) -> None:
    """Start a process of our `context`, from our forkserver, which is restarted where it has died.

    Args:
        needs_main: its arguments refer to what the user's script defines, so it must import that. Otherwise a script
            without a main guard does not run again in every process.
    Raises:
        OSError, EOFError: the forkserver died meanwhile, or cannot be started; another try may succeed.
    """
    with inherited():
        if not HAS_FORKSERVER:
            process.start()
            return
        connect, prepare = forkserver.connect_to_new_process, spawn.get_preparation_data
        try:
            forkserver.connect_to_new_process = _server.connect_to_new_process
            if not needs_main:
                spawn.get_preparation_data = lambda name: {
                    key: value for key, value in prepare(name).items() if not key.startswith("init_main")
                }
            process.start()
        finally:
            forkserver.connect_to_new_process, spawn.get_preparation_data = connect, prepare


def start_forkserver(log: Path = Path(os.devnull)) -> None:
    """Start preloading now, beside the parent's own imports; nothing where the forkserver runs already.

    Args:
        log: for the output of the forkserver, and of processes that fail before they have a log of their own.
    """
    if HAS_FORKSERVER:
        _server.start(log)


def stop_forkserver() -> None:
    """End the forkserver, whatever it still imports."""
    if HAS_FORKSERVER:
        _server.stop()


def forkserver_log() -> Path | None:
    """Where the forkserver's errors go; None where there is no forkserver."""
    return _server.log if HAS_FORKSERVER else None


def redirect_output(log: str | Path) -> None:
    """Append this process's output, from Python or C, to a file; raises OSError."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


@contextmanager
def inherited() -> Iterator[None]:
    """What processes started inside inherit: single-threaded BLAS, importable packages, blocked signals."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    changed = {**THREADS, SAFE_PATH: "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if (log := forkserver_log()) is not None:
        changed[FORKSERVER] = str(log)
    before = {name: os.environ.get(name) for name in changed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of a resource tracker that died; it guards nothing of ours
        resource_tracker.ensure_running()  # starting it unblocks signals, so it goes first
    os.environ.update(changed)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS) if sys.platform != "win32" else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


if HAS_FORKSERVER:
    from multiprocessing import forkserver

    class _Server(forkserver.ForkServer):
        """A forkserver of our own, restarted where the user's environment variables have changed."""

        log: Path | None = None
        _variables: dict[str, str] | None = None  # as they were when it was started

        def start(self, log: Path) -> None:
            variables = dict(os.environ)
            if variables != self._variables:
                self.stop()
                self._variables, self.log = variables, log
            self.set_forkserver_preload(PRELOAD)
            if (folder := short_temporary_directory()) is not None:
                multiprocessing.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]
            with inherited():
                self.ensure_running()

        def stop(self) -> None:
            """End the present one; processes started from it live on without it."""
            self._variables = None
            if (pid := self._forkserver_pid) is not None:  # type: ignore[attr-defined]
                os.kill(pid, signal.SIGKILL)  # else it waits for all that it has started
                self._stop()  # type: ignore[attr-defined]

    _server = _Server()
