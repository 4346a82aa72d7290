"""The run directory: who may write to it, and the files a run leaves there."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError
from a3c.files import json_bytes, write_durably
from shared import PHASES
from workers.runs.invocation import command
from workers.runs.lock import DirectoryLock
from workers.runs.records import Event, Status, Summary
from workers.runs.tables import Table


def new_run_dir(runs: Path, config: Config) -> Path:
    """Make a directory ENV-MODE-TIME under `runs`, with a number behind it where somebody has made that already.

    Raises:
        ConfigError: it cannot be made.
    """
    env = re.sub(r"[^\w.-]", "-", config.env)[-100:]
    name = f"{env}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for count in itertools.count(1):
            path = runs / (name if count == 1 else f"{name}-{count}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise ConfigError(f"run_dir: '{runs}' cannot be written: {error.strerror}") from error
    raise AssertionError("numbers do not end")


class RunDirectory:
    """The files of one run that its supervisor writes: all but checkpoints/, logs/, evaluations.csv and updates.csv.

    A disk that refuses a line does not end a run: `failure` then says what it was.

    Args:
        path: absolute, so that an environment may change the current folder.
        resume: go on with the run that it holds, rather than refuse to.
        shown: what the user calls it.
    Raises:
        ConfigError: the directory is in use, holds a run already, or cannot be written.
    """

    def __init__(self, path: Path, resume: bool = False, shown: str | None = None):
        self.path, self.shown = path, str(path) if shown is None else shown
        self.failure: str | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(path, f"run_dir: '{self.shown}'")
            if (path / "config.json").exists() and not resume:
                self._lock.release()
                raise ConfigError(f"run_dir: '{self.shown}' already holds a run; choose another directory, or resume "
                                  f"it: {command('resume', self.shown)}")
            for folder in ("checkpoints", "logs"):
                (path / folder).mkdir(exist_ok=True)
            self._events = open(path / "events.jsonl", "a", buffering=1)
            self._metrics: Table | None = None  # its columns are known with the first row
        except OSError as error:
            raise ConfigError(f"run_dir: '{self.shown}' cannot be written: {error.strerror}") from error

    def write_config(self, config: Config, environment: dict[str, Any]) -> None:
        """config.json: every option, what the environment made of those left open, and what it ran on."""
        content = {"options": config.to_options(), "environment": environment, **provenance()}
        self._attempt("config.json", lambda: write_durably(self.path / "config.json", json_bytes(content)))

    def write_event(self, event: Event) -> None:
        """A line of events.jsonl."""
        line = json.dumps(dataclasses.asdict(event)) + "\n"
        self._attempt("events.jsonl", lambda: self._events.write(line))

    def write_metrics(self, status: Status) -> None:
        """A row of metrics.csv."""
        self._attempt("metrics.csv", lambda: self._write_metrics(metrics_row(status)))

    def _write_metrics(self, row: dict[str, Any]) -> None:
        self._metrics = self._metrics or Table(self.path / "metrics.csv", list(row))
        self._metrics.write(row)

    def write_staleness(self, counts: Sequence[int]) -> None:
        """staleness.csv: how many pushes were how stale."""
        lines = ["staleness,pushes", *(f"{staleness},{pushes}" for staleness, pushes in enumerate(counts)), ""]
        content = "\n".join(lines).encode()
        self._attempt("staleness.csv", lambda: write_durably(self.path / "staleness.csv", content))

    def write_summary(self, summary: Summary) -> None:
        """summary.json, the last file of a run."""
        content = json_bytes(dataclasses.asdict(summary))
        self._attempt("summary.json", lambda: write_durably(self.path / "summary.json", content))

    def close(self) -> None:
        """Close the files and let others use the directory."""
        for file in (self._metrics, self._events):
            if file is not None:
                self._attempt("its files", file.close)
        self._lock.release()

    def _attempt(self, name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.failure = self.failure or f"{os.path.join(self.shown, name)}: cannot be written: {error.strerror}"


def metrics_row(status: Status) -> dict[str, Any]:
    """One interval of a run as a flat row; docs/metrics.md defines each column."""
    losses = status.losses
    names = ("policy_loss", "value_loss", "entropy", "explained_variance", "gradient_norm", "learning_rate")
    return {
        "elapsed_seconds": round(status.elapsed_seconds, 3),
        "train_seconds": round(status.train_seconds, 3),
        "env_steps": status.env_steps,
        "updates": status.updates,
        "episodes": status.episodes,
        "steps_per_second": round(status.steps_per_second, 1),
        "mean_return": status.mean_return,
        **{name: None if losses is None else getattr(losses, name) for name in names},
        "staleness_p50": status.staleness_p50,
        "staleness_p95": status.staleness_p95,
        "staleness_max": status.staleness_max,
        **{f"{phase}_share": round(status.time_shares.get(phase, 0.0), 4) for phase in (*PHASES, "other")},
    }


ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or where the packages are installed
SOURCE = ("a3c", "shared", "workers", "run_a3c.py")  # the program, without its tests and pages
COMMIT_LINE = "# branch.oid "  # as `git status` begins it


@functools.cache  # what runs is what was loaded, whatever becomes of the files meanwhile
def provenance() -> dict[str, Any]:
    """What a run depends on beside its options: the versions, the program's commit and source, the machine."""
    return {
        "versions": versions(),
        "git_commit": _git_commit(),
        "source_sha256": _source_sha256(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    import importlib.metadata  # not needed before the processes run

    packages = {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def _git_commit() -> str | None:
    """The commit of the checkout, with "-dirty" where its program differs from it; None where there is no checkout."""
    if not (ROOT / ".git").exists():  # git would find the repository around a virtual environment
        return None
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-uno", "--", *SOURCE]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # within hooks
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, cwd=ROOT, env=environment)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    lines = result.stdout.splitlines()
    commits = [line.removeprefix(COMMIT_LINE) for line in lines if line.startswith(COMMIT_LINE)]
    dirty = any(not line.startswith("#") for line in lines)
    return commits[0] + "-dirty" * dirty if commits else None


def _source_sha256() -> str | None:
    """Of the program's files: tells two dirty trees apart, and installed versions that have no commit."""
    digest = hashlib.sha256()
    try:
        for path in sorted(path for name in SOURCE for path in [ROOT / name, *(ROOT / name).rglob("*.py")]):
            if path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    except OSError:
        return None
    return digest.hexdigest()
