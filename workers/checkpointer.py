"""The checkpointer: saves the run and keeps its numbers finite; it runs no environment that could hold it up."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a3c.checkpoint import Training, save_checkpoint
from a3c.config import NumericsError
from a3c.files import sync_file
from a3c.networks import ActorCritic, bind, build, flat_zeros
from shared.scoreboard import CLOSE
from shared.store import Capture, Snapshot
from workers.processes import entry
from workers.runs.evaluations import EvaluatedSnapshot, SharedRun
from workers.runs.records import Evaluation

WAIT_SECONDS = 0.05  # between two checks whether there is something to do, where it is not notified
GUARD_SECONDS = 0.05  # between two checks that the parameters are finite, more where a check takes long
GUARD_SHARE = 0.02  # of this process's time
ROLLBACKS, ROLLBACK_SECONDS = 10, 60.0  # as many within this time, and the run has diverged
STRAGGLER_SECONDS = 5.0  # for the snapshots of workers in a long rollout; then a checkpoint has those before


def main(run: SharedRun, messages: Connection, terminal: str | None) -> None:
    """Process target: save until all others have ended, and then once more."""
    checkpointer = Checkpointer(run, messages.send)
    entry.run(run.run_dir / "logs" / "checkpointer.log", checkpointer.watch, terminal)


class Checkpointer:
    """Requests every worker's snapshot, and writes what it has copied; no worker waits for the disk.

    What a disk refuses is reported, and tried again at the next interval. Messages to the supervisor are pairs of a
    kind and its data: ("checkpointed", name), ("unsaved", reason), ("rolled-back", reason).
    """

    def __init__(self, run: SharedRun, send: Callable[[tuple[str, Any]], None]):
        self._config, self._environment, self._store, self._scoreboard, self._evaluations, self._notifier, path = run
        self._target = self._environment.target(self._config.evaluation.target_return)
        self._send, self._table, self._checkpoints = send, path / "evaluations.csv", path / "checkpoints"
        self._model: ActorCritic = build(self._config, self._environment)
        self._parameters = flat_zeros(self._model)
        bind(self._model, self._parameters)
        self._saved_at = time.monotonic()
        self._requested_at: float | None = None  # when the barrier's request was made, until it is answered with a save
        self._saves_requested = 0
        self._end: tuple[Any, ...] | None = None  # what was known of the evaluations when the end was saved
        self._best: Evaluation | None = None  # of best.json
        self._good: dict[str, Tensor] | None = None
        self._next_guard = 0.0
        self._rollbacks: deque[float] = deque(maxlen=ROLLBACKS)

    def watch(self) -> None:
        """Save at every interval and when asked to; return when the run is closed and its end is on disk.

        Raises DiskError where that cannot be written, NumericsError where the shared numbers do not stay finite.
        """
        if (self._checkpoints / "best.json").exists():  # of a run that was resumed, or of a checkpointer that died
            from workers.runs.resume import best_on_disk

            self._best = best_on_disk(self._checkpoints)
        self._saves_requested, end_is_tried = self._scoreboard.saves_requested(), False
        while self._scoreboard.requested() != CLOSE:
            self._scoreboard.beat(self._scoreboard.checkpointer)
            self.guard()
            if self._solved() is None and not self._store.barrier.ended():
                self.save_due()
            elif not end_is_tried:  # at once, for the evaluations that follow may take their time
                end_is_tried = True
                self.save_end()
            self._notifier.wait(WAIT_SECONDS)
        if not self.save_end():
            raise entry.DiskError(f"{self._checkpoints}: the last checkpoint cannot be written")

    # -- saving ---------------------------------------------------------------------------------------------------

    def save_due(self) -> None:
        """Request a checkpoint where it is time for one, and save the one that is complete."""
        now, barrier = time.monotonic(), self._store.barrier
        if self._requested_at is None:
            wanted, interval = self._scoreboard.saves_requested(), self._config.supervision.checkpoint_interval
            if now - self._saved_at > interval or wanted != self._saves_requested:
                self._saves_requested, self._requested_at = wanted, now
                barrier.request()
        elif barrier.complete() or (not self._store.queues and now - self._requested_at > STRAGGLER_SECONDS):
            self._requested_at, self._saved_at = None, now
            self._save()

    def save_end(self) -> bool:
        """Save what the run ends with, unless nothing was learned since it was saved; whether it is on disk."""
        solved, last, progress = self._solved(), self._evaluations.last(), self._evaluations.progress()
        known = (solved.evaluation,) if solved else (progress, last and last.evaluation)
        if self._end != known and self._save(solved, self._store.barrier.ended() or not self._store.queues):
            self._end = known
        return self._end == known

    def _solved(self) -> EvaluatedSnapshot | None:
        """The solution, where there is one; first the progress is read, which is small: this is asked all the time."""
        best = self._evaluations.progress().best
        is_solved = best is not None and self._target is not None and best.is_solution(self._target)
        return self._evaluations.best() if is_solved else None

    def _save(self, solved: EvaluatedSnapshot | None = None, resumable: bool = True) -> bool:
        """Write the best policy, where it is better than the one on disk, and the latest; whether the disk took them.

        Args:
            solved: the solution is both, and nothing is to be resumed.
            resumable: in `sync`, what is between two steps cannot be resumed: the latest checkpoint stays.
        """
        try:
            best = solved or self._evaluations.best()
            if best and (solved or self._best is None or best.evaluation.mean > self._best.mean):
                self._write("best", *best)
                self._best = best.evaluation
            if solved:
                self._write_latest(Capture(solved.snapshot, {}))
            elif resumable:
                self._write_latest(self._store.capture(lambda: self._evaluations.progress().released))
            elif not (self._checkpoints / "latest.json").exists():
                self._write_latest(Capture(self._store.snapshot(), {}))
        except OSError as error:
            self._scoreboard.count("failed_saves")
            where = error.filename or self._checkpoints
            self._send(("unsaved", f"{where}: {error.strerror}; the checkpoint before it stands"))
            return False
        return True

    def _write_latest(self, capture: Capture) -> None:
        (snapshot, tensors), progress, training = capture, self._evaluations.progress(), None
        if not all(np.isfinite(tensor.numpy()).all() for tensor in (snapshot.parameters, *tensors.values())):
            return  # the guard deals with what it was taken from
        if tensors:
            if progress.rows:
                with suppress(FileNotFoundError):  # somebody has deleted it: training is worth more than its curve
                    sync_file(self._table)  # so that it has every row that the checkpoint counts on
            tensors |= {f"board.{name}": tensor for name, tensor in self._scoreboard.state().items()}
            for index in range(self._scoreboard.workers):
                if (content := self._store.barrier.snapshot(index)) is not None:
                    tensors[f"worker.{index}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            training = Training(tensors, {"mode": self._config.mode, "monitor": asdict(progress)})
        last = self._evaluations.last()
        evaluation = last.evaluation if last and last.snapshot.updates == snapshot.updates else None
        self._write("latest", snapshot, evaluation, training)

    def _write(
        self, name: str, snapshot: Snapshot, evaluation: Evaluation | None, training: Training | None = None
    ) -> None:
        self._parameters.copy_(snapshot.parameters)
        facts = {
            **self._environment.identity(),
            "target_return": self._target,
            "seed": self._config.seed,
            **{name: getattr(snapshot, name) for name in ("env_steps", "updates", "consistent")},
            "evaluation": asdict(evaluation) if evaluation else None,
        }
        keep = self._config.supervision.keep_checkpoints if name == "latest" else 1
        save_checkpoint(self._checkpoints, name, self._model, facts, training, keep)
        self._send(("checkpointed", name))

    # -- finite ---------------------------------------------------------------------------------------------------

    def guard(self) -> None:
        """Now and then, check that the shared parameters and moments are finite; where not, roll them back.

        Workers refuse gradients that are not finite, so this is for what no worker computed: an overflow in a step,
        a stray write of another library. What others push meanwhile is lost; a push under way may bring some of it
        back, which the next check finds. Raises NumericsError where nothing finite is left, or it does not last.
        """
        now = time.monotonic()
        if now < self._next_guard:
            return
        copies = {name: vector.clone() for name, vector in self._store.vectors().items()}
        if all(bool(np.isfinite(copy.numpy()).all()) for copy in copies.values()):
            self._good = copies
        else:
            often = len(self._rollbacks) == ROLLBACKS and now - self._rollbacks[0] < ROLLBACK_SECONDS
            if self._good is None or often:
                raise NumericsError("the shared parameters are not finite, again and again; lower learning_rate")
            self._store.roll_back(self._good)
            self._rollbacks.append(now)
            self._scoreboard.count("rollbacks")
            self._send(("rolled-back", "the shared parameters were not finite: set back to the last copy that was"))
        self._next_guard = now + max(GUARD_SECONDS, (time.monotonic() - now) / GUARD_SHARE)
