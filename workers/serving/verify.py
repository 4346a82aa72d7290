"""Whether an exported model does what its checkpoint does, on observations that really occur."""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.environments import EnvironmentSpec
from a3c.evaluation import Greedy
from a3c.heads import indifferent
from workers.serving.metadata import ACTIONS

if TYPE_CHECKING:
    from workers.serving.model import Model  # whose packages may be missing where this module is read

OBSERVATIONS_CHECKED = 10_000
ENVIRONMENTS = 4  # played at once: few, so that episodes of some hundred steps are seen to their end
BATCHES = (1, 7, 64)  # in which the model is asked; the last batch of each is smaller
TOLERANCE = 1e-5  # of distributions and values, in units of the largest; of probabilities as they are
TIE = 1e-6  # probabilities that differ by less are one to 32 bits

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a model's answers compare with its checkpoint's, whatever the batch they were asked in."""

    observations: int
    same: int  # of them, those with the checkpoint's greedy action
    ties: int  # of the others, those whose action is as probable to the checkpoint, within TIE
    difference: float  # the largest of any number of a distribution
    value_difference: float | None  # the largest of any value, as a share of the largest value; None without critic

    @property
    def exact(self) -> bool:
        """Whether the two are one policy but for rounding."""
        differences = (self.difference, self.value_difference or 0.0)
        return self.same + self.ties == self.observations and all(size <= TOLERANCE for size in differences)


def compare(model: "Model", policy: Policy, observations: Array) -> Agreement:
    """Compare a model with its checkpoint's policy on observations [N, *shape]; differences are NaN where any is."""
    head, parameters, values = policy.head, policy.parameters(observations), policy.values(observations)
    expected, actions = (part.numpy() for part in head.answer(torch.from_numpy(parameters)))
    best, near = head.evaluate(parameters, head.from_answer(actions)).log_prob, model.metadata.interface.nearness
    unit, value_unit = max(np.abs(expected).max(), 1.0), np.abs(values).max() or 1.0
    same, as_good = np.ones((2, len(observations)), np.bool_)
    differences, value_differences = [0.0], [0.0]
    for batch in BATCHES:
        for rows in (slice(i, i + batch) for i in range(0, len(observations), batch)):
            answers = model.answer(observations[rows])
            distribution, given, *critic = answers.values()
            is_same = (abs(given - actions[rows]) <= near).reshape(len(given), -1).all(-1)
            same[rows] &= is_same
            log_prob = head.evaluate(parameters[rows], head.from_answer(given)).log_prob
            # A probability of a half that is off by TIE has a logarithm that is off by twice as much.
            as_good[rows] &= is_same | (log_prob > best[rows] - 2 * TIE)
            differences.append(np.abs(distribution - expected[rows]).max() / unit)
            value_differences += [np.abs(column - values[rows]).max() / value_unit for column in critic]
    return Agreement(
        len(observations),
        int(same.sum()),
        int((as_good & ~same).sum()),
        float(np.max(differences)),
        float(np.max(value_differences)) if model.metadata.critic else None,
    )


def greedy(model: "Model", policy: Policy) -> Greedy:
    """The model's actions, as the policy's head counts them, for `evaluate`; asked one at a time, as by a client."""

    def actions(observations: Array) -> NDArray[Any]:
        answers = [model.answer(observations[i : i + 1])[ACTIONS] for i in range(len(observations))]
        return policy.head.from_answer(np.concatenate(answers))

    return actions


def real_observations(policy: Policy, environment: EnvironmentSpec, seed: int) -> Array:
    """Finite observations [N, *shape] of greedy, sampled and random play, a third each, seeded from `seed`."""
    rng, head = np.random.default_rng(seed), policy.head

    def random(observations: Array) -> NDArray[Any]:
        noise = np.empty((len(observations), *head.noise_shape), np.float32)
        head.draw_noise(rng, noise)
        return head.sample(indifferent(head, policy.observation, observations), noise)

    ways: list[Greedy] = [
        policy.actions,
        lambda observations: policy.actions(observations, greedy=False, rng=rng),
        random,
    ]
    parts = [_play(way, environment, (seed + number) % 2**32) for number, way in enumerate(ways)]
    observations = np.concatenate(parts)[:OBSERVATIONS_CHECKED]
    return observations[np.isfinite(observations).reshape(len(observations), -1).all(-1)]


def _play(act: Greedy, environment: EnvironmentSpec, seed: int) -> Array:
    environments, rows = environment.make(ENVIRONMENTS), []
    try:
        observations, _ = environments.reset(seed=seed)
        for _ in range(ceil(OBSERVATIONS_CHECKED / 3 / ENVIRONMENTS)):
            rows.append(observations.astype(np.float32))  # a copy: the next step overwrites them
            observations, *_ = environments.step(act(rows[-1]))
    finally:
        environments.close()
    return np.concatenate(rows)
