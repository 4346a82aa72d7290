"""The run directory: who may write to it, and the files a run leaves there."""

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError
from a3c.files import json_bytes, write_durably
from shared.phases import PHASES
from workers.lock import DirectoryLock
from workers.status import Event, Status, Summary
from workers.table import Table


def default_run_dir(config: Config) -> Path:
    """runs/ENV-MODE-TIME, with a number behind it where that exists."""
    name = f"{config.env.replace('/', '-').replace(':', '-')}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = Path("runs") / name, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{name}-{count}"
    return path


class RunDirectory:
    """The files of one run that its supervisor writes: all but checkpoints/, logs/, evaluations.csv and updates.csv.

    A disk that refuses a line does not end a run: `failure` then says what it was.

    Args:
        resume: go on with the run that it holds, rather than refuse to.
    Raises:
        ConfigError: the directory is in use, holds a run already, or cannot be written.
    """

    def __init__(self, path: Path, resume: bool = False):
        self.path = path
        self.failure: str | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(path, "run_dir")
            if (path / "config.json").exists() and not resume:
                self._lock.release()
                raise ConfigError(f"run_dir: '{path}' already holds a run; choose another directory, or go on with it: "
                                  f"python run_a3c.py resume {path}")  # fmt: skip
            for folder in ("checkpoints", "logs"):
                (path / folder).mkdir(exist_ok=True)
            self._events = open(path / "events.jsonl", "a", buffering=1)
            self._metrics: Table | None = None  # its columns are known with the first row
        except OSError as error:
            raise ConfigError(f"run_dir: '{path}' cannot be written: {error.strerror}") from error

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
            self.failure = self.failure or f"{self.path / name}: cannot be written: {error.strerror}"


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


def provenance() -> dict[str, Any]:
    """What a run depends on beside its options: the versions, the program's git commit, the machine."""
    return {
        "versions": versions(),
        "git_commit": _git_commit(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    import importlib.metadata  # not needed before the processes run

    packages = {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
