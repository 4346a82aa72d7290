"""The run directory: who may write to it, and the files a run leaves there."""

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, SoftFileLock, Timeout

from a3c.config import Config, ConfigError
from a3c.files import discard, json_bytes, sync, write_durably
from shared import PHASES
from workers.runs.program import command, provenance
from workers.runs.records import Event, Status, Summary

LOCK = ".lock"
HEADER_LIMIT = 2**16  # characters of a table's first line


def folder_name(env: str) -> str:
    """An environment's id as a part of a directory's name."""
    return re.sub(r"[^\w.-]", "-", env)


def new_run_dir(runs: Path, config: Config) -> Path:
    """Make a directory ENV-MODE-TIME under `runs`, with a number behind it where that exists already.

    Raises:
        ConfigError: it cannot be made.
    """
    name = f"{folder_name(config.env)[-100:]}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
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


def lock_directory(path: Path, name: str) -> ExitStack:
    """Lock a directory, which one process uses at a time, until the returned stack is closed or the process ends.

    On a file system without locks the existence of a file is the lock. It names its holder, whose death ends it.

    Args:
        name: the option and what the user calls the directory, for the message where another process holds it.
    Raises:
        ConfigError: another process holds it; names its pid.
        OSError: it cannot be written.
    """
    file, lock = path / LOCK, FileLock(path / LOCK, thread_local=False, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise
        except OSError as error:
            if file.exists() and not file.stat().st_size:  # the attempt has made it
                discard(file)
            lock = SoftFileLock(file, thread_local=False)
            lock.acquire(timeout=1.0)  # to break the lock of a process that has died
            why = f"the file system of '{path}' has no locks ({error.strerror})"
            print(f"run_a3c.py: warning: {why}: the file '{LOCK}' there is the lock", file=sys.stderr)
        else:
            file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
    except Timeout:
        try:
            process, host, *_ = file.read_text().split()
        except (OSError, ValueError):
            process, host = "another process", socket.gethostname()
        advice = "" if host == socket.gethostname() else f" on {host}; if that has ended, remove '{file}'"
        raise ConfigError(f"{name} is in use by process {process}{advice}") from None
    stack = ExitStack()
    stack.callback(lock.release)
    stack.callback(discard, file)  # while it is still held, so that no other process's is removed
    return stack


class RunDirectory:
    """The files of one run that its supervisor writes: all but checkpoints/, logs/, evaluations.csv and updates.csv.

    A disk that refuses a line does not end a run: `failure` then says what it was.
    """

    def __init__(self, path: Path, shown: str, lock: ExitStack, events: TextIO):
        self.path, self.shown = path, shown
        self.failure: str | None = None
        self._lock, self._events = lock, events
        self._metrics: Table | None = None  # its columns are known with the first row

    def write_config(self, config: Config, environment: dict[str, Any]) -> None:
        """config.json: every option, what the environment made of those left open, and what it ran on."""
        self.write_json("config.json", {"options": config.to_options(), "environment": environment, **provenance()})

    def write_event(self, event: Event) -> None:
        """A line of events.jsonl."""
        self._attempt("events.jsonl", lambda: self._events.write(json.dumps(dataclasses.asdict(event)) + "\n"))

    def write_metrics(self, status: Status) -> None:
        """A row of metrics.csv."""

        def write() -> None:
            row = metrics_row(status)
            self._metrics = self._metrics or open_table(self.path / "metrics.csv", list(row))
            self._metrics.write(row)

        self._attempt("metrics.csv", write)

    def write_summary(self, summary: Summary, staleness: Sequence[int]) -> None:
        """staleness.csv: how many pushes were how stale; and summary.json, the last file of a run."""
        lines = ["staleness,pushes", *(f"{age},{pushes}" for age, pushes in enumerate(staleness)), ""]
        path = self.path / "staleness.csv"
        self._attempt(path.name, lambda: write_durably(path, "\n".join(lines).encode()))
        self.write_json("summary.json", dataclasses.asdict(summary))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """A JSON file."""
        self._attempt(name, lambda: write_durably(self.path / name, json_bytes(content)))

    def close(self) -> None:
        """Close the files and let others use the directory."""
        for file in (self._metrics, self._events):
            if file is not None:
                self._attempt("its files", file.close)
        self._lock.close()

    def _attempt(self, name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            self.failure = self.failure or f"{os.path.join(self.shown, name)}: cannot be written: {error.strerror}"


def open_run_directory(path: Path, resume: bool = False, shown: str | None = None) -> RunDirectory:
    """Make the directory of a run, or open one that holds a run, and lock it.

    Args:
        path: absolute, so that an environment may change the current folder.
        resume: whether it may hold a run already.
        shown: the path as the user typed it.
    Raises:
        ConfigError: the directory is in use, holds a run already, or cannot be written.
    """
    shown = str(path) if shown is None else shown
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = lock_directory(path, f"run_dir: '{shown}'")
        if (path / "config.json").exists() and not resume:
            lock.close()
            raise ConfigError(
                f"run_dir: '{shown}' already holds a run; choose another directory, or resume it: "
                f"{command('resume', shown)}"
            )
        for folder in ("checkpoints", "logs"):
            (path / folder).mkdir(exist_ok=True)
        return RunDirectory(path, shown, lock, open(path / "events.jsonl", "a", buffering=1))
    except OSError as error:
        raise ConfigError(f"run_dir: '{shown}' cannot be written: {error.strerror}") from error


def metrics_row(status: Status) -> dict[str, Any]:
    """One interval of a run as a flat row; docs/metrics.md defines each column."""
    losses = ("policy_loss", "value_loss", "entropy", "explained_variance", "gradient_norm", "learning_rate")
    return {
        "elapsed_seconds": round(status.elapsed_seconds, 3),
        "train_seconds": round(status.train_seconds, 3),
        **{name: getattr(status, name) for name in ("env_steps", "updates", "episodes")},
        "steps_per_second": round(status.steps_per_second, 1),
        "mean_return": status.mean_return,
        **{name: getattr(status.losses, name, None) for name in losses},
        **{f"staleness_{name}": getattr(status.staleness, name, None) for name in ("p50", "p95", "max")},
        **{f"{phase}_share": round(status.time_shares.get(phase, 0.0), 4) for phase in (*PHASES, "other")},
    }


class Table:
    """A CSV file that is complete to the last row at every moment.

    Rows that the disk refuses are written with the next one that it takes.
    """

    def __init__(self, file: TextIO, writer: "csv.DictWriter[str]"):
        self._file, self._writer = file, writer

    def write(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._writer.writerow(row)

    def sync(self) -> None:
        """Make the rows written so far durable."""
        self._file.flush()
        sync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_table(path: Path, columns: Sequence[str]) -> Table:
    """Open a table to append rows; a new one gets its header, and one of an earlier version keeps its columns."""
    written: list[str] | None = None
    with contextlib.suppress(OSError, UnicodeError):
        if path.stat().st_size:  # 0 of a device, which may never end
            with open(path, newline="") as before:
                written = next(csv.reader([before.readline(HEADER_LIMIT)]), None)
    file = open(path, "a", newline="", buffering=1)
    writer = csv.DictWriter(file, written or columns, lineterminator="\n", extrasaction="ignore")
    if not file.tell():
        with contextlib.suppress(OSError):  # then it is written with the first row that the disk takes
            writer.writeheader()
    return Table(file, writer)
