"""A run gets along with the file descriptors that it says it needs, however few its shell grants at first."""

import json
from pathlib import Path

from a3c.config import Config
from tests.process.command import COMMAND, run
from workers.processes.start import needed_descriptors

WORKERS = 24


def run_under_limit(hard: int, run_dir: Path) -> tuple[int, str]:
    arguments = ("--mode", "sync", "--workers", WORKERS, "--max-env-steps", 3000, "--target-return", 501)
    shell = f'ulimit -Sn 64 && ulimit -Hn {hard} && exec "$@"'
    return run("-c", shell, "sh", *COMMAND, *arguments, "--run-dir", run_dir, command=["sh"])


def test_what_a_run_says_it_needs_is_enough(tmp_path: Path) -> None:
    code, output = run_under_limit(needed_descriptors(Config(workers=WORKERS, mode="sync")), tmp_path / "run")
    assert code == 0, output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "budget_exhausted"


def test_less_is_refused_before_anything_starts(tmp_path: Path) -> None:
    needed = needed_descriptors(Config(workers=WORKERS, mode="sync"))
    code, output = run_under_limit(needed - 1, tmp_path / "run")
    assert code == 2
    assert f"allows {needed - 1}; raise it with `ulimit -n {needed}`, or use fewer workers" in output
    assert not (tmp_path / "run").exists()
