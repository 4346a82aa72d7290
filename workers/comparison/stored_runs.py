"""A finished run, read from its directory: older versions may have written it, and anything may have damaged it."""

import csv
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from a3c.files import json_object
from workers import exit_codes
from workers.comparison.results import LogRow, Run
from workers.runs.records import Evaluation, Summary

# What older versions did not write and no figure is wrong without; what else is missing makes a run unreadable.
ABSENT: dict[str, Any] = {
    "episodes": 0,
    "wall_seconds": math.nan,
    "evaluation": None,
    "staleness": None,
    "cpu_seconds": math.nan,
    "profile": [],
    "advantage_magnitude": None,
    "policy_loss_variance": None,
    "worker_restarts": 0,
    "faults": {},
    "state_sha256": "",
    "checkpoint": None,
    "reason": "",
}


class UnreadableRunError(ValueError):
    """A file of a run that cannot be read; one line that names it."""


def read_run(path: Path, arm: str, seed: int, name: str) -> Run:
    """A run that has ended, from its directory.

    Args:
        name: of the directory, relative to the study's.
    Raises:
        UnreadableRunError: one of its files is missing, damaged, or lacks what the comparison is made from.
    """
    summary = _attempt(path / "summary.json", _summary)
    evaluations = _attempt(path / "evaluations.csv", _evaluations, missing=() if summary.evaluation is None else None)
    staleness = _attempt(path / "staleness.csv", _staleness, missing=() if summary.staleness is None else None)
    log = _attempt(path / "updates.csv", _log, missing=())
    made_with = _attempt(path / "config.json", _made_with)
    return Run(arm, seed, name, summary, evaluations, staleness, log, made_with)


def options_of(path: Path) -> dict[str, Any]:
    """The options that a run was started with, as config.json has them.

    Raises:
        UnreadableRunError: the file is missing or damaged.
    """
    options: dict[str, Any] = _attempt(path / "config.json", lambda path: dict(_json(path)["options"]))
    return options


def flat_provenance(content: dict[str, Any]) -> dict[str, Any]:
    """What `workers.runs.directory.provenance` has put into a file, in one level."""
    own = {name: content.get(name) for name in ("git_commit", "source_sha256")}
    return {**own, **content["versions"], **content["machine"]}


def is_outcome(summary: Summary) -> bool:
    """Whether a run has come to an end that says something of its arm: solved, budget spent, or diverged.

    A run that was interrupted, or that the machine, the disk or the environment has ended, says nothing.
    """
    return summary.status in ("solved", "budget_exhausted") or diverged(summary)


def diverged(summary: Summary) -> bool:
    """Whether the numbers of a run did not stay finite; another try would favour its arm."""
    if summary.exit_code is None:  # older versions said it in words alone
        return summary.status == "failed" and "not finite" in summary.reason
    return summary.status == "failed" and summary.exit_code == exit_codes.NUMERICS


def _attempt(path: Path, read: Callable[[Path], Any], missing: Any = None) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise UnreadableRunError(f"{path}: is missing") from None
    except OSError as error:
        raise UnreadableRunError(f"{path}: {error.strerror}") from error
    except KeyError as error:
        raise UnreadableRunError(f"{path}: has no {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise UnreadableRunError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _json(path: Path) -> dict[str, Any]:
    return json_object(path.read_bytes())


def _summary(path: Path) -> Summary:
    summary: Summary = _parsed(Summary, {**ABSENT, **_json(path)})
    if summary.status == "solved" and (summary.solved_env_steps is None or summary.solved_seconds is None):
        raise ValueError("solved, and does not say when")
    return summary


def _made_with(path: Path) -> dict[str, Any]:
    return flat_provenance(_json(path))


def _parsed(kind: type, content: dict[str, Any]) -> Any:
    """A dataclass from a JSON object; what it does not know is left out."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        if field.name in content or field.default is MISSING:
            values[field.name] = _value(field.name, hints[field.name], content[field.name])
    return kind(**values)


def _value(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _value(name, get_args(hint)[0], value)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _parsed(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise TypeError(f"{name} is {str(value)[:60]!r}")


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    return tuple(_evaluation(row) for row in _rows(path))


def _evaluation(row: dict[str, str]) -> Evaluation:
    whole = {name: int(row[name]) for name in ("env_steps", "updates", "episodes", "seed")}
    real = {name: float(row[name]) for name in ("seconds", "mean", "std", "min", "max")}
    values: dict[str, Any] = {**whole, **real, "verification": row.get("verification") == "True"}
    return Evaluation(**values)


def _staleness(path: Path) -> tuple[int, ...]:
    counts = tuple(int(row["pushes"]) for row in _rows(path))
    if any(not 0 <= count < 2**62 for count in counts):
        raise ValueError("a number of pushes is out of range")
    return counts


def _log(path: Path) -> tuple[LogRow, ...]:
    return tuple(
        LogRow(
            int(row["updates"]),
            int(row["env_steps"]),
            float(row["mean_return"] or math.nan),
            float(row["advantage_magnitude"] or math.nan),
        )
        for row in _rows(path)
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet begins its files with a mark
        rows = list(csv.DictReader(file))
    if any(None in row.values() for row in rows):
        raise ValueError("a row is not whole")
    return rows
