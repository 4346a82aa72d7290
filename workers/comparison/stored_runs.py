"""Finished runs, read back from their directories, and the versions of the program that made them."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from a3c.config import ConfigError
from a3c.files import json_object
from workers import ExitCode
from workers.comparison.results import LogRow, Run, Version
from workers.runs.records import Evaluation, Summary

CELLS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: lambda text: float(text or "nan"),
    bool: "True".__eq__,
    float | None: lambda text: float(text) if text else None,
}
NAMED = 3  # runs that a message names before it counts the others
Record = TypeVar("Record")


class UnreadableRunError(ValueError):
    """A file of a run that cannot be read; one line that names it."""


def read_run(path: Path, arm: str, seed: int, name: str) -> tuple[Run, dict[str, Any]]:
    """A finished run from its directory, which the study calls `name`, and the options that it was started with.

    Raises:
        UnreadableRunError: one of its files is missing, damaged, or lacks what the comparison is made from.
    """
    summary: Summary = _read(path / "summary.json", lambda file: _parsed("", Summary, json_object(file.read_bytes())))
    if summary.status == "solved" and None in (summary.solved_env_steps, summary.solved_seconds):
        raise UnreadableRunError(f"{path / 'summary.json'}: solved, and does not say when")
    evaluations = _read(path / "evaluations.csv", lambda file: _rows(file, Evaluation), summary.evaluation is None)
    staleness = _read(path / "staleness.csv", _staleness, summary.staleness is None)
    log = _read(path / "updates.csv", lambda file: _rows(file, LogRow), True)
    config = _read(path / "config.json", lambda file: json_object(file.read_bytes()))
    made_with = _read(path / "config.json", lambda _: flat_provenance(config))
    options = _read(path / "config.json", lambda _: dict(config["options"]))
    return Run(arm, seed, name, summary, evaluations, staleness, log, made_with), options


def flat_provenance(content: dict[str, Any]) -> dict[str, Any]:
    """What `workers.runs.program.provenance` has put into a file, in one level."""
    own = {name: content.get(name) for name in ("git_commit", "source_sha256")}
    return {**own, **content["versions"], **content["machine"]}


def is_outcome(summary: Summary) -> bool:
    """Whether a run ended in a way that says something of its arm: not by an interrupt, the machine or the disk."""
    return summary.status in ("solved", "budget_exhausted") or diverged(summary)


def diverged(summary: Summary) -> bool:
    """Whether the numbers of a run did not stay finite; another try would favour its arm."""
    return summary.status == "failed" and summary.exit_code == ExitCode.NUMERICS


def _read(path: Path, read: Callable[[Path], Any], may_be_missing: bool = False) -> Any:
    if may_be_missing and not path.exists():
        return ()
    try:
        return read(path)
    except FileNotFoundError:
        raise UnreadableRunError(f"{path}: is missing") from None
    except KeyError as error:
        raise UnreadableRunError(f"{path}: has no {error.args[0]!r}") from error
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise UnreadableRunError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _parsed(name: str, hint: Any, value: Any) -> Any:
    """A JSON value as what a field's annotation says; keys that a dataclass does not have are left out."""
    if get_origin(hint) is UnionType:
        return None if value is None else _parsed(name, get_args(hint)[0], value)
    if is_dataclass(hint) and isinstance(value, dict):
        known = [field for field in fields(hint) if field.name in value or field.default is MISSING]
        return hint(**{field.name: _parsed(field.name, field.type, value[field.name]) for field in known})  # type: ignore[operator]
    kind = get_origin(hint) or hint
    if type(value) is kind:
        return value
    if (kind, type(value)) in ((float, int), (tuple, list)):
        return kind(value)
    raise TypeError(f"{name} is {str(value)[:60]!r}")


def _staleness(path: Path) -> tuple[int, ...]:
    counts = tuple(int(row["pushes"]) for row in _table(path))
    if any(not 0 <= count < 2**62 for count in counts):
        raise ValueError("a number of pushes is out of range")
    return counts


def _rows(path: Path, kind: type[Record]) -> tuple[Record, ...]:
    """A table's rows as dataclasses."""
    cells = fields(kind)  # type: ignore[arg-type]
    columns = {field.name: CELLS[field.type] for field in cells}
    optional = {field.name for field in cells if field.default is None}  # of which earlier versions had none
    return tuple(
        kind(**{name: parse(row[name]) for name, parse in columns.items() if name in row or name not in optional})
        for row in _table(path)
    )


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet begins its files with a mark
        rows = list(csv.DictReader(file))
    if any(None in row.values() for row in rows):
        raise ValueError("a row is not whole")
    return rows


# -- versions ---------------------------------------------------------------------------------------------------------


def versions_of(runs: Iterable[Run]) -> tuple[Version, ...]:
    """The versions that made the runs, in the order of their first ones, each under a name of its own."""
    made: dict[str, list[Run]] = {}
    for run in runs:
        made.setdefault(json.dumps(run.made_with, sort_keys=True), []).append(run)
    every = [group[0].made_with for group in made.values()]
    names = [_short(one.get("git_commit") or one.get("source_sha256")) for one in every]
    if len(set(names)) < len(names):
        keys = [key for key, found in _values(every).items() if len(found) > 1 and key != "git_commit"]
        names = [
            ", ".join([name, *(f"{key} {_short(one.get(key))}" for key in keys)])
            for name, one in zip(names, every, strict=True)
        ]
    return tuple(map(Version, names, every, (tuple(run.path for run in group) for group in made.values())))


def check_one_version(runs: Iterable[Run], now: dict[str, Any], missing: bool, where: object) -> None:
    """Refuse to pool runs of several versions; `now` is this one, which has to make what is `missing`.

    Raises:
        ConfigError: there are several; names them, some of their runs, and what to do.
    """
    versions = versions_of(runs)
    here = now if missing or not versions or now in [version.facts for version in versions] else versions[0].facts
    others = []
    for version in versions:
        differing = [key for key, found in _values([version.facts, here]).items() if len(found) > 1]
        if "git_commit" in differing:  # the source then differs, too
            differing = [key for key in differing if key != "source_sha256"]
        pairs = [f"{key} {_short(version.facts.get(key))}, not {_short(here.get(key))}" for key in differing]
        others += [f"{_listed(version.runs)} with {', '.join(pairs)}"] if pairs else []
    if others:
        raise ConfigError(
            f"study_dir: '{where}' holds runs of another version of the program: {'; '.join(others)}; choose another "
            "directory (--study-dir), or keep them with --any-version: the report then lists which version made which"
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


def _short(value: Any) -> str:
    """A hash by its first digits, "-dirty" kept; anything else as it is."""
    head, mark, _ = ("unknown" if value is None else str(value)).partition("-dirty")
    return f"{head[:12] if len(head) in (40, 64) and head.isalnum() else head}{mark}"


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
