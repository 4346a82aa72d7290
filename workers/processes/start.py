"""How processes are started, from a preloaded forkserver, and what this system allows them. Standard library alone.

Importing torch takes most of a short run's time. A forkserver imports it once, in a process of its own, while the
parent imports it too; every worker is then a fork of that clean process (no threads, no locks held), which takes
milliseconds (docs/decisions/0001). It is ours alone: processes that a user's program starts do not come from it.
"""

import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError

PRELOAD = ["workers.processes.start", "torch", "gymnasium"]
PRELOAD += ["workers.actor_learner", "workers.monitor", "workers.checkpointer"]
# Workers are the parallelism: BLAS threads on top of them take each other's cores, and a thread pool does not survive
# a fork. Read when the libraries are loaded, hence set before any process starts.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
SAFE_PATH = "PYTHONSAFEPATH"  # else a forkserver imports what the current directory has under our packages' names
FORKSERVER = "A3C_FORKSERVER_LOG"  # marks a process as our forkserver, and names the file for its errors
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Measured in runs of 2 and 20 workers, and rounded up: libraries, log files and shared arrays take 54 to 80 in the
# process that needs most, the parent; every worker takes 2 there, the ends of two pipes by which processes see each
# other end, and where workers wait for each other 2 more.
BASE_DESCRIPTORS = 128
DESCRIPTORS_PER_WORKER = {"async": 3, "locked": 3, "sync": 5}
SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes of the longest name of a socket
SOCKET_NAME = len("/pymp-12345678/listener-12345678")  # multiprocessing's, within the directory for temporary files


def context() -> Any:
    """The multiprocessing context by which all processes are started."""
    return multiprocessing.get_context("forkserver")


def start_process(process: BaseProcess, needs_main: bool = False) -> None:
    """Start a process of our `context`, from our forkserver; OSError or EOFError where that died: another try may do.

    Only with `needs_main` does it import the user's script: one without a main guard would run again in every process.
    """
    connect, prepare = forkserver.connect_to_new_process, spawn.get_preparation_data

    def prepare_without_main(name: str) -> dict[str, Any]:
        return {key: value for key, value in prepare(name).items() if not key.startswith("init_main")}

    with inherited():
        try:
            forkserver.connect_to_new_process = _server.connect_to_new_process
            spawn.get_preparation_data = prepare if needs_main else prepare_without_main
            process.start()
        finally:
            forkserver.connect_to_new_process, spawn.get_preparation_data = connect, prepare


@contextmanager
def inherited() -> Iterator[None]:
    """What processes started inside inherit: single-threaded BLAS, importable packages, blocked signals."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    changed = {**THREADS, SAFE_PATH: "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    changed[FORKSERVER] = str(_server.log)
    before = {name: os.environ.get(name) for name in changed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of a resource tracker that died; it guards nothing of ours
        resource_tracker.ensure_running()  # starting it unblocks signals, so it goes first
    os.environ.update(changed)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


# -- the forkserver ---------------------------------------------------------------------------------------------------


class _Server(forkserver.ForkServer):
    """A forkserver of our own, restarted where the user's environment variables have changed."""

    log = Path(os.devnull)
    variables: dict[str, str] | None = None  # as they were when it was started


_server = _Server()
_server.set_forkserver_preload(PRELOAD)


def start_forkserver(log: Path = Path(os.devnull)) -> None:
    """Start preloading now, beside the parent's own imports; nothing where the forkserver runs already.

    Its output goes to `log`, and that of processes that fail before they have a log of their own.
    """
    variables = dict(os.environ)
    if variables != _server.variables:
        stop_forkserver()
        _server.variables, _server.log = variables, log
    if (folder := short_temporary_directory()) is not None:
        multiprocessing.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]
    try:
        with inherited():
            _server.ensure_running()
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOMEM):
            raise
        raise ConfigError(
            f"workers: the system refused to start one more of the run's processes: {error.strerror}; allow more "
            "memory or processes (`ulimit -u`, or the limit of the container), or use fewer workers"
        ) from error


def stop_forkserver() -> None:
    """End the forkserver, whatever it still imports; processes started from it live on without it."""
    _server.variables = None
    if (pid := _server._forkserver_pid) is not None:  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)  # else it waits for all that it has started
        _server._stop()  # type: ignore[attr-defined]


def forkserver_log() -> Path:
    """Where the forkserver's errors go."""
    return _server.log


def redirect_output(log: str | Path) -> None:
    """Append this process's output, from Python or C, to a file; raises OSError."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


# -- what the system allows -------------------------------------------------------------------------------------------


def check_limits(config: Config) -> None:
    """Check that the run's processes can be started and may open enough files; raise the limit if need be."""
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "workers: this process may not start any: it is a daemonic one, as those of multiprocessing.Pool are; "
            "use concurrent.futures.ProcessPoolExecutor instead"
        )
    needed, (soft, hard) = needed_descriptors(config), resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):  # beyond the hard limit, or beyond what the kernel grants
        raise ConfigError(
            f"workers: {config.workers} in {config.mode} mode need about {needed} file descriptors, this system allows "
            f"{soft if hard == resource.RLIM_INFINITY else hard}; raise it with `ulimit -n {needed}`, "
            "or use fewer workers"
        ) from None


def needed_descriptors(config: Config) -> int:
    """File descriptors that the busiest process of a run has open, with a margin."""
    return BASE_DESCRIPTORS + DESCRIPTORS_PER_WORKER[config.mode] * config.workers


def short_temporary_directory() -> str | None:
    """A directory for multiprocessing's sockets where TMPDIR's name is too long; None where it is not."""
    usual = os.environ.get("TMPDIR", "")
    with suppress(FileNotFoundError):  # nothing that tempfile knows of can be written
        if _holds_sockets(usual := tempfile.gettempdir()):
            return None
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):
        if folder and _holds_sockets(folder) and os.access(folder, os.W_OK):
            return folder
    raise ConfigError(
        f"TMPDIR: no directory for the sockets by which processes are started: '{usual}' is longer than "
        f"{SOCKET_PATH - SOCKET_NAME} bytes or cannot be written, as are the others; set TMPDIR to one that will do"
    )


def _holds_sockets(folder: str) -> bool:
    return len(os.fsencode(folder)) + SOCKET_NAME <= SOCKET_PATH


def crowding(config: Config) -> str | None:
    """A line about workers that have to share cores; None where every worker may have its own."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if config.workers <= cores:
        return None
    return (
        f"{config.workers} workers on {cores} core{'s' * (cores != 1)}: they take turns; more workers than cores step "
        "faster only where environments wait (--env-latency-ms, simulators elsewhere)"
    )


def process_started() -> float:
    """When the command was typed, a time.monotonic(): the interpreter's own start belongs to the waiting."""
    try:  # in clock ticks since boot; psutil adds them to a boot time rounded to seconds
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - age
    except (OSError, AttributeError):  # another system, or no /proc
        return time.monotonic() - time.process_time()


if forkserver_output := os.environ.pop(FORKSERVER, ""):
    # This is the first import of our forkserver. A terminal's Ctrl-C and hang-up, or `timeout`, signal every process of
    # a group, and only the parent acts on them: so it has a group of its own. It was started with these signals
    # blocked; from here on they are ignored, since a blocked one would stay blocked in what an environment starts.
    os.setpgid(0, 0)
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
    with suppress(OSError):  # a disk that refuses it must not keep a run from starting
        redirect_output(forkserver_output)
