"""The directory of a study: what it holds, and which of its runs are finished."""

import csv
import dataclasses
import hashlib
import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError
from a3c.files import discard_leftovers, json_bytes, json_object, write_durably
from workers.comparison.results import Comparison, LostUpdates, Run
from workers.comparison.stored_runs import UnreadableRunError, flat_provenance, is_outcome, options_of, read_run
from workers.comparison.study import Arm, Study
from workers.runs.directory import LOCK, lock_directory
from workers.runs.program import provenance
from workers.runs.records import Evaluation, Staleness

NAME_BYTES = 120  # of a run's directory; file systems take 255


class StudyDirectory:
    """study.json, runs/ with an ordinary run directory each, and the results.

    Raises:
        ConfigError: the directory is in use, holds another study or other things, or cannot be written.
    """

    def __init__(self, path: Path, study: Study, command: str):
        self.path, self._study = path, study
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_directory(path, f"study_dir: '{path}'")
            try:
                self.facts = self._claim(command)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise ConfigError(f"study_dir: '{path}' cannot be written: {error.strerror}") from error

    @property
    def made_with(self) -> dict[str, Any]:
        """What a run that begins now is made with."""
        return flat_provenance(self.facts)

    def run_path(self, arm: Arm, seed: int) -> Path:
        """Where a run's directory is."""
        return self.path / "runs" / f"{_file_name(arm.name)}-seed-{seed}"

    def finished_run(self, arm: Arm, seed: int) -> Run | None:
        """A run with an outcome, read from its files; None where it has to be made (again).

        Raises:
            ConfigError: the directory holds a run with other options.
            UnreadableRunError: a run has ended there, and one of its files cannot be read.
        """
        path = self.run_path(arm, seed)
        if not (path / "summary.json").exists():
            return None
        run = read_run(path, arm.name, seed, str(path.relative_to(self.path)))
        self._check_options(path, arm.run(seed))
        return run if is_outcome(run.summary) else None

    def finished_runs(self) -> tuple[dict[tuple[str, int], Run], list[str]]:
        """All runs with an outcome by arm and seed, and a line on each that has ended and cannot be read."""
        runs, unreadable = dict[tuple[str, int], Run](), list[str]()
        for arm, seed in self._study.schedule():
            try:
                run = self.finished_run(arm, seed)
            except UnreadableRunError as error:
                unreadable.append(f"{error}; this run is made again")
            else:
                runs |= {(arm.name, seed): run} if run is not None else {}
        return runs, unreadable

    def _check_options(self, path: Path, config: Config) -> None:
        """Whoever has resumed a run with another budget has made another run of it."""
        found, wanted = options_of(path), json.loads(json.dumps(config.to_options()))
        others = [
            f"{name} {found[name]}, not {value}" for name, value in wanted.items() if found.get(name, value) != value
        ]
        if others:
            raise ConfigError(
                f"study_dir: '{path}' holds a run with other options ({', '.join(others)}); "
                "move it away, or choose another directory"
            )

    def clear(self, arm: Arm, seed: int) -> Path:
        """Remove what an unfinished run has left; returns its path."""
        path = self.run_path(arm, seed)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def lost_updates(self, versions: Sequence[dict[str, Any]]) -> dict[str, LostUpdates]:
        """What has been measured of lost updates so far, by arm; nothing that another version of the program did.

        Args:
            versions: what the study's runs are made with.
        """
        try:
            found = json_object((self.path / "lost_updates.json").read_bytes())
            if found["made_with"] not in versions:
                return {}
            return {arm: LostUpdates(**values) for arm, values in found["arms"].items() if None not in values.values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it is measured again
            return {}

    def write_lost_updates(self, lost: dict[str, LostUpdates], made_with: dict[str, Any]) -> None:
        """lost_updates.json: what `lost_updates` reads."""
        arms = {arm: dataclasses.asdict(values) for arm, values in lost.items()}
        write_durably(self.path / "lost_updates.json", json_bytes({"made_with": made_with, "arms": arms}))

    def write_results(self, comparison: Comparison, findings: Sequence[str]) -> None:
        """comparison.json and runs.csv."""
        content = {**dataclasses.asdict(comparison), "findings": list(findings)}
        del content["runs"]  # they are a table of their own
        write_durably(self.path / "comparison.json", json_bytes(_plain(content)))
        values = {arm.name: arm.values for arm in comparison.arms}
        versions = {path: version.name for version in comparison.versions for path in version.runs}
        rows = [runs_row(run, values[run.arm], versions.get(run.path, "")) for run in comparison.runs]
        write_durably(self.path / "runs.csv", _csv_bytes(rows))

    def close(self) -> None:
        """Let others use the directory."""
        self._lock.release()

    def _claim(self, command: str) -> dict[str, Any]:
        """Make this directory the study's; what its next run depends on."""
        path, facts = self.path / "study.json", {"command": command, **provenance()}
        discard_leftovers(self.path)
        if path.exists():
            self._check_same_study(path)
        elif any(entry.name != LOCK for entry in self.path.iterdir()):
            raise ConfigError(f"study_dir: '{self.path}' holds something that is no study; choose another directory")
        content = {"definition": self._study.definition(), "seeds": self._study.seeds, **facts}
        write_durably(path, json_bytes(content))
        return facts

    def _check_same_study(self, path: Path) -> None:
        try:
            known = json_object(path.read_bytes())
            same = _with_every_option(known["definition"]) == _with_every_option(self._study.definition())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"study_dir: '{path}' is damaged or of no study ({error}); choose another directory"
            ) from error
        if not same:
            raise ConfigError(
                f"study_dir: '{self.path}' holds another study ({known.get('command')}); choose another directory"
            )


def runs_row(run: Run, values: dict[str, Any], version: str = "") -> dict[str, Any]:
    """One run as a flat row: its arm's values, its summary, and the version that made it."""
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
    return {**row, **{name: row.get(name) for name in known}, "version": version}


def _csv_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _file_name(text: str) -> str:
    """A name for a directory that no other text has: "1e-30" and "1e+30" are two."""
    name = "".join(letter if letter.isalnum() or letter in ".-+_" else "-" for letter in text.replace(", ", "-"))
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name.encode()[: NAME_BYTES - 9].decode(errors='ignore')}-{digest}"


def _with_every_option(definition: dict[str, Any]) -> dict[str, Any]:
    """A study's definition with the defaults of those options that its version of the program did not have."""
    defaults = json.loads(json.dumps(Config().to_options()))
    return {**definition, "arms": {name: {**defaults, **options} for name, options in definition["arms"].items()}}


def _plain(value: Any) -> Any:
    """The same with null for every number that is none in JSON: beyond the budget, or not known."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
