"""Shared by the tests that start the program."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.process.command import run


@pytest.fixture(autouse=True)
def _no_new_shared_memory_files() -> Iterator[None]:
    before = shared_memory_files()
    yield
    deadline = time.monotonic() + 5
    while (left := unused(shared_memory_files() - before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def shared_memory_files() -> set[Path]:
    folder = Path("/dev/shm")
    return set(folder.iterdir()) if folder.exists() else set()


def unused(files: set[Path]) -> set[Path]:
    """Those that no process has mapped: other programs may make theirs meanwhile."""
    mapped = "".join(map(memory_maps, psutil.pids())) if files else ""
    return {file for file in files if str(file) not in mapped}


def memory_maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has ended
        return ""


@pytest.fixture(scope="session")
def solved_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A run with the default settings, piped: its directory, its output, its summary."""
    run_dir = tmp_path_factory.mktemp("solved") / "run"
    code, output = run("--workers", 4, "--run-dir", run_dir)
    assert code == 0, output
    return run_dir, output, json.loads((run_dir / "summary.json").read_text())
