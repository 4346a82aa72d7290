"""What the monitor has found so far, in shared memory: for checkpoints, and for the monitor that replaces it."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from shared.memory import Slots
from shared.store import Snapshot
from workers.runs.records import Evaluation

PROGRESS, BEST, LAST = range(3)


class Judged(NamedTuple):
    """A snapshot and what its policy reached."""

    snapshot: Snapshot
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the evaluations of a run have come."""

    judged: int = 0  # snapshots of the queue that have been
    evaluations: int = 1  # begun so far; each has a seed of its own, and number 0 was the untrained network's
    rows: int = 0  # of evaluations.csv
    seconds: float = 0.0  # spent
    due: int = 0  # env steps at which the next one is, where there is no queue
    best: Evaluation | None = None
    promised: float | None = None  # the best mean of policies that few episodes were enough to pass over
    evaluated: int = -1  # updates of the last policy with a whole evaluation
    tries: int = 0  # at the snapshot that is being judged
    failures: int = 0  # evaluations in a row that failed, or that a monitor died of

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Progress":
        """From `facts` as they come out of a checkpoint; raises KeyError, TypeError where they are not such."""
        facts = dict(facts)
        if "rows" not in facts:  # written by version 0.1, which counted CPU time and a row for every evaluation
            facts = {"rows": facts["evaluations"], "seconds": facts.pop("cpu_seconds"), **facts}
        best = facts["best"] and Evaluation(**facts["best"])
        return cls(**(facts | {"best": best}))

    def facts(self) -> dict[str, Any]:
        """As plain JSON, for `of`."""
        return dataclasses.asdict(self)


class Evaluations:
    """Three notes, written by the monitor and read by the checkpointer: each is whole, and of one moment.

    The progress is written last: what it tells of is there already.
    """

    def __init__(self, progress: Progress):
        self._slots = Slots(3)
        self.note_progress(progress)

    def note_progress(self, progress: Progress) -> None:
        """Leave how far the evaluations have come."""
        self._slots.put(PROGRESS, json.dumps(progress.facts()).encode())

    def progress(self) -> Progress:
        """How far they have come."""
        content = self._slots.get(PROGRESS)
        assert content is not None
        return Progress.of(json.loads(content))

    def note_best(self, judged: Judged) -> None:
        """Leave the best policy so far."""
        self._put(BEST, judged)

    def best(self) -> Judged | None:
        """The best policy of this sitting; None where there was none."""
        return self._get(BEST)

    def note_last(self, judged: Judged) -> None:
        """Leave what the policy reached that an interrupted run ends with."""
        self._put(LAST, judged)

    def last(self) -> Judged | None:
        """What the policy reached that an interrupted run ended with."""
        return self._get(LAST)

    def _put(self, index: int, judged: Judged) -> None:
        snapshot = judged.snapshot
        facts = {
            "evaluation": dataclasses.asdict(judged.evaluation),
            "snapshot": [snapshot.updates, snapshot.env_steps, snapshot.taken, snapshot.consistent],
        }
        self._slots.put(index, json.dumps(facts).encode() + b"\n" + snapshot.parameters.numpy().tobytes())

    def _get(self, index: int) -> Judged | None:
        content = self._slots.get(index)
        if content is None:
            return None
        line, _, parameters = content.partition(b"\n")
        facts = json.loads(line)
        vector = torch.from_numpy(np.frombuffer(parameters, np.float32).copy())
        return Judged(Snapshot(vector, *facts["snapshot"]), Evaluation(**facts["evaluation"]))
