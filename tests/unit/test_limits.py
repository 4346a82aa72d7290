"""What the system allows: descriptors, processes, sockets and cores."""

import errno
import multiprocessing.connection
import multiprocessing.util
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from a3c.config import Config, ConfigError
from workers.processes import start
from workers.processes.start import (
    SOCKET_NAME,
    SOCKET_PATH,
    check_limits,
    crowding,
    needed_descriptors,
    short_temporary_directory,
    start_forkserver,
)

UNDER_LIMIT = """
import resource
from a3c.config import Config, ConfigError
from workers.processes.start import check_limits
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
try:
    check_limits(Config(workers=100, mode="sync"))
except ConfigError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def under_limit(soft: int, hard: int) -> list[str]:
    """What checking 100 workers in sync mode says, in a process of its own, and the limits it leaves."""
    script = UNDER_LIMIT.format(soft=soft, hard=hard)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_a_soft_limit_is_raised_to_what_is_needed_and_no_further() -> None:
    needed = needed_descriptors(Config(workers=100, mode="sync"))
    assert under_limit(64, needed + 100) == [f"({needed}, {needed + 100})"]
    assert under_limit(64, needed) == [f"({needed}, {needed})"]


def test_a_limit_that_suffices_is_left_alone() -> None:
    needed = needed_descriptors(Config(workers=100, mode="sync"))
    assert under_limit(needed, needed + 7) == [f"({needed}, {needed + 7})"]


def test_a_hard_limit_below_the_need_is_refused_with_both_numbers() -> None:
    needed = needed_descriptors(Config(workers=100, mode="sync"))
    assert under_limit(64, 128) == [
        f"workers: 100 in sync mode need about {needed} file descriptors, this system allows 128; "
        f"raise it with `ulimit -n {needed}`, or use fewer workers",
        "(64, 128)",
    ]


def test_a_kernel_that_refuses_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, limit: tuple[int, int]) -> None:
        raise OSError("no")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(ConfigError, match="allows 10; raise it"):
        check_limits(Config())


@pytest.mark.parametrize(("workers", "said"), [(1, False), (2, False), (3, True), (300, True)])
def test_more_workers_than_cores_are_told_what_it_costs(
    workers: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    line = crowding(Config(workers=workers))
    assert (line is not None) == said
    if line is not None:
        assert line.startswith(f"{workers} workers on 2 cores: they take turns; ")
        assert "\n" not in line


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_cores_that_this_process_may_not_use_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert crowding(Config(workers=2)) == (
            "2 workers on 1 core: they take turns; more workers than cores step faster only where environments wait "
            "(--env-latency-ms, simulators elsewhere)"
        )
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EIO])
def test_a_refused_process_is_a_configuration_error(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(start._server, "variables", None)
    monkeypatch.setattr(start._server, "ensure_running", refuse)
    refused = "workers: the system refused to start one more of the run's processes: "
    expected = (OSError, os.strerror(number)) if number == errno.EIO else (ConfigError, f"^{refused}")
    with pytest.raises(expected[0], match=expected[1]):
        start_forkserver()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR that is looked at anew."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_usual_directory_holds_sockets(temporary: Path) -> None:
    assert short_temporary_directory() is None


def test_sockets_of_multiprocessing_are_as_long_as_is_thought() -> None:
    address = multiprocessing.connection.arbitrary_address("AF_UNIX")
    assert len(address) == len(tempfile.gettempdir()) + SOCKET_NAME


@pytest.mark.parametrize("excess", [0, 1])
def test_a_directory_is_too_long_where_a_socket_in_it_would_be(
    excess: int, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SOCKET_PATH - SOCKET_NAME + excess - len(str(temporary)) - 1
    long = temporary / ("x" * room)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    found = short_temporary_directory()
    assert (found is None) == (excess == 0)
    if found is not None:
        assert os.access(found, os.W_OK)
        assert len(found) + SOCKET_NAME <= SOCKET_PATH


def test_where_no_directory_will_do_the_variable_is_named(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_holds_sockets", lambda folder: False)
    with pytest.raises(ConfigError, match=f"^TMPDIR: no directory for the sockets .*'{temporary}' is longer than"):
        short_temporary_directory()
