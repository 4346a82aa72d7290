"""Whether an exported model does what its checkpoint does, on observations that really occur."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.environments import EnvironmentSpec
from a3c.evaluation import Greedy
from workers.serving.metadata import ACTIONS, PROBABILITIES, VALUES

if TYPE_CHECKING:
    from workers.serving.model import Model  # whose packages may be missing where this module is read

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


def compare(model: "Model", policy: Policy, observations: Array) -> Agreement:
    """Compare a model with its checkpoint's policy on observations [N, O]; differences are NaN where any is."""
    expected, actions, values = policy.probabilities(observations), policy(observations), policy.values(observations)
    best, scale = np.sort(expected)[:, -2:], np.abs(values).max() or 1.0
    same, differences, value_differences = np.ones(len(observations), np.bool_), [0.0], [0.0]
    for batch in BATCHES:
        for rows in (slice(i, i + batch) for i in range(0, len(observations), batch)):
            answers = model.answer(observations[rows])
            same[rows] &= answers[ACTIONS] == actions[rows]
            differences.append(np.abs(answers[PROBABILITIES] - expected[rows]).max())
            if VALUES in answers:
                value_differences.append(np.abs(answers[VALUES] - values[rows]).max() / scale)
    return Agreement(
        len(observations),
        int(same.sum()),
        int((~same & (best[:, -1] - best[:, 0] < TIE)).sum()),
        float(np.max(differences)),
        float(np.max(value_differences)) if model.metadata.critic else None,
    )


def greedy(model: "Model") -> Greedy:
    """The model's actions [B], counted from 0, for `evaluate`; asked one at a time, as by a client."""

    def actions(observations: Array) -> NDArray[np.int64]:
        answers = [model.answer(observations[i : i + 1])[ACTIONS] for i in range(len(observations))]
        return np.concatenate(answers) - model.metadata.action_start

    return actions


def real_observations(policy: Policy, environment: EnvironmentSpec, seed: int) -> Array:
    """Finite observations [N, O] of greedy, sampled and uniformly random play, a third each, seeded from `seed`."""
    rng, count = np.random.default_rng(seed), policy.head.outputs
    ways: list[Callable[[Array], NDArray[np.int64]]] = [
        policy.actions,
        lambda observations: policy.actions(observations, greedy=False, rng=rng),
        lambda observations: rng.integers(count, size=len(observations)),
    ]
    parts = [_play(way, environment, (seed + number) % 2**32) for number, way in enumerate(ways)]
    observations = np.concatenate(parts)[:OBSERVATIONS_CHECKED]
    return observations[np.isfinite(observations).all(-1)]


def _play(act: Callable[[Array], NDArray[np.int64]], environment: EnvironmentSpec, seed: int) -> Array:
    environments, rows = environment.make(ENVIRONMENTS), []
    try:
        observations, _ = environments.reset(seed=seed)
        for _ in range(ceil(OBSERVATIONS_CHECKED / 3 / ENVIRONMENTS)):
            rows.append(observations.astype(np.float32))  # a copy: the next step overwrites them
            observations, *_ = environments.step(act(rows[-1]))
    finally:
        environments.close()
    return np.concatenate(rows)
