"""The run directory: who may write to it, and the files a run leaves there."""

import contextlib
import csv
import dataclasses
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, TextIO

from a3c.config import Config, ConfigError
from a3c.files import json_bytes, write_durably
from workers.status import Evaluation, Event, Status, Summary

try:
    import fcntl
except ImportError:  # Windows: two runs in one directory are then told apart by config.json alone
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


def default_run_dir(config: Config) -> Path:
    """runs/ENV-MODE-TIME, with a number behind it where that exists."""
    name = f"{config.env.replace('/', '-').replace(':', '-')}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = Path("runs") / name, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{name}-{count}"
    return path


class RunDirectory:
    """The files of one run; everything but checkpoints/ and logs/ is written here, by the supervisor's process alone.

    Raises:
        ConfigError: the directory is in use, holds a run already, or cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
            if (path / "config.json").exists():
                self._unlock()
                raise ConfigError(f"run_dir: '{path}' already holds a run; choose another directory")
            for folder in ("checkpoints", "logs"):
                (path / folder).mkdir(exist_ok=True)
            self._events = open(path / "events.jsonl", "a", buffering=1)
            self._evaluations = _Table(path / "evaluations.csv", [f.name for f in dataclasses.fields(Evaluation)])
            self._metrics: _Table | None = None  # its columns are known with the first row
        except OSError as error:
            raise ConfigError(f"run_dir: '{path}' cannot be written: {error.strerror}") from error

    def write_config(self, config: Config, environment: dict[str, Any]) -> None:
        """config.json: every option, what the environment made of those left open, and what it ran on."""
        import importlib.metadata  # not needed before the processes run

        content = {
            "options": config.to_options(),
            "environment": environment,
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "numpy")},
            "git_commit": _git_commit(),
            "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        }
        write_durably(self.path / "config.json", json_bytes(content))

    def write_event(self, event: Event) -> None:
        """A line of events.jsonl."""
        self._events.write(json.dumps(dataclasses.asdict(event)) + "\n")

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """A row of evaluations.csv."""
        self._evaluations.write(dataclasses.asdict(evaluation))

    def write_metrics(self, status: Status) -> None:
        """A row of metrics.csv."""
        row = metrics_row(status)
        if self._metrics is None:
            self._metrics = _Table(self.path / "metrics.csv", list(row))
        self._metrics.write(row)

    def write_summary(self, summary: Summary) -> None:
        """summary.json, the last file of a run."""
        write_durably(self.path / "summary.json", json_bytes(dataclasses.asdict(summary)))

    def close(self) -> None:
        """Close the files and let others use the directory."""
        for table in (self._evaluations, self._metrics):
            if table is not None:
                table.close()
        self._events.close()
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):  # Windows removes no open file
            (self.path / LOCK).unlink()  # while it is still held, so that nobody else's is removed
        self._lock.close()


def metrics_row(status: Status) -> dict[str, Any]:
    """One interval of a run as a flat row; docs/metrics.md defines each column."""
    losses = status.losses
    names = ("policy_loss", "value_loss", "entropy", "explained_variance", "gradient_norm", "learning_rate")
    phases = ("env", "forward", "backward", "pull", "push", "other")
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
        **{f"{phase}_share": round(status.time_shares.get(phase, 0.0), 4) for phase in phases},
    }


class _Table:
    """A CSV file that is complete to the last row at every moment."""

    def __init__(self, path: Path, columns: list[str]):
        self._file: TextIO = open(path, "w", newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
        self._writer.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


def _lock(path: Path) -> TextIO:
    """Hold the directory for this process; the kernel lets go of it however the process ends."""
    file = open(path / LOCK, "a+")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise ConfigError(f"run_dir: '{path}' is in use by process {owner}") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
