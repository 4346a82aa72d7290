"""What a study is: factors, the arms that follow, the order of its runs; and the directory that holds them."""

import csv
import hashlib
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from a3c.config import SEPARATE, Config, ConfigError, option_specs, stored_options
from a3c.files import discard_leftovers, json_bytes, json_object, write_durably
from a3c.presets import TUNED
from workers.comparison.results import Comparison, LostUpdates, Run
from workers.comparison.stored_runs import UnreadableRunError, flat_provenance, is_outcome, read_run
from workers.runs.directory import LOCK, folder_name, lock_directory
from workers.runs.program import provenance
from workers.runs.records import Evaluation, Staleness

PARTS: dict[str, Any] = {"evaluation": Evaluation, "staleness": Staleness}  # of a summary that may be None
OWNERS = ("env", "preset", "objective", "correction", "critic")  # options that decide to which objective a run belongs
SINGLE = {  # options that are no factor, and what to do instead
    "seed": "use --seeds N for N runs of each arm",
    "env": "returns of different environments are not comparable: call it for each",
}
NAME_BYTES = 120  # of a run's directory; file systems take 255


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the factors' values, and the config of its runs."""

    name: str
    values: dict[str, Any]  # by option name
    config: Config  # of its first seed

    def run(self, seed: int) -> Config:
        """The config of one run."""
        return replace(self.config, seed=seed)


@dataclass(frozen=True, slots=True)
class Study:
    """Every arm with every seed."""

    factors: dict[str, tuple[Any, ...]]  # the values compared, by option name
    arms: tuple[Arm, ...]  # the first is what the others are held against
    seeds: tuple[int, ...]
    tuned: bool

    def schedule(self) -> list[tuple[Arm, int]]:
        """All runs in their order: seed by seed, each beginning with the next arm, so that whatever the machine does
        meanwhile, growing warm or busy, happens to all arms alike."""
        many = len(self.arms)
        return [(self.arms[(n + i) % many], seed) for n, seed in enumerate(self.seeds) for i in range(many)]

    def shared_options(self) -> dict[str, Any]:
        """The value of every option on which all arms agree, but for the seed."""
        first, *others = ({**arm.config.to_options(), "seed": None} for arm in self.arms)
        return {k: v for k, v in first.items() if k != "seed" and all(options[k] == v for options in others)}

    def definition(self) -> dict[str, Any]:
        """What two studies must share to be one: arms and their settings; seeds may be added."""
        arms = {arm.name: {**arm.config.to_options(), "seed": None} for arm in self.arms}
        return dict(json.loads(json.dumps({"factors": self.factors, "arms": arms})))

    def default_path(self) -> Path:
        """The same study has the same directory, so that the same command resumes it."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:8]
        env = folder_name(self.arms[0].config.env)[:80]
        return Path("runs") / f"compare-{env}-{'-'.join(self.factors)[:80]}-{digest}"


def plan(options: Mapping[str, Sequence[Any]], seeds: int, tuned: bool = False) -> Study:
    """The study of options with one or several values each, or ConfigError.

    Args:
        options: by name, the values that were given; several make a factor. Where none has several and no mode is
            given, async is compared with sync. `seed` is the first seed.
        seeds: runs of each arm.
        tuned: start each mode from its own best setting (a3c.presets) instead of from the defaults.
    """
    given: dict[str, tuple[Any, ...]] = {}
    for name, values in options.items():  # a network may be a list of layers in Python, and is a tuple everywhere else
        given[name] = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    if "mode" not in given and not any(len(values) > 1 for values in given.values()):
        given["mode"] = ("async", "sync")
    for name, values in given.items():
        if name in SINGLE and len(values) > 1:
            raise ConfigError(f"{name}: takes one value in a study; {SINGLE[name]}")
        if repeated := [value for value in values if values.count(value) > 1]:
            raise ConfigError(f"{name}: the value {_shown(repeated[0])} is given twice")
    first_seed: int = given.pop("seed", (0,))[0]
    factors = {name: values for name, values in given.items() if len(values) > 1}
    if not factors:
        raise ConfigError(
            "compare: nothing to compare: every option has one value; give one of them several, such as "
            "--modes async sync or --workers 1 2 4"
        )
    fixed = {name: values[0] for name, values in given.items() if len(values) == 1}
    arms: dict[str, Arm] = {}
    used: set[str] = set()
    for combination in itertools.product(*factors.values()):
        own = dict(zip(factors, combination, strict=True))
        settings = {"mode": Config().mode, **fixed, **own, "seed": first_seed}
        alien = alien_options(settings)
        used |= settings.keys() - alien
        own = {name: value for name, value in own.items() if name not in alien}
        settings = {name: value for name, value in settings.items() if name not in alien}
        best = TUNED.get(settings["mode"], {}) if tuned else {}
        name = arm_name(own)  # several combinations may be one arm, where they differ in what is alien to it
        arms.setdefault(name, Arm(name, own, Config.from_options({**best, **settings})))
    for arm in arms.values():
        arm.config.check_belonging(given.keys() - used)
    if first_seed + seeds > 2**32:
        raise ConfigError(f"seed: {seeds} seeds from {first_seed} on pass 2^32")
    return Study(factors, tuple(arms.values()), tuple(range(first_seed, first_seed + seeds)), tuned)


def alien_options(settings: Mapping[str, Any]) -> set[str]:
    """Those of an arm's settings that do not belong to its objective: another arm of the study has them."""
    config = Config.from_options({k: settings[k] for k in OWNERS if k in settings})
    alien = {spec.name for spec in option_specs() if spec.name in settings and not spec.belongs_to(config)}
    return alien | {name for name in SEPARATE if name in settings and config.critic.critic == "tied"}


def arm_name(values: Mapping[str, Any]) -> str:
    """The values of an arm's factors: "async", "4 workers", "sync, entropy_coef 0"."""
    short = {"mode": "{}", "objective": "{}", "workers": "{} worker" if values.get("workers") == 1 else "{} workers"}
    return ", ".join(short.get(name, f"{name} {{}}").format(_shown(value)) for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "x".join(str(part) for part in value)
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)  # all digits, where six would make two values one


@contextmanager
def open_study_directory(path: Path, study: Study, command: str) -> Iterator["StudyDirectory"]:
    """Lock a new directory or that of the same study, else raise ConfigError; `command` resumes the study."""
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.callback(lock_directory(path, f"study_dir: '{path}'").close)
            discard_leftovers(path)
            file = path / "study.json"
            if file.exists():
                _check_same_study(file, study)
            elif any(entry.name != LOCK for entry in path.iterdir()):
                raise ConfigError(f"study_dir: '{path}' holds something else than a study; choose another directory")
            made_with = provenance()
            content = {"definition": study.definition(), "seeds": study.seeds, "command": command, **made_with}
            write_durably(file, json_bytes(content))
        except OSError as error:
            raise ConfigError(f"study_dir: '{path}' cannot be written: {error.strerror}") from error
        yield StudyDirectory(path, study, command, flat_provenance(made_with))


@dataclass(frozen=True, slots=True)
class StudyDirectory:
    """study.json, runs/ with an ordinary run directory each, and the results."""

    path: Path
    study: Study
    command: str  # that resumes the study
    made_with: dict[str, Any]  # what a run that begins now is made with

    def run_path(self, arm: Arm, seed: int) -> Path:
        """Where a run's directory is."""
        return self.path / "runs" / f"{_file_name(arm.name)}-seed-{seed}"

    def read_run(self, arm: Arm, seed: int) -> Run:
        """A finished run from its files; ConfigError where its options are others, as after `resume` with a budget."""
        path = self.run_path(arm, seed)
        run, found = read_run(path, arm.name, seed, str(path.relative_to(self.path)))
        wanted = json.loads(json.dumps(arm.run(seed).to_options()))
        if others := [f"{k} {found[k]}, not {value}" for k, value in wanted.items() if found.get(k, value) != value]:
            raise ConfigError(
                f"study_dir: '{path}' holds a run with other options ({', '.join(others)}); "
                "move it away, or choose another directory"
            )
        return run

    def finished_runs(self) -> tuple[dict[tuple[str, int], Run], list[str]]:
        """All runs with an outcome by arm and seed, and a line on each that has ended and cannot be read."""
        runs, unreadable = dict[tuple[str, int], Run](), list[str]()
        for arm, seed in self.study.schedule():
            if (self.run_path(arm, seed) / "summary.json").exists():
                try:
                    run = self.read_run(arm, seed)
                except UnreadableRunError as error:
                    unreadable.append(f"{error}; rerunning it")
                    continue
                if is_outcome(run.summary):
                    runs[arm.name, seed] = run
        return runs, unreadable

    def lost_updates(self, versions: Sequence[dict[str, Any]]) -> dict[str, LostUpdates]:
        """What has been measured of lost updates, by arm, by one of the versions that made the study's runs."""
        try:
            found = json_object((self.path / "lost_updates.json").read_bytes())
            if found["made_with"] not in versions:
                return {}
            return {arm: LostUpdates(**values) for arm, values in found["arms"].items() if None not in values.values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it is measured again
            return {}

    def write_lost_updates(self, lost: dict[str, LostUpdates]) -> None:
        """lost_updates.json: what `lost_updates` reads."""
        arms = {arm: asdict(values) for arm, values in lost.items()}
        write_durably(self.path / "lost_updates.json", json_bytes({"made_with": self.made_with, "arms": arms}))

    def write_results(self, comparison: Comparison, findings: Sequence[str]) -> None:
        """comparison.json, and runs.csv with a row per run."""
        content = {**asdict(comparison), "findings": list(findings)}
        del content["runs"]  # they are a table of their own
        write_durably(self.path / "comparison.json", json_bytes(_finite(content)))
        values = {arm.name: {k: arm.values.get(k, "") for k in comparison.factors} for arm in comparison.arms}
        versions = {path: version.name for version in comparison.versions for path in version.runs}
        rows = [runs_row(run, values[run.arm], versions.get(run.path, "")) for run in comparison.runs]
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_durably(self.path / "runs.csv", table.getvalue().encode())


def runs_row(run: Run, values: dict[str, Any], version: str = "") -> dict[str, Any]:
    """One run as a flat row: its arm's values, its summary, and the version that made it."""
    row = {"arm": run.arm, "seed": run.seed, "run": run.path, **{f"factor_{k}": value for k, value in values.items()}}
    for name, value in asdict(run.summary).items():
        if name in PARTS:  # in every row, known or not
            value = value or dict.fromkeys(field.name for field in fields(PARTS[name]))
        if isinstance(value, dict):
            row |= {f"{name}_{part}": item for part, item in value.items()}
        elif name != "profile":  # of each worker: not a column
            row[name] = value
    return {**row, "version": version}


def _check_same_study(path: Path, study: Study) -> None:
    try:
        known = json_object(path.read_bytes())
        found, wanted = known["definition"], study.definition()
        defaults = json.loads(json.dumps(Config().to_options()))
        arms = {name: {**defaults, **stored_options(options)} for name, options in found["arms"].items()}
        for options in (*arms.values(), *wanted["arms"].values()):
            del options["preset"]  # is a name; what it stands for is there
        same = {**found, "arms": arms} == wanted
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"study_dir: '{path}' is damaged or of no study ({error}); choose another directory"
        ) from error
    if not same:
        raise ConfigError(
            f"study_dir: '{path.parent}' holds another study ({known.get('command')}); choose another directory"
        )


def _file_name(text: str) -> str:
    """A name for a directory that no other text has."""
    name = "".join(letter if letter.isalnum() or letter in ".-+_" else "-" for letter in text.replace(", ", "-"))
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name.encode()[: NAME_BYTES - 9].decode(errors='ignore')}-{digest}"


def _finite(value: Any) -> Any:
    """The same with null for every number that JSON does not have: beyond the budget, or not known."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
