"""What this system allows a run: descriptors, processes, sockets, cores. Standard library and configuration alone."""

import errno
import multiprocessing
import os
import sys
import tempfile
from contextlib import suppress

from a3c.config import Config, ConfigError

if sys.platform != "win32":
    import resource

# Measured in runs of 2 and 20 workers, and rounded up: libraries, log files and shared arrays take 54 to 80 in the
# process that needs most, the parent; every worker takes 2 there, the ends of two pipes by which processes see each
# other end, and where workers wait for each other 2 more.
BASE_DESCRIPTORS = 128
DESCRIPTORS_PER_WORKER = {"async": 3, "locked": 3, "sync": 5}
# Threads count as processes, and each process of a run has two; beside the workers there are the parent, the
# forkserver, the resource tracker, the monitor, the checkpointer, and git for a moment.
BASE_PROCESSES, PROCESSES_PER_WORKER = 12, 2
FEW_PROCESSES = 5_000  # beyond what a run needs: above it the running ones are not counted, which takes a while
SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes of the longest name of a socket
SOCKET_NAME = len("/pymp-12345678/listener-12345678")  # multiprocessing's, within the directory for temporary files


def check_limits(config: Config) -> None:
    """Check that the run's processes can be started, raising limits that are too low: before any process is started.

    Raises:
        ConfigError: the run needs more than this system allows, or this process may not have children.
    """
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "workers: this process may not start any: it is a daemonic one, as those of "
            "multiprocessing.Pool are; use concurrent.futures.ProcessPoolExecutor instead"
        )
    if sys.platform != "win32":  # which has no such limits
        check_descriptors(config)
        check_processes(config)


def check_descriptors(config: Config) -> None:
    """Check that the run's processes may open as many files as they need, raising their limit if need be.

    Raises:
        ConfigError: the run needs more than this system allows.
    """
    needed = needed_descriptors(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):  # beyond the hard limit, or beyond what the kernel grants
        allowed = soft if hard == resource.RLIM_INFINITY else hard
        raise ConfigError(
            f"workers: {config.workers} in {config.mode} mode need about {needed} file descriptors, this system allows "
            f"{allowed}; raise it with `ulimit -n {needed}`, or use fewer workers"
        ) from None


def check_processes(config: Config) -> None:
    """Check that the user may have as many processes as the run needs, raising their limit if need be.

    Raises:
        ConfigError: this system does not allow as many.
    """
    if os.getuid() == 0:  # whom the limit does not bind
        return
    needed = BASE_PROCESSES + PROCESSES_PER_WORKER * config.workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or soft >= needed + FEW_PROCESSES:
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        soft = hard
    if soft != resource.RLIM_INFINITY and soft < needed + (running := _running_processes()):
        raise ConfigError(
            f"workers: {config.workers} need about {needed} processes and threads, this system allows {soft} of which "
            f"{running} are running; raise it with `ulimit -u {needed + running}`, or use fewer workers"
        )


def process_refusal(config: Config, error: OSError) -> ConfigError | None:
    """The error to raise where the system refused to start one more process; None where `error` is of another kind."""
    if error.errno not in (errno.EAGAIN, errno.ENOMEM):
        return None
    remedy = "memory" if error.errno == errno.ENOMEM else "processes (`ulimit -u`, or the limit of the container)"
    return ConfigError(
        f"workers: the system refused to start one more of the run's processes: {error.strerror}; "
        f"allow more {remedy}, or use fewer workers than {config.workers}"
    )


def _running_processes() -> int:
    """Processes and threads of this user, as far as they can be seen."""
    import psutil  # only where the limit is low

    processes = [process.info for process in psutil.process_iter(["uids", "num_threads"], ad_value=None)]
    return sum(one["num_threads"] or 1 for one in processes if one["uids"] and one["uids"].real == os.getuid())


def leave_deleted_folder() -> None:
    """Go to the root directory where the current folder has been deleted: no process can be started from there."""
    try:
        os.getcwd()
    except OSError:
        os.chdir(os.sep)


def short_temporary_directory() -> str | None:
    """A directory for multiprocessing's sockets where the usual one, TMPDIR, will not do; None where it will.

    Raises:
        ConfigError: none can be found.
    """
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:  # nothing that it knows of can be written
        usual = os.environ.get("TMPDIR", "")
    else:
        if _holds_sockets(usual):
            return None
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):
        if folder and _holds_sockets(folder):
            with suppress(OSError):
                tempfile.TemporaryFile(dir=folder).close()
                return folder
    raise ConfigError(
        f"TMPDIR: no directory for the sockets by which processes are started: '{usual}' is longer than "
        f"{SOCKET_PATH - SOCKET_NAME} bytes or cannot be written, as are the others; set TMPDIR to one "
        "that will do"
    )


def _holds_sockets(folder: str) -> bool:
    return len(os.fsencode(folder)) + SOCKET_NAME <= SOCKET_PATH


def needed_descriptors(config: Config) -> int:
    """File descriptors that the busiest process of a run has open, with a margin."""
    return BASE_DESCRIPTORS + DESCRIPTORS_PER_WORKER[config.mode] * config.workers


def crowding(config: Config) -> str | None:
    """A line about workers that have to share cores; None where every worker may have its own."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if config.workers <= cores:
        return None
    return (
        f"{config.workers} workers on {cores} core{'s' * (cores != 1)}: they take turns; more workers than cores step "
        "faster only where environments wait (--env-latency-ms, simulators elsewhere)"
    )
