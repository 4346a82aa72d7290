"""Resuming a run: what its directory holds, and how that becomes the state of new processes.

Imports neither torch nor gymnasium until a checkpoint is loaded: a mistake is answered before.
"""

import csv
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3c.config import CheckpointError, Config, ConfigError, stored_options
from a3c.files import read_file, write_durably
from a3c.manifest import read_manifest
from workers.runs.program import versions
from workers.runs.records import Evaluation

if TYPE_CHECKING:
    from a3c.checkpoint import Checkpoint, Training
    from a3c.environments import EnvironmentSpec
    from shared.scoreboard import Scoreboard
    from shared.store import SharedStore
    from workers.runs.evaluations import Progress

SIZE_LIMIT = 2**24  # bytes
TABLE_LIMIT = 2**31


def stored_config(run_dir: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration of a run, and its config.json as it is.

    Raises:
        CheckpointError: there is none, or it cannot be understood.
    """
    path = run_dir / "config.json"
    try:
        content = json.loads(read_file(path, SIZE_LIMIT))
        return Config.from_options(stored_options(content["options"])), content
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; there is no run to resume") from error
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be understood: {error}") from error


def changed(config: Config, max_env_steps: int | None, workers: int | None) -> Config:
    """The configuration with what the user wants otherwise.

    Raises:
        ConfigError: that cannot be changed.
    """
    if workers is not None and workers != config.workers and config.mode == "sync":
        raise ConfigError(
            f"workers: a sync run is resumed with as many as it had, {config.workers}: its updates are made of the "
            "average of their gradients"
        )
    wanted = {"max_env_steps": max_env_steps, "workers": workers}
    return Config.from_options(
        config.to_options() | {name: value for name, value in wanted.items() if value is not None}
    )


def nothing_to_do(run_dir: Path, config: Config) -> str | None:
    """Why a run need not be resumed, or None where it may be."""
    summary, best = _read(run_dir / "summary.json"), _read(run_dir / "checkpoints" / "best.json")
    with suppress(KeyError, TypeError):  # a run that was killed before its summary is solved by its best checkpoint
        if best["evaluation"]["verification"] and best["evaluation"]["mean"] >= best["target_return"]:
            return "is solved"
    if summary.get("status") == "solved":
        return "is solved"
    spent = summary.get("env_steps") if summary.get("status") == "budget_exhausted" else None
    if isinstance(spent, int) and spent >= config.max_env_steps:
        return f"has spent its budget of {config.max_env_steps:,} env steps; give it more with --max-env-steps"
    return None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, as in a run that was killed."""
    try:
        content = json.loads(read_file(path, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run as of its checkpoint."""

    checkpoint: "Checkpoint"
    training: "Training"
    progress: "Progress"  # of the evaluations
    best: Evaluation | None  # of the checkpoint `best`, which may be of a later moment
    evaluations: tuple[Evaluation, ...]

    def restore(self, store: "SharedStore", scoreboard: "Scoreboard") -> None:
        """Make the state of a new run that of the checkpoint.

        Raises:
            CheckpointError: they do not fit.
        """
        from workers.worker_state import pack, unpack

        tensors = self.training.tensors
        try:
            store.restore(tensors)
            scoreboard.restore({name.removeprefix("board."): tensor for name, tensor in tensors.items() if "." in name})
            earlier = self.training.facts.get("workers")  # written before snapshots were tensors
            for index in range(scoreboard.workers):
                if earlier is not None:
                    state = dict(enumerate(earlier)).get(index)
                else:
                    snapshot = tensors.get(f"worker.{index}")
                    state = None if snapshot is None else unpack(snapshot.numpy().tobytes())
                if state is None:
                    continue
                collector = state["collector"]
                if tensors["counters"].shape[1] == scoreboard.workers:
                    scoreboard.restore_worker(index, state["board"])
                else:  # its totals may include those of workers that are no more
                    row = scoreboard.read()[index]
                    collector = collector | {"return_sum": float(row["return_sum"]), "episodes": int(row["episodes"])}
                store.barrier.hand_in(index, 0, pack({**state, "collector": collector}))
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise CheckpointError(f"{self.checkpoint.path}: does not fit the run's configuration: {error}") from error

    def describe(self) -> str:
        """From where the run is resumed, in a line."""
        manifest = self.checkpoint.manifest
        return f"from {manifest['env_steps']:,} env steps, {manifest['updates']:,} updates"


def load(
    run_dir: Path,
    config: Config,
    environment: "EnvironmentSpec",
    content: dict[str, Any],
    any_version: bool,
    warn: Callable[[str], None],
) -> Resumed:
    """The newest whole checkpoint of a run, known to fit what is installed; files are left as they are.

    Args:
        content: of config.json.
        warn: called with a line for each damaged checkpoint that was passed over.
    Raises:
        CheckpointError: there is none, or it does not fit; names every difference.
    """
    from a3c.checkpoint import load_training  # imports torch
    from workers.runs.evaluations import Progress

    checkpoint, training = load_training(run_dir)
    for line in checkpoint.skipped:
        warn(f"skipped a damaged checkpoint: {line}")
    differences = environment.differences(content.get("environment"))
    network = checkpoint.manifest["network"]
    wanted: dict[str, Any] = {"hidden_sizes": list(config.network.hidden_sizes), "value_scale": config.loss.value_scale}
    if "recurrent" in network or config.network.recurrent is not None:
        wanted["recurrent"] = config.network.recurrent
    differences += _differences({name: network.get(name) for name in wanted}, wanted)
    if differences:
        raise CheckpointError(f"{run_dir}: cannot be resumed: {'; '.join(differences)}")
    differences = _differences(content.get("versions"), versions())
    if differences and not any_version:
        advice = "--any-version resumes it all the same, not bit for bit"
        raise CheckpointError(f"{run_dir}: was made with other versions: {'; '.join(differences)}; {advice}")
    try:
        progress = replace(Progress.of(training.facts["monitor"]), tries=0, failures=0)  # of the monitor that was
        if "queue" not in training.tensors:  # a queue that begins now counts its snapshots from 0
            progress = replace(progress, released=0)
        return Resumed(checkpoint, training, progress, best_on_disk(run_dir / "checkpoints") or progress.best, ())
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: cannot be resumed from: {error}") from error


def cut_back(run_dir: Path, resumed: Resumed) -> Resumed:
    """Drop the rows of the run's tables from after the checkpoint, and read its evaluations from before.

    Raises:
        OSError: they cannot be written.
        CheckpointError: they cannot be read.
    """
    manifest, done = resumed.checkpoint.manifest, resumed.progress.rows
    try:
        rows = cut_table(run_dir / "evaluations.csv", lambda index, row: index < done)
        for name in ("metrics.csv", "updates.csv"):
            cut_table(run_dir / name, lambda index, row: _whole(row["updates"]) <= manifest["updates"])
        parsers: dict[Any, Callable[[str], Any]] = {
            int: _whole,
            float: float,
            bool: lambda text: text.lower() == "true",
            float | None: lambda text: float(text) if text else None,
        }
        columns = [(field.name, parsers[field.type]) for field in fields(Evaluation)]
        evaluations = tuple(
            Evaluation(
                **{name: parse(row[name]) for name, parse in columns if name in row or not name.startswith("critic")}
            )
            for row in rows
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run_dir}: its tables cannot be read: {error}") from error
    (run_dir / "summary.json").unlink(missing_ok=True)
    return replace(resumed, evaluations=evaluations)


def best_on_disk(checkpoints: Path) -> Evaluation | None:
    """The evaluation of the checkpoint `best`; None where there is none, or it is damaged."""
    try:
        evaluation = read_manifest(checkpoints / "best.json").get("evaluation")
        return Evaluation(**evaluation) if evaluation else None
    except (CheckpointError, TypeError):
        return None


def _differences(before: Any, now: dict[str, Any]) -> list[str]:
    before = before if isinstance(before, dict) else {}
    return [
        f"{name} was {before.get(name)!r} and is {value!r}" for name, value in now.items() if before.get(name) != value
    ]


def cut_table(path: Path, keep: Callable[[int, dict[str, str]], bool]) -> list[dict[str, str]]:
    """Drop the rows of a table from the first on that `keep`, called with its index, refuses; return the others.

    A last row that was not written whole goes too; a missing table has no rows. One that a spreadsheet has saved is
    read too, and written with commas and points.

    Raises:
        ValueError: it cannot be understood; names the file and the line.
        OSError: it cannot be read or written.
    """
    if not path.exists():
        return []
    content = read_file(path, TABLE_LIMIT)
    try:
        text = content.decode("utf-8-sig")
        text = text if re.search('[\r";\t]', text) else text[: text.rfind("\n") + 1]
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        table = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: {error}") from error
    header, *lines = [row for row in table if any(row)] or [[]]
    if delimiter != ",":  # of a country that writes 0,5
        lines = [[cell.replace(",", ".") for cell in row] for row in lines]
    kept: list[dict[str, str]] = []
    for index, cells in enumerate(lines):
        row = dict(zip(header, cells, strict=False))
        try:
            if len(cells) != len(header) or not keep(index, row):
                break
        except (KeyError, ValueError) as error:
            what = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path.name}, row {index + 1}: {what}") from error
        kept.append(row)
    whole = "".join(f"{','.join(cells)}\n" for cells in [header, *lines[: len(kept)]] if cells).encode()
    if whole != content:
        write_durably(path, whole)
    return kept


def _whole(text: str) -> int:
    """A whole number, also as a spreadsheet writes it: 1000.0, 1e+03."""
    return int(text if text.lstrip("+-").isdecimal() else text and float(text))
