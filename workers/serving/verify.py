"""Whether an exported model does what its checkpoint does, on observations that really occur."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.environments import EnvironmentSpec
from a3c.onnx_names import ACTIONS, OBSERVATIONS, PREFIX, PROBABILITIES, VALUES

OBSERVATIONS_CHECKED = 10_000
ENVIRONMENTS = 4  # played at once: few, so that episodes of some hundred steps are seen to their end
BATCHES = (1, 7, 64)  # in which the model is asked; the last batch of each is smaller
TOLERANCE = 1e-5  # of probabilities, and of values in units of the largest
TIE = 1e-6  # probabilities that differ by less are one to 32 bits

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a model's answers compare with its checkpoint's, whatever the batch they were asked in."""

    observations: int
    same: int  # of them, those with the checkpoint's greedy action
    ties: int  # of the others, those where the checkpoint's two best actions are within TIE
    difference: float  # the largest of any probability
    value_difference: float | None  # the largest of any value, as a share of the largest value; None without critic

    @property
    def exact(self) -> bool:
        """Whether the two are one policy but for rounding."""
        differences = (self.difference, self.value_difference or 0.0)
        return self.same + self.ties == self.observations and all(size <= TOLERANCE for size in differences)


class ExportedPolicy:
    """An exported model as functions of NumPy observations; one thread, and from memory, not from a file."""

    def __init__(self, content: bytes):
        from workers.serving.onnx_session import open_session  # whose package may be missing where this module is read

        self._session = open_session(content)
        self._names = [output.name for output in self._session.get_outputs()]
        facts = self._session.get_modelmeta().custom_metadata_map
        self._action_start = int(facts[f"{PREFIX}action_start"])
        self._action_count = int(facts[f"{PREFIX}action_count"])

    def outputs(self, observations: Array, batch: int) -> dict[str, NDArray[Any]]:
        """All outputs by name for observations [N, O], which are asked for `batch` at a time."""
        starts = range(0, len(observations), batch)
        parts = [self._session.run(None, {OBSERVATIONS: observations[i : i + batch]}) for i in starts]
        return {name: np.concatenate(part) for name, part in zip(self._names, zip(*parts, strict=True), strict=True)}

    def choices(self, observations: Array) -> NDArray[np.int64]:
        """The actions that the model takes, [B], counted from 0; asked one at a time as by a client."""
        actions: NDArray[np.int64] = self.outputs(observations, 1)[ACTIONS] - self._action_start
        return actions

    def agreement(self, policy: Policy, observations: Array) -> Agreement:
        """Compare with the checkpoint's policy on observations [N, O]."""
        expected = policy.probabilities(observations)
        actions, values = policy(observations), policy.values(observations)
        answers = [self.outputs(observations, batch) for batch in BATCHES]
        same = np.all([answer[ACTIONS] == actions for answer in answers], axis=0)
        best = np.sort(expected)[:, -2:]
        ties = ~same & (best[:, -1] - best[:, 0] < TIE)
        scale = np.abs(values).max() or 1.0
        return Agreement(
            len(observations),
            int(same.sum()),
            int(ties.sum()),
            _largest([answer[PROBABILITIES] - expected for answer in answers]),
            _largest([(answer[VALUES] - values) / scale for answer in answers]) if VALUES in self._names else None,
        )


def real_observations(policy: Policy, environment: EnvironmentSpec, seed: int) -> Array:
    """Observations [N, O] of greedy, sampled and uniformly random play, a third each, but for those not finite.

    The first environments are seeded with `seed`, `seed` + 1 and `seed` + 2, sampled and random actions with `seed`.
    """
    rng, count = np.random.default_rng(seed), environment.head.outputs
    ways: list[Callable[[Array], NDArray[np.int64]]] = [
        policy.actions,
        lambda observations: policy.actions(observations, greedy=False, rng=rng),
        lambda observations: rng.integers(count, size=len(observations)),
    ]
    parts = [_played(way, environment, (seed + number) % 2**32) for number, way in enumerate(ways)]
    observations = np.concatenate(parts)[:OBSERVATIONS_CHECKED]
    return observations[np.isfinite(observations).all(-1)]


def _played(act: Callable[[Array], NDArray[np.int64]], environment: EnvironmentSpec, seed: int) -> Array:
    environments, rows = environment.make(ENVIRONMENTS), []
    try:
        observations, _ = environments.reset(seed=seed)
        for _ in range(ceil(OBSERVATIONS_CHECKED / 3 / ENVIRONMENTS)):
            rows.append(observations.astype(np.float32))  # a copy: the next step overwrites them
            observations, *_ = environments.step(act(rows[-1]))
    finally:
        environments.close()
    return np.concatenate(rows)


def _largest(differences: list[Array]) -> float:
    """NaN where any is NaN."""
    return float(np.max([np.abs(difference).max() for difference in differences]))
