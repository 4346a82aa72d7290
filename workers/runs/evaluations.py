"""What the monitor has found so far, in shared memory: for checkpoints, and for the monitor that replaces it."""

import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.memory import Slots
from shared.notifier import Notifier
from shared.scoreboard import Scoreboard
from shared.store import SharedStore, Snapshot
from workers.runs.records import Evaluation

PROGRESS, BEST, LAST = range(3)


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
        """From plain JSON, also of older checkpoints; raises KeyError, TypeError where it is not such."""
        state = {"released" if name == "judged" else name: value for name, value in stored.items()}
        if "rows" not in state:  # written by version 0.1, which counted CPU time and a row for every evaluation
            state = {"rows": state["evaluations"], "seconds": state.pop("cpu_seconds"), **state}
        return cls(**(state | {"best": state["best"] and Evaluation(**state["best"])}))

    def state(self) -> dict[str, Any]:
        """As plain JSON, for `of`."""
        return dataclasses.asdict(self)


class Evaluations:
    """Three notes, written by the monitor and read by the checkpointer: each is whole, and of one moment.

    The progress is written last: what it refers to is there already.
    """

    def __init__(self, progress: Progress):
        self._slots = Slots(3)
        self.note(progress)

    def note(
        self,
        progress: Progress | None = None,
        best: EvaluatedSnapshot | None = None,
        last: EvaluatedSnapshot | None = None,
    ) -> None:
        """Leave how far they have come, the best policy so far, or the one that an interrupted run ends with."""
        for index, note in ((BEST, best), (LAST, last), (PROGRESS, progress)):
            if note is not None:
                self._slots.put(index, pickle.dumps(note))

    def progress(self) -> Progress:
        """How far they have come."""
        return self._get(PROGRESS)  # type: ignore[no-any-return]

    def best(self) -> EvaluatedSnapshot | None:
        """The best policy since the run was started or resumed; None where there was none."""
        return self._get(BEST)  # type: ignore[no-any-return]

    def last(self) -> EvaluatedSnapshot | None:
        """The policy that an interrupted run ended with."""
        return self._get(LAST)  # type: ignore[no-any-return]

    def _get(self, index: int) -> Any:
        content = self._slots.get(index)
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
