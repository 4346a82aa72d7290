"""The keeper: what the monitor does so that nothing is lost. Checkpoints, and parameters that stay finite."""

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from a3c.checkpoint import Training, save_checkpoint
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.networks import ActorCritic, build
from shared.board import Board
from shared.parameters import bind, flat_size
from shared.store import Capture, SharedStore, Snapshot
from workers import border
from workers.status import Evaluation

Send = Callable[[tuple[str, Any]], None]  # to the supervisor
GUARD_SECONDS = 0.05  # between two looks at whether the parameters are finite, more where a look takes long
GUARD_SHARE = 0.02  # of the monitor's time
ROLLBACKS, ROLLBACK_SECONDS = 10, 60.0  # as many within this time, and the run has diverged
DEPOSIT_SECONDS = 2.0  # that workers have at the end of a run to tell where they are


class Judged(NamedTuple):
    """A snapshot and what its policy reached."""

    snapshot: Snapshot
    evaluation: Evaluation


class Keeper:
    """Saves the run while it goes on, and sets it back where its numbers have gone non-finite.

    A save asks every worker for a deposit, waits for them without holding anybody up, and writes what it has copied;
    workers notice no more of it than a copy in memory. What a disk refuses is told, and tried at the next interval.
    """

    def __init__(self, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, send: Send,
                 checkpoints: Path):  # fmt: skip
        self._config, self._environment, self._store, self._board = config, environment, store, board
        self._send, self._checkpoints = send, checkpoints
        self._model: ActorCritic = build(config, environment)
        self._parameters = torch.zeros(flat_size(self._model))
        bind(self._model, self._parameters)
        self._saved, self._asked = time.monotonic(), False
        self._good: dict[str, Tensor] | None = None
        self._next_guard = 0.0
        self._rollbacks: deque[float] = deque(maxlen=ROLLBACKS)

    # -- saving ---------------------------------------------------------------------------------------------------

    def ask_when_due(self) -> None:
        """Ask for deposits where it is time for a checkpoint."""
        if not self._asked and time.monotonic() - self._saved > self._config.supervision.checkpoint_interval:
            self._store.request_capture()
            self._asked = True

    @property
    def is_ready(self) -> bool:
        """Whether everything that has been asked for is there."""
        return self._asked and self._store.captured()

    @property
    def holds_queue(self) -> bool:
        """Whether the queue of snapshots must stay as it is, because a capture that names it waits for its deposits."""
        return self._asked and self._store.capturing()

    def save(self, best: Judged | None, progress: dict[str, Any]) -> bool:
        """Put what was captured on disk, and the best snapshot where there is a new one; whether the disk took it.

        Args:
            progress: of the monitor, to go on from.
        """
        self._asked, self._saved = False, time.monotonic()
        return self._try(lambda: self._write(best, self._store.capture(), progress))

    def save_end(self, best: Judged | None, progress: dict[str, Any]) -> None:
        """The last save of a run that was not solved.

        Raises:
            DiskError: it is not on disk.
        """
        deadline = time.monotonic() + DEPOSIT_SECONDS
        while not self._store.ended() and time.monotonic() < deadline:
            self._board.beat(self._board.workers)
            time.sleep(0.002)
        if self._store.ended() or not self._store.queues:
            taken = self._try(lambda: self._write(best, self._store.capture(), progress))
        elif not (self._checkpoints / "latest.json").exists():  # in sync, what is between two steps cannot be resumed
            taken = self._try(lambda: self._write(best, Capture(self._store.snapshot(), {}), progress))
        else:
            taken = self._try(lambda: self._write_best(best))
        if not taken:
            raise border.DiskError(f"{self._checkpoints}: the last checkpoint cannot be written")

    def save_solved(self, solved: Judged) -> None:
        """The last save of a run that was solved: its best is its latest too.

        Raises:
            DiskError: it is not on disk.
        """
        if not self._try(lambda: self._write(solved, Capture(solved.snapshot, {}), {})):
            raise border.DiskError(f"{self._checkpoints}: the solved policy cannot be written")

    def _try(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except OSError as error:
            self._board.count("failed_saves")
            where = error.filename or self._checkpoints
            self._send(("unsaved", f"{where}: {error.strerror}; the checkpoint before it stands"))
            return False
        return True

    def _write(self, best: Judged | None, capture: Capture, progress: dict[str, Any]) -> None:
        self._write_best(best)  # which was finite when it was evaluated
        copies = (capture.snapshot.parameters, *capture.tensors.values())
        if all(np.isfinite(tensor.numpy()).all() for tensor in copies):
            self._write_latest(capture, progress)

    def _write_best(self, best: Judged | None) -> None:
        if best is not None:
            self._save("best", best.snapshot, best.evaluation)

    def _write_latest(self, capture: Capture, progress: dict[str, Any]) -> None:
        training = Training(capture.tensors | self._board_tensors(), self._facts(progress)) if capture.tensors else None
        self._save("latest", capture.snapshot, None, training, self._config.supervision.keep_checkpoints)

    def _board_tensors(self) -> dict[str, Tensor]:
        return {f"board.{name}": tensor for name, tensor in self._board.state().items()}

    def _facts(self, progress: dict[str, Any]) -> dict[str, Any]:
        deposits = [self._store.deposits.get(index) for index in range(self._board.workers)]
        return {
            "mode": self._config.mode,
            "workers": [None if deposit is None else json.loads(deposit) for deposit in deposits],
            "monitor": progress,
        }

    def _save(self, name: str, snapshot: Snapshot, evaluation: Evaluation | None, training: Training | None = None,
              keep: int = 1) -> None:  # fmt: skip
        self._parameters.copy_(snapshot.parameters)
        facts = {
            "env_id": self._environment.env_id,
            "max_episode_steps": self._environment.max_episode_steps,
            "target_return": self._environment.target(self._config.evaluation.target_return),
            "seed": self._config.seed,
            "env_steps": snapshot.env_steps,
            "updates": snapshot.updates,
            "consistent": snapshot.consistent,
            "evaluation": dataclasses.asdict(evaluation) if evaluation else None,
        }
        save_checkpoint(self._checkpoints, name, self._model, facts, training, keep)
        self._send(("checkpointed", name))

    # -- finite ---------------------------------------------------------------------------------------------------

    def guard(self) -> None:
        """Now and then, see whether the shared parameters and moments are finite; where not, set them back.

        Workers refuse gradients that are not finite, so this is for what no worker computed: an overflow in a step,
        a stray write of another library. What others push meanwhile is lost; a push under way may bring some of it
        back, which the next look sees.

        Raises:
            FloatingPointError: there is nothing finite to go back to, or it does not last.
        """
        now = time.monotonic()
        if now < self._next_guard:
            return
        copies = {name: vector.clone() for name, vector in self._store.vectors().items()}
        if all(bool(np.isfinite(copy.numpy()).all()) for copy in copies.values()):
            self._good = copies
        else:
            self._roll_back(now)
        self._next_guard = now + max(GUARD_SECONDS, (time.monotonic() - now) / GUARD_SHARE)

    def _roll_back(self, now: float) -> None:
        often = len(self._rollbacks) == ROLLBACKS and now - self._rollbacks[0] < ROLLBACK_SECONDS
        if self._good is None or often:
            raise FloatingPointError("the shared parameters are not finite, again and again; lower learning_rate")
        self._store.roll_back(self._good)
        self._rollbacks.append(now)
        self._board.count("rollbacks")
        self._send(("rolled-back", "the shared parameters were not finite: set back to the last copy that was"))
