"""How processes are started: from a preloaded forkserver, or by spawn where there is none. Standard library alone.

Importing torch takes most of a short run's time. A forkserver imports it once, in a process of its own, while the
parent imports it too; every worker is then a fork of that clean process (no threads, no locks held), which takes
milliseconds (docs/decisions/0001). It is ours alone: what a user's program starts has nothing to do with it.
"""

import io
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction, resource_tracker, spawn, util
from multiprocessing.context import BaseContext, set_spawning_popen
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from workers.processes.limits import short_temporary_directory

PRELOAD = [
    "workers.processes.forkserver_entry",
    "torch",
    "gymnasium",
    "workers.actor_learner",
    "workers.monitor",
    "workers.checkpointer",
]
# Workers are the parallelism: BLAS threads on top of them take each other's cores, and a thread pool does not survive
# a fork. Read when the libraries are loaded, hence set before any process starts.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
SAFE_PATH = "PYTHONSAFEPATH"  # else a forkserver imports what the current directory has under our packages' names
FORKSERVER = "A3C_FORKSERVER_LOG"  # tells a forkserver that it is one, and where its errors go
TERMINAL_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HAS_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods()

if HAS_FORKSERVER:
    from multiprocessing import forkserver, popen_forkserver


def context() -> BaseContext:
    """The way processes are started on this platform."""
    return multiprocessing.get_context("forkserver" if HAS_FORKSERVER else "spawn")


def new_process(target: Callable[..., None], arguments: tuple[Any, ...], name: str, needs_main: bool) -> BaseProcess:
    """A process that `start_process` starts.

    Args:
        needs_main: its arguments refer to what the user's script defines, so the process must import that.
    """
    if not HAS_FORKSERVER:
        return context().Process(target=target, args=arguments, name=name)  # type: ignore[attr-defined,no-any-return]
    return _Process(target, arguments, name, needs_main)


def start_process(process: BaseProcess) -> None:
    """Start a process from a forkserver, which is started too where it has died.

    Raises:
        OSError, EOFError: the forkserver died while it did, or cannot be started; another try may succeed.
    """
    with inherited():
        process.start()


def start_forkserver(log: Path = Path(os.devnull)) -> None:
    """Start preloading now, so that it runs beside the parent's own imports; nothing where it runs already.

    Args:
        log: takes what the forkserver, and processes that fail before they have a log of their own, say.
    """
    if HAS_FORKSERVER:
        _server.start(log)


def stop_forkserver() -> None:
    """End the forkserver, whatever it still imports: nobody is to be started any more."""
    if HAS_FORKSERVER:
        _server.stop()


def forkserver_log() -> Path | None:
    """Where the forkserver's errors go; None where there is no forkserver."""
    return _server.log if HAS_FORKSERVER else None


def redirect_output(log: str | Path) -> None:
    """Have this process's output, from Python or C, appended to a file.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


@contextmanager
def inherited() -> Iterator[None]:
    """What a forkserver that is started inside inherits: single-threaded BLAS, importable packages, blocked signals."""
    packages = str(Path(__file__).resolve().parents[2])
    changed = {
        **ENVIRONMENT,
        SAFE_PATH: "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
    }
    if (log := forkserver_log()) is not None:
        changed[FORKSERVER] = str(log)
    before = {name: os.environ.get(name) for name in changed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of a resource tracker that died; it guards nothing of ours
        resource_tracker.ensure_running()  # starting it unblocks signals, so it goes first
    os.environ.update(changed)
    if sys.platform != "win32":
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
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


if HAS_FORKSERVER:

    class _Server:
        """A forkserver of our own, started anew where the user's environment variables have changed."""

        def __init__(self) -> None:
            self._forkserver = forkserver.ForkServer()
            self._variables: dict[str, str] | None = None  # as they were when it was started
            self.log: Path | None = None

        def start(self, log: Path) -> None:
            variables = dict(os.environ)
            if variables != self._variables:
                self.stop()
                self._variables, self.log = variables, log
            self._forkserver.set_forkserver_preload(PRELOAD)
            if (folder := short_temporary_directory()) is not None:
                multiprocessing.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]
            with inherited():
                self._forkserver.ensure_running()

        def stop(self) -> None:
            """Be rid of the one there is; nobody needs it who was started from it."""
            self._variables = None
            if (pid := self._forkserver._forkserver_pid) is not None:  # type: ignore[attr-defined]
                os.kill(pid, signal.SIGKILL)  # it ends by itself only after everybody that it has started
                self._forkserver._stop()  # type: ignore[attr-defined]

        def connect(self, descriptors: list[int]) -> tuple[int, int]:
            return self._forkserver.connect_to_new_process(descriptors)

    class _Process(BaseProcess):
        _start_method = "forkserver"

        def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...], name: str, needs_main: bool):
            super().__init__(target=target, args=arguments, name=name)
            self.needs_main = needs_main

        @staticmethod
        def _Popen(process: "_Process") -> "_Popen":  # noqa: N802
            return _Popen(process)

    class _Popen(popen_forkserver.Popen):
        """As Python's own, but from our forkserver, and importing the user's script only where that is needed.

        So a script without a main guard does not start itself again in every process.
        """

        def _launch(self, process: _Process) -> None:
            preparation = spawn.get_preparation_data(process.name)
            if not process.needs_main:
                preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
            buffer = io.BytesIO()
            set_spawning_popen(self)
            try:
                reduction.dump(preparation, buffer)
                reduction.dump(process, buffer)
            finally:
                set_spawning_popen(None)
            self.sentinel, writer = _server.connect(self._fds)  # type: ignore[attr-defined]
            # The process sees by the write end of its data pipe, a copy of which stays open here, that we are alive.
            parent = os.dup(writer)
            self.finalizer = util.Finalize(self, util.close_fds, (parent, self.sentinel))  # type: ignore[attr-defined]
            with open(writer, "wb", closefd=True) as pipe:
                pipe.write(buffer.getbuffer())
            self.pid = forkserver.read_signed(self.sentinel)

    _server = _Server()
