"""The run directory: who may write to it, and the files a run leaves there."""

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError
from a3c.files import json_bytes, write_durably
from workers.lock import DirectoryLock
from workers.status import Evaluation, Event, Status, Summary
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
    """The files of one run; everything but checkpoints/ and logs/ is written here, by the supervisor's process alone.

    Raises:
        ConfigError: the directory is in use, holds a run already, or cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(path, "run_dir")
            if (path / "config.json").exists():
                self._lock.release()
                raise ConfigError(f"run_dir: '{path}' already holds a run; choose another directory")
            for folder in ("checkpoints", "logs"):
                (path / folder).mkdir(exist_ok=True)
            self._events = open(path / "events.jsonl", "a", buffering=1)
            self._evaluations = Table(path / "evaluations.csv", [f.name for f in dataclasses.fields(Evaluation)])
            self._metrics: Table | None = None  # its columns are known with the first row
        except OSError as error:
            raise ConfigError(f"run_dir: '{path}' cannot be written: {error.strerror}") from error

    def write_config(self, config: Config, environment: dict[str, Any]) -> None:
        """config.json: every option, what the environment made of those left open, and what it ran on."""
        content = {"options": config.to_options(), "environment": environment, **provenance()}
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
            self._metrics = Table(self.path / "metrics.csv", list(row))
        self._metrics.write(row)

    def write_staleness(self, counts: Sequence[int]) -> None:
        """staleness.csv: how many pushes were how stale."""
        table = Table(self.path / "staleness.csv", ["staleness", "pushes"])
        for staleness, pushes in enumerate(counts):
            table.write({"staleness": staleness, "pushes": pushes})
        table.close()

    def write_summary(self, summary: Summary) -> None:
        """summary.json, the last file of a run."""
        write_durably(self.path / "summary.json", json_bytes(dataclasses.asdict(summary)))

    def close(self) -> None:
        """Close the files and let others use the directory."""
        for table in (self._evaluations, self._metrics):
            if table is not None:
                table.close()
        self._events.close()
        self._lock.release()


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


def provenance() -> dict[str, Any]:
    """What a run depends on beside its options: the versions, the program's git commit, the machine."""
    import importlib.metadata  # not needed before the processes run

    return {
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("torch", "gymnasium", "numpy")},
        "git_commit": _git_commit(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
