"""Raw results: one JSON line per trial, appended as soon as it is measured, so that a bench can go on where it stopped.

A line tells the trial's parameters, what was measured, and under which conditions: machine, versions and a digest of
the program's sources. Trials under other conditions are kept and never mixed in.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Parameters, Trial, Values


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a results file."""

    benchmark: str
    parameters: Parameters
    values: Values
    conditions: dict[str, Any]
    commit: str
    date: str  # ISO 8601, UTC
    load: float | None = None  # load average when the trial began
    seconds: float | None = None  # that the whole trial took

    @property
    def trial(self) -> Trial:
        """Without the circumstances."""
        return Trial(self.parameters, self.values)


class Results:
    """The records in a directory, one file per benchmark."""

    def __init__(self, directory: Path):
        self._directory = directory

    def load(self, benchmark: str) -> list[Record]:
        """All records of a benchmark, oldest first; a line that an interruption cut short is left out."""
        path = self._path(benchmark)
        with suppress(FileNotFoundError):
            return [record for line in path.read_text().splitlines() if (record := _parse(line))]
        return []

    def append(self, record: Record) -> None:
        """Add a record to the file of its benchmark."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(record.benchmark)
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        with open(path, "a") as file:
            file.write(("\n" if torn else "") + json.dumps(asdict(record), allow_nan=False) + "\n")

    def discard(self, benchmark: str) -> None:
        """Forget all records of a benchmark."""
        self._path(benchmark).unlink(missing_ok=True)

    def _path(self, benchmark: str) -> Path:
        return self._directory / f"{benchmark}.jsonl"


def under(records: Sequence[Record], conditions: dict[str, Any]) -> list[Record]:
    """The records that were measured under these conditions."""
    return [record for record in records if record.conditions == conditions]


def outstanding(plan: Sequence[Parameters], records: Sequence[Record]) -> list[Parameters]:
    """The trials of a plan that no record holds, in the plan's order."""
    known = {_identity(record.parameters) for record in records}
    return [parameters for parameters in plan if _identity(parameters) not in known]


def planned(plan: Sequence[Parameters], records: Sequence[Record]) -> list[Record]:
    """The records of a plan's trials, in the plan's order; the newest where one was measured twice."""
    by_identity = {_identity(record.parameters): record for record in records}
    return [by_identity[key] for key in map(_identity, plan) if key in by_identity]


def _parse(line: str) -> Record | None:
    try:
        return Record(**json.loads(line))
    except json.JSONDecodeError:
        return None


def _identity(parameters: Parameters) -> str:
    return json.dumps(parameters, sort_keys=True)
