"""Finished runs, read back from their directories, and the versions of the program that made them."""

import csv
import json
import math
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from a3c.config import ConfigError
from a3c.files import json_object
from workers import ExitCode
from workers.comparison.results import LogRow, Run, Version
from workers.runs.records import Evaluation, Summary

# What older versions did not write and no figure is wrong without; what else is missing makes a run unreadable.
ABSENT: dict[str, Any] = {
    **dict.fromkeys(("evaluation", "staleness", "advantage_magnitude", "policy_loss_variance", "checkpoint")),
    **dict.fromkeys(("wall_seconds", "cpu_seconds"), math.nan),
    **dict.fromkeys(("episodes", "worker_restarts"), 0),
    **dict.fromkeys(("state_sha256", "reason"), ""),
    "profile": [],
    "faults": {},
}
CELLS: dict[Any, Callable[[str], Any]] = {int: int, float: lambda text: float(text or "nan"), bool: "True".__eq__}
NAMED = 3  # runs that a message names before it counts the others
SHORT = 12  # digits of a commit
Record = TypeVar("Record")


class UnreadableRunError(ValueError):
    """A file of a run that cannot be read; one line that names it."""


def read_run(path: Path, arm: str, seed: int, name: str) -> Run:
    """A run that has ended, from its directory, which the study calls `name`.

    Raises:
        UnreadableRunError: one of its files is missing, damaged, or lacks what the comparison is made from.
    """
    summary = _attempt(path / "summary.json", _summary)
    evaluations = _attempt(path / "evaluations.csv", lambda file: _rows(file, Evaluation), summary.evaluation is None)
    staleness = _attempt(path / "staleness.csv", _staleness, summary.staleness is None)
    log = _attempt(path / "updates.csv", lambda file: _rows(file, LogRow), True)
    made_with = _attempt(path / "config.json", lambda file: flat_provenance(json_object(file.read_bytes())))
    return Run(arm, seed, name, summary, evaluations, staleness, log, made_with)


def options_of(path: Path) -> dict[str, Any]:
    """The options that a run was started with; raises as `read_run`."""
    return dict(_attempt(path / "config.json", lambda file: dict(json_object(file.read_bytes())["options"])))


def flat_provenance(content: dict[str, Any]) -> dict[str, Any]:
    """What `workers.runs.program.provenance` has put into a file, in one level."""
    own = {name: content.get(name) for name in ("git_commit", "source_sha256")}
    return {**own, **content["versions"], **content["machine"]}


def is_outcome(summary: Summary) -> bool:
    """Whether a run ended in a way that says something of its arm: not by an interrupt, the machine or the disk."""
    return summary.status in ("solved", "budget_exhausted") or diverged(summary)


def diverged(summary: Summary) -> bool:
    """Whether the numbers of a run did not stay finite; another try would favour its arm."""
    if summary.exit_code is None:  # older versions have the reason alone
        return summary.status == "failed" and "not finite" in summary.reason
    return summary.status == "failed" and summary.exit_code == ExitCode.NUMERICS


def _attempt(path: Path, read: Callable[[Path], Any], may_be_missing: bool = False) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        if may_be_missing:
            return ()
        raise UnreadableRunError(f"{path}: is missing") from None
    except OSError as error:
        raise UnreadableRunError(f"{path}: {error.strerror}") from error
    except KeyError as error:
        raise UnreadableRunError(f"{path}: has no {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise UnreadableRunError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _summary(path: Path) -> Summary:
    summary: Summary = _record(Summary, {**ABSENT, **json_object(path.read_bytes())})
    if summary.status == "solved" and (summary.solved_env_steps is None or summary.solved_seconds is None):
        raise ValueError("solved, and does not say when")
    return summary


def _record(kind: Any, content: dict[str, Any]) -> Any:
    """A dataclass from a JSON object; keys that it does not have are left out."""
    known = [field for field in fields(kind) if field.name in content or field.default is MISSING]
    return kind(**{field.name: _value(field.name, field.type, content[field.name]) for field in known})


def _value(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return None if value is None else _value(name, get_args(hint)[0], value)
    if is_dataclass(hint) and isinstance(value, dict):
        return _record(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise TypeError(f"{name} is {str(value)[:60]!r}")


def _staleness(path: Path) -> tuple[int, ...]:
    counts = tuple(int(row["pushes"]) for row in _table(path))
    if any(not 0 <= count < 2**62 for count in counts):
        raise ValueError("a number of pushes is out of range")
    return counts


def _rows(path: Path, kind: type[Record]) -> tuple[Record, ...]:
    """A table's rows as dataclasses; a column with a default may be missing."""
    rows, every = _table(path), fields(kind)  # type: ignore[arg-type]
    if not rows:
        return ()
    known = [(field.name, CELLS[field.type]) for field in every if field.default is MISSING or field.name in rows[0]]
    return tuple(kind(**{name: parse(row[name]) for name, parse in known}) for row in rows)


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet begins its files with a mark
        rows = list(csv.DictReader(file))
    if any(None in row.values() for row in rows):
        raise ValueError("a row is not whole")
    return rows


# -- versions ---------------------------------------------------------------------------------------------------------


def versions_of(runs: Iterable[Run]) -> tuple[Version, ...]:
    """The versions that made the runs, in the order of their first ones.

    Each is named by its commit; where two have the same, also by whatever else differs.
    """
    made: dict[str, list[Run]] = {}
    for run in runs:
        made.setdefault(json.dumps(run.made_with, sort_keys=True), []).append(run)
    every = [group[0].made_with for group in made.values()]
    names = [_commit(one) for one in every]
    if len(set(names)) < len(names):
        differing = [name for name, values in _values(every).items() if len(values) > 1 and name != "git_commit"]
        names = [", ".join([_commit(one), *(f"{name} {_short(one.get(name))}" for name in differing)]) for one in every]
    return tuple(map(Version, names, every, (tuple(run.path for run in group) for group in made.values())))


def check_one_version(runs: Iterable[Run], now: dict[str, Any], missing: bool, where: object) -> None:
    """Refuse to pool runs of several versions; `now` is this one, which has to make what is `missing`.

    Raises:
        ConfigError: there are several; names them, some of their runs, and what to do.
    """
    versions = versions_of(runs)
    here = now if missing or not versions or now in [version.facts for version in versions] else versions[0].facts
    others = [f"{_listed(one.runs)} with {_difference(one.facts, here)}" for one in versions if one.facts != here]
    if others:
        raise ConfigError(
            f"study_dir: '{where}' holds runs of another version of the program: {'; '.join(others)}; "
            "choose another directory (--study-dir), or keep them with --any-version: the report then "
            "lists which version made which runs"
        )


def machine_of(versions: Sequence[Version]) -> dict[str, Any]:
    """What holds for all runs; of what differs, every value."""
    every = [version.facts for version in versions]
    return {k: every[0].get(k) if len(found) == 1 else " / ".join(found) for k, found in _values(every).items()}


def version_runs(version: Version) -> str:
    """A version and its runs."""
    return f"{version.name} made {_listed(version.runs)}"


def _values(every: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The different values of each key."""
    keys = dict.fromkeys(key for one in every for key in one)
    return {key: list(dict.fromkeys(str(one.get(key)) for one in every)) for key in keys}


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs; the source is left out where the commits differ, which says the same."""
    names = [name for name, values in _values([now, then]).items() if len(values) > 1]
    names = [name for name in names if name != "source_sha256" or "git_commit" not in names]
    return ", ".join(f"{name} {_short(then.get(name))}, not {_short(now.get(name))}" for name in names)


def _commit(made_with: dict[str, Any]) -> str:
    commit, source = made_with.get("git_commit"), made_with.get("source_sha256")
    return _short(commit) if commit else f"source {_short(source)}"


def _short(value: Any) -> str:
    """A hash by its first digits, "-dirty" kept; anything else as it is."""
    head, mark, _ = ("unknown" if value is None else str(value)).partition("-dirty")
    return f"{head[:SHORT] if len(head) in (40, 64) and head.isalnum() else head}{mark}"


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
