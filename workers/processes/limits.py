"""What this system allows a run: descriptors, processes, sockets, cores. Standard library and configuration alone."""

import errno
import os
import sys

from a3c.config import Config, ConfigError

if sys.platform != "win32":
    import resource

# Measured in runs of 2 and 20 workers, and rounded up: libraries, log files and shared arrays take 54 to 80 in the
# process that needs most, the parent; every worker takes 2 there, the ends of two pipes by which processes see each
# other end, and where workers wait for each other 2 more.
BASE_DESCRIPTORS = 128
DESCRIPTORS_PER_WORKER = {"async": 3, "locked": 3, "sync": 5}
SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes of the longest name of a socket
SOCKET_NAME = len("/pymp-12345678/listener-12345678")  # multiprocessing's, within the directory for temporary files


def check_limits(config: Config) -> None:
    """Check that the run's processes can be started and may open enough files, raising that limit if need be.

    Before the first process is started: a limit is inherited.

    Raises:
        ConfigError: this process may not have children, or the run needs more than this system allows.
    """
    import multiprocessing  # not needed where an option is wrong

    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "workers: this process may not start any: it is a daemonic one, as those of "
            "multiprocessing.Pool are; use concurrent.futures.ProcessPoolExecutor instead"
        )
    if sys.platform == "win32":  # which has no such limit
        return
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


def process_refusal(config: Config, error: OSError) -> ConfigError | None:
    """The error to raise where the system refused to start one more process; None where `error` is of another kind."""
    if error.errno not in (errno.EAGAIN, errno.ENOMEM):
        return None
    remedy = "memory" if error.errno == errno.ENOMEM else "processes (`ulimit -u`, or the limit of the container)"
    return ConfigError(
        f"workers: the system refused to start one more of the run's processes: {error.strerror}; "
        f"allow more {remedy}, or use fewer workers than {config.workers}"
    )


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
    import tempfile  # which multiprocessing imports as well

    try:
        usual = tempfile.gettempdir()
        if _holds_sockets(usual):
            return None
    except FileNotFoundError:  # nothing that it knows of can be written
        usual = os.environ.get("TMPDIR", "")
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):
        if folder and _holds_sockets(folder) and os.access(folder, os.W_OK):
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
