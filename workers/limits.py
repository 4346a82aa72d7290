"""What this system allows a run: file descriptors, and cores. Standard library and the configuration alone."""

import os
import sys

from a3c.config import Config, ConfigError

if sys.platform != "win32":
    import resource

# Measured in runs of 2 and 20 workers, and rounded up: libraries, log files and shared arrays take 25 to 40 in the
# process that needs most, the parent; every worker takes 2 there, the ends of two pipes by which processes see each
# other end, and where workers wait for each other 2 more.
BASE_DESCRIPTORS = 96
DESCRIPTORS_PER_WORKER = {"async": 3, "locked": 3, "sync": 5}


def check_descriptors(config: Config) -> None:
    """Make sure that the run's processes may open as many files as they need, by raising their limit if need be.

    To be called before the first process is started: a limit is inherited.

    Raises:
        ConfigError: the run needs more than this system allows.
    """
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


def needed_descriptors(config: Config) -> int:
    """File descriptors that the busiest process of a run has open, with a margin."""
    return BASE_DESCRIPTORS + DESCRIPTORS_PER_WORKER[config.mode] * config.workers


def crowding(config: Config) -> str | None:
    """A line about workers that have to share cores; None where every worker may have its own."""
    cores = usable_cores()
    if config.workers <= cores:
        return None
    return (
        f"{config.workers} workers on {cores} core{'s' * (cores != 1)}: they take turns; more workers than cores step "
        "faster only where environments wait (--env-latency-ms, simulators elsewhere)"
    )


def usable_cores() -> int:
    """Cores on which this process may run."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
