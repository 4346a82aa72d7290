"""Shared by the tests that start the program."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.command import run


@pytest.fixture(autouse=True)
def _no_new_shared_memory_files() -> Iterator[None]:
    before = shared_memory_files()
    yield
    deadline = time.monotonic() + 5  # by then those that are there for a moment have gone, whoever made them
    while (new := shared_memory_files() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not new


def shared_memory_files() -> set[Path]:
    folder = Path("/dev/shm")
    return set(folder.iterdir()) if folder.exists() else set()


@pytest.fixture(scope="session")
def solved_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A run with the default settings, piped: its directory, its output, its summary."""
    run_dir = tmp_path_factory.mktemp("solved") / "run"
    code, output = run("--workers", 4, "--run-dir", run_dir)
    assert code == 0, output
    return run_dir, output, json.loads((run_dir / "summary.json").read_text())
