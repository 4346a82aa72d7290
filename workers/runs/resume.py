"""Going on with a run: what its directory must hold, and how it becomes the state of new processes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a3c.checkpoint import Checkpoint, Training, load_training
from a3c.config import CheckpointError, Config
from a3c.environments import EnvironmentSpec
from a3c.manifest import read_manifest
from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from workers.runs.evaluations import Progress
from workers.runs.directory import versions
from workers.runs.records import Evaluation
from workers.runs.tables import cut_table
from workers.worker_state import pack, unpack


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run as of its checkpoint."""

    checkpoint: Checkpoint
    training: Training
    progress: Progress  # of the evaluations
    best: Evaluation | None  # of the checkpoint `best`, which may be of a later moment
    evaluations: tuple[Evaluation, ...]

    def restore(self, store: SharedStore, scoreboard: Scoreboard) -> None:
        """Make the state of a new run that of the checkpoint.

        Raises:
            CheckpointError: they do not fit.
        """
        tensors = self.training.tensors
        try:
            store.restore(tensors)
            scoreboard.restore({name.removeprefix("board."): tensor for name, tensor in tensors.items() if "." in name})
            same_workers = tensors["counters"].shape[1] == scoreboard.workers
            for index in range(scoreboard.workers):
                if (state := self._worker_state(index)) is not None:
                    self._restore_worker(index, state, store, scoreboard, same_workers)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise CheckpointError(f"{self.checkpoint.path}: does not fit the run's configuration: {error}") from error

    def _worker_state(self, index: int) -> dict[str, Any] | None:
        if (earlier := self.training.facts.get("workers")) is not None:  # written before snapshots were tensors
            return dict(enumerate(earlier)).get(index)
        snapshot = self.training.tensors.get(f"worker.{index}")
        return None if snapshot is None else unpack(snapshot.numpy().tobytes())

    @staticmethod
    def _restore_worker(
        index: int, state: dict[str, Any], store: SharedStore, scoreboard: Scoreboard, exactly: bool
    ) -> None:
        collector = state["collector"]
        if exactly:
            scoreboard.restore_worker(index, state["board"])
        else:  # its totals may include those of workers that are no more
            row = scoreboard.read()[index]
            collector = {**collector, "return_sum": float(row["return_sum"]), "episodes": int(row["episodes"])}
        store.barrier.hand_in(index, 0, pack({"collector": collector}))

    def words(self) -> str:
        """Where the run goes on from, in a line."""
        manifest = self.checkpoint.manifest
        return f"goes on from {manifest['env_steps']:,} env steps, {manifest['updates']:,} updates"


def load(run_dir: Path, config: Config, environment: EnvironmentSpec, content: dict[str, Any], any_version: bool,
         say: Callable[[str], None]) -> Resumed:
    """The newest whole checkpoint of a run, known to fit what is installed; files are left as they are.

    Args:
        content: of config.json.
        say: told, a line each, of damaged checkpoints that were passed over.
    Raises:
        CheckpointError: there is none, or it does not fit; names every difference.
    """
    checkpoint, training = load_training(run_dir)
    for line in checkpoint.skipped:
        say(f"skipped a damaged checkpoint: {line}")
    differences = environment.differences(content.get("environment"))
    network = checkpoint.manifest["network"]
    differences += _differences(
        {name: network[name] for name in ("hidden_sizes", "value_scale")},
        {"hidden_sizes": list(config.network.hidden_sizes), "value_scale": config.loss.value_scale},
    )
    if differences:
        raise CheckpointError(f"{run_dir}: cannot go on: {'; '.join(differences)}")
    differences = _differences(content.get("versions"), versions())
    if differences and not any_version:
        raise CheckpointError(f"{run_dir}: was made with other versions: {'; '.join(differences)}; "
                              "--any-version goes on all the same, not bit for bit")
    try:
        progress = replace(Progress.of(training.facts["monitor"]), tries=0, failures=0)  # of the monitor that was
        if "queue" not in training.tensors:  # a queue that begins now counts its snapshots from 0
            progress = replace(progress, judged=0)
        return Resumed(checkpoint, training, progress, best_on_disk(run_dir / "checkpoints") or progress.best, ())
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: cannot be gone on from: {error}") from error


def cut_back(run_dir: Path, resumed: Resumed) -> Resumed:
    """Drop what the run's tables tell of the time after the checkpoint; the evaluations before it become known.

    Raises:
        OSError: they cannot be written.
        CheckpointError: they cannot be read.
    """
    manifest, done = resumed.checkpoint.manifest, resumed.progress.rows
    try:
        rows = cut_table(run_dir / "evaluations.csv", lambda index, row: index < done)
        cut_table(run_dir / "metrics.csv", lambda index, row: int(row["updates"]) <= manifest["updates"])
        cut_table(run_dir / "updates.csv", lambda index, row: int(row["updates"]) <= manifest["updates"])
        evaluations = tuple(_evaluation(row) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run_dir}: its tables cannot be read: {error}") from error
    (run_dir / "summary.json").unlink(missing_ok=True)  # it told of an end
    return replace(resumed, evaluations=evaluations)


def _evaluation(row: dict[str, str]) -> Evaluation:
    whole = {name: int(row[name]) for name in ("env_steps", "updates", "episodes", "seed")}
    real = {name: float(row[name]) for name in ("seconds", "mean", "std", "min", "max")}
    return Evaluation(**whole, **real, verification=row["verification"] == "True")  # type: ignore[arg-type]


def best_on_disk(checkpoints: Path) -> Evaluation | None:
    """The evaluation of the checkpoint `best`; None where there is none, or it is damaged."""
    try:
        evaluation = read_manifest(checkpoints / "best.json").get("evaluation")
        return Evaluation(**evaluation) if evaluation else None
    except (CheckpointError, TypeError):
        return None


def _differences(before: Any, now: dict[str, Any]) -> list[str]:
    before = before if isinstance(before, dict) else {}
    return [f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in now.items() if before.get(name) != value]
