"""What the monitor has found so far, in shared memory: for checkpoints, and for the monitor that replaces it."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.memory import Notifier, Slots
from shared.scoreboard import Scoreboard
from shared.store import SharedStore, Snapshot
from workers.runs.records import Evaluation

NOTES = ("best", "last", "progress")  # in the order of writing: what the progress refers to is there already


class EvaluatedSnapshot(NamedTuple):
    """A snapshot and what its policy reached."""

    snapshot: Snapshot
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the evaluations of a run have come."""

    released: int = 0  # snapshots of the queue that were evaluated or given up
    evaluations: int = 1  # begun so far; each has a seed of its own, and number 0 was the untrained network's
    rows: int = 0  # of evaluations.csv
    seconds: float = 0.0  # spent
    due: int = 0  # env steps at which the next one is, where there is no queue
    best: Evaluation | None = None
    promised: float | None = None  # the best mean of policies that few episodes were enough to pass over
    evaluated: int = -1  # updates of the last policy with a whole evaluation
    tries: int = 0  # at the snapshot that is being evaluated
    failures: int = 0  # evaluations in a row that failed, or that a monitor died of

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "Progress":
        """From a checkpoint's JSON; raises KeyError, TypeError where it is not such."""
        state = {"released" if name == "judged" else name: value for name, value in stored.items()}
        return cls(**(state | {"best": state["best"] and Evaluation(**state["best"])}))


class Evaluations:
    """Three notes, written by the monitor and read by the checkpointer: each is whole, and of one moment."""

    def __init__(self, progress: Progress):
        self._slots = Slots(len(NOTES))
        self.note(progress=progress)

    def note(self, **notes: Progress | EvaluatedSnapshot) -> None:
        """Leave the `progress`, the `best` policy so far, or the `last` one of an interrupted run."""
        for name in sorted(notes, key=NOTES.index):
            self._slots.put(NOTES.index(name), pickle.dumps(notes[name]))

    def progress(self) -> Progress:
        return self._get("progress")  # type: ignore[no-any-return]

    def best(self) -> EvaluatedSnapshot | None:
        """The best policy since the run was started or resumed; None where there was none."""
        return self._get("best")  # type: ignore[no-any-return]

    def last(self) -> EvaluatedSnapshot | None:
        return self._get("last")  # type: ignore[no-any-return]

    def _get(self, name: str) -> Any:
        content = self._slots.get(NOTES.index(name))
        return None if content is None else pickle.loads(content)


class SharedRun(NamedTuple):
    """What the monitor and the checkpointer know of their run."""

    config: Config
    environment: EnvironmentSpec
    store: SharedStore
    scoreboard: Scoreboard
    evaluations: Evaluations
    notifier: Notifier  # wakes the checkpointer
    run_dir: Path
