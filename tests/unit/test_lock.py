"""Directories and files that one process uses at a time, on file systems with and without locks."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from a3c.config import ConfigError
from workers.runs.directory import LOCK, lock_directory

KINDS = {"flock": (), "record locks": ("flock",), "no locks": ("flock", "lockf")}
HOLD = """
import errno, fcntl, sys
from pathlib import Path

def refuse(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

for name in sys.argv[2:]:
    setattr(fcntl, name, refuse)
from workers.runs.directory import lock_directory
lock = lock_directory(Path(sys.argv[1]), "it")
print("held", flush=True)
sys.stdin.read()
"""


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(params=KINDS)
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The system calls that the file system refuses, here as in the processes that are started."""
    for name in KINDS[request.param]:
        monkeypatch.setattr(fcntl, name, refusing(errno.ENOSYS))
    return KINDS[request.param]


@contextmanager
def holder(path: Path, missing: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a directory."""
    command = [sys.executable, "-c", HOLD, str(path), *missing]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_directory_is_refused_while_another_process_holds_it(tmp_path: Path, missing: tuple[str, ...]) -> None:
    with holder(tmp_path, missing) as other, pytest.raises(ConfigError, match=f"is in use by process {other.pid}"):
        lock_directory(tmp_path, "run_dir: here")
    lock_directory(tmp_path, "run_dir: here").close()  # whoever held it was killed
    assert not (tmp_path / LOCK).exists()


def test_a_directory_is_refused_while_this_process_holds_it(tmp_path: Path, missing: tuple[str, ...]) -> None:
    lock = lock_directory(tmp_path, "run_dir: here")
    with pytest.raises(ConfigError, match=f"^run_dir: here is in use by process {os.getpid()}"):
        lock_directory(tmp_path, "run_dir: here")
    lock.close()
    lock_directory(tmp_path, "run_dir: here").close()


def test_a_directory_without_locks_is_used_with_a_warning(
    tmp_path: Path, missing: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lock_directory(tmp_path, "run_dir: here").close()
    said = capsys.readouterr().err
    assert said.count("\n") == bool(missing)
    assert ("has no locks (Function not implemented)" in said) == bool(missing)


def test_without_locks_a_holder_on_another_machine_is_taken_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KINDS["no locks"]:
        monkeypatch.setattr(fcntl, name, refusing(errno.ENOSYS))
    (tmp_path / LOCK).write_text("7\nelsewhere\n")
    with pytest.raises(ConfigError, match=f"in use by process 7 on elsewhere; if that has ended, remove '{tmp_path}"):
        lock_directory(tmp_path, "run_dir: here")
