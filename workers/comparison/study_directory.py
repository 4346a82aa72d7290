"""The directory of a study: what it holds, which of its runs are finished, and what is read from them."""

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a3c.config import ConfigError
from a3c.files import json_bytes, write_durably
from workers.comparison.results import Comparison, LogRow, LostUpdates, Run
from workers.comparison.study import Arm, Study
from workers.lock import DirectoryLock
from workers.run_directory import provenance
from workers.status import Evaluation, Faults, Races, Staleness, Summary
from workers.table import Table

FINISHED = ("solved", "budget_exhausted")


class StudyDirectory:
    """study.json, runs/ with an ordinary run directory each, and the results.

    Raises:
        ConfigError: the directory is in use, holds another study or other things, or cannot be written.
    """

    def __init__(self, path: Path, study: Study, command: str):
        self.path, self._study = path, study
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(path, "study_dir")
            try:
                self.facts = self._claim(command)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise ConfigError(f"study_dir: '{path}' cannot be written: {error.strerror}") from error

    def run_path(self, arm: Arm, seed: int) -> Path:
        """Where a run's directory is."""
        name = "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in arm.name.replace(", ", "-"))
        return self.path / "runs" / f"{name}-seed-{seed}"

    def finished_run(self, arm: Arm, seed: int) -> Run | None:
        """A run that has come to its end, read from its files; None where it has to be made (anew)."""
        path = self.run_path(arm, seed)
        if not (path / "summary.json").exists():
            return None
        run = read_run(path, arm.name, seed, str(path.relative_to(self.path)))
        return run if run.summary.status in FINISHED else None

    def clear(self, arm: Arm, seed: int) -> Path:
        """Remove what an unfinished run has left; returns its path."""
        path = self.run_path(arm, seed)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def lost_updates(self) -> dict[str, LostUpdates]:
        """What has been measured of lost updates so far, by arm."""
        path = self.path / "lost_updates.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        return {arm: LostUpdates(**values) for arm, values in found.items()}

    def write_lost_updates(self, lost: dict[str, LostUpdates]) -> None:
        """lost_updates.json: what `lost_updates` reads."""
        content = {arm: dataclasses.asdict(values) for arm, values in lost.items()}
        write_durably(self.path / "lost_updates.json", json_bytes(content))

    def write_results(self, comparison: Comparison, findings: Sequence[str]) -> None:
        """comparison.json and runs.csv."""
        content = {**dataclasses.asdict(comparison), "findings": list(findings)}
        del content["runs"]  # they are a table of their own
        write_durably(self.path / "comparison.json", json_bytes(_plain(content)))
        table: Table | None = None
        for run in comparison.runs:
            row = runs_row(run, next(arm.values for arm in comparison.arms if arm.name == run.arm))
            table = table or Table(self.path / "runs.csv", list(row))
            table.write(row)
        if table is not None:
            table.close()

    def close(self) -> None:
        """Let others use the directory."""
        self._lock.release()

    def _claim(self, command: str) -> dict[str, Any]:
        """Make this directory the study's; what it depends on, as of its first run."""
        path, facts = self.path / "study.json", {"command": command, **provenance()}
        if path.exists():
            known = json.loads(path.read_text())
            if known["definition"] != self._study.definition():
                raise ConfigError(f"study_dir: '{self.path}' holds another study ({known['command']}); "
                                  "choose another directory")  # fmt: skip
            if known["versions"] != facts["versions"] or known["machine"] != facts["machine"]:
                raise ConfigError(f"study_dir: the runs in '{self.path}' were made with other versions or on another "
                                  "machine; choose another directory")  # fmt: skip
            facts["git_commit"] = known["git_commit"]
        elif any(entry.name != ".lock" for entry in self.path.iterdir()):
            raise ConfigError(f"study_dir: '{self.path}' holds something that is no study; choose another directory")
        content = {"definition": self._study.definition(), "seeds": self._study.seeds, **facts}
        write_durably(path, json_bytes(content))
        return facts


def read_run(path: Path, arm: str, seed: int, name: str) -> Run:
    """A finished run from its directory."""
    summary = json.loads((path / "summary.json").read_text())
    parts = {"evaluation": Evaluation, "staleness": Staleness, "races": Races, "faults": Faults}
    parsed = {
        key: parts[key](**value) if key in parts and value is not None else value for key, value in summary.items()
    }
    return Run(arm, seed, name, Summary(**parsed), _evaluations(path), _staleness(path), _log(path))


def runs_row(run: Run, values: dict[str, Any]) -> dict[str, Any]:
    """One run as a flat row: its arm's values and its summary."""
    summary = dataclasses.asdict(run.summary)
    row: dict[str, Any] = {"arm": run.arm, "seed": run.seed, "run": run.path}
    row |= {f"factor_{name}": value for name, value in values.items()}
    for name, value in summary.items():
        parts = value if isinstance(value, dict) else None
        row |= {f"{name}_{part}": item for part, item in parts.items()} if parts else {name: value}
    del row["profile"]  # of each worker: not a column
    for name in ("evaluation", "staleness"):  # present in every row, known or not
        row.pop(name, None)
    known = [f"evaluation_{field.name}" for field in dataclasses.fields(Evaluation)]
    known += [f"staleness_{field.name}" for field in dataclasses.fields(Staleness)]
    return {**row, **{name: row.get(name) for name in known}}


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    with open(path / "evaluations.csv", newline="") as file:
        return tuple(_evaluation(row) for row in csv.DictReader(file))


def _evaluation(row: dict[str, str]) -> Evaluation:
    whole = {name: int(row[name]) for name in ("env_steps", "updates", "episodes", "seed")}
    real = {name: float(row[name]) for name in ("seconds", "mean", "std", "min", "max")}
    values: dict[str, Any] = {**whole, **real, "verification": row["verification"] == "True"}
    return Evaluation(**values)


def _staleness(path: Path) -> tuple[int, ...]:
    with open(path / "staleness.csv", newline="") as file:
        return tuple(int(row["pushes"]) for row in csv.DictReader(file))


def _log(path: Path) -> tuple[LogRow, ...]:
    if not (path / "updates.csv").exists():
        return ()
    with open(path / "updates.csv", newline="") as file:
        return tuple(LogRow(int(row["updates"]), int(row["env_steps"]), float(row["mean_return"] or math.nan),
                            float(row["advantage_magnitude"] or math.nan)) for row in csv.DictReader(file))  # fmt: skip


def _plain(value: Any) -> Any:
    """The same with null for every number that is none in JSON: beyond the budget, or not known."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
