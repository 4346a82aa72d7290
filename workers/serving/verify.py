"""Whether an exported model does what its checkpoint does, on observations that really occur."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.environments import EnvironmentSpec
from a3c.heads import indifferent
from workers.serving.metadata import ACTIONS, NEXT_STATE

if TYPE_CHECKING:
    from workers.serving.model import Model  # whose packages may be missing where this module is read

OBSERVATIONS_CHECKED, IMAGES_CHECKED = 10_000, 600
ENVIRONMENTS = 4  # played at once: few, so that episodes of some hundred steps are seen to their end
BATCHES = (1, 7, 64)  # in which the model is asked; the last batch of each is smaller
TOLERANCE = 1e-5  # of distributions and values, in units of the largest; of probabilities as they are
TIE = 1e-6  # probabilities that differ by less are one to 32 bits

Array = NDArray[np.float32]
Choose = Callable[[Array, Array], NDArray[Any]]  # actions, of observations and the distributions' parameters


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


def compare(model: "Model", policy: Policy, observations: Array, states: Array | None = None) -> Agreement:
    """Compare a model with its checkpoint's policy on observations [N, *shape]; differences are NaN where any is.

    `states` [N, S] are those of a recurrent policy; the next ones are compared as distributions are.
    """
    if states is None:
        states = np.zeros((len(observations), 0), np.float32)
    parameters, values, following = policy.answers(observations, states)
    head = policy.head
    expected, actions = (part.numpy() for part in head.answer(torch.from_numpy(parameters)))
    best, near = head.evaluate(parameters, head.from_answer(actions)).log_prob, model.metadata.interface.nearness
    unit, value_unit = max(np.abs(expected).max(), 1.0), np.abs(values).max() or 1.0
    same, as_good = np.ones((2, len(observations)), np.bool_)
    differences, value_differences = [0.0], [0.0]
    for batch in BATCHES:
        for rows in (slice(i, i + batch) for i in range(0, len(observations), batch)):
            answers = model.answer(observations[rows].astype(np.float32), states[rows])
            distribution, given, *others = answers.values()
            is_same = (abs(given - actions[rows]) <= near).reshape(len(given), -1).all(-1)
            same[rows] &= is_same
            log_prob = head.evaluate(parameters[rows], head.from_answer(given)).log_prob
            # A probability of a half that is off by TIE has a logarithm that is off by twice as much.
            as_good[rows] &= is_same | (log_prob > best[rows] - 2 * TIE)
            differences.append(np.abs(distribution - expected[rows]).max() / unit)
            if model.metadata.critic:
                value_differences.append(np.abs(others[0] - values[rows]).max() / value_unit)
            if model.metadata.is_recurrent:
                differences.append(np.abs(others[-1] - following[rows]).max())
    return Agreement(
        len(observations),
        int(same.sum()),
        int((as_good & ~same).sum()),
        float(np.max(differences)),
        float(np.max(value_differences)) if model.metadata.critic else None,
    )


class ModelPlayer:
    """The model's actions, as the policy's head counts them, for `evaluate`; asked one at a time, as by a client."""

    def __init__(self, model: "Model", policy: Policy):
        self._model, self._head = model, policy.head
        self.restart(0)

    def restart(self, count: int) -> None:
        """Begin `count` episodes."""
        self._states: list[Array | None] = [None] * count

    def greedy(self, observations: Array) -> NDArray[Any]:
        actions = []
        for index, observation in enumerate(observations):
            answers = self._model.answer(observation[None].astype(np.float32), self._states[index])
            actions.append(answers[ACTIONS])
            self._states[index] = answers.get(NEXT_STATE)
        return self._head.from_answer(np.concatenate(actions))


def real_observations(policy: Policy, environment: EnvironmentSpec, seed: int) -> tuple[Array, Array]:
    """Finite observations [N, *shape] of greedy, sampled and random play, a third each, seeded from `seed`.

    And the states [N, S] in which a recurrent policy saw them.
    """
    rng, head = np.random.default_rng(seed), policy.head

    def random(observations: Array, parameters: Array) -> NDArray[Any]:
        noise = np.empty((len(observations), *head.noise_shape), np.float32)
        head.draw_noise(rng, noise)
        return head.sample(indifferent(head, policy.observation, observations), noise)

    ways: list[Choose] = [
        lambda observations, parameters: policy.chosen(parameters),
        lambda observations, parameters: policy.chosen(parameters, greedy=False, rng=rng),
        random,
    ]
    parts = [_play(policy, way, environment, (seed + number) % 2**32) for number, way in enumerate(ways)]
    checked = IMAGES_CHECKED if environment.observation.images else OBSERVATIONS_CHECKED
    observations, states = (np.concatenate(part)[:checked] for part in zip(*parts, strict=True))
    finite = np.isfinite(observations).reshape(len(observations), -1).all(-1)
    return observations[finite], states[finite]


def _play(policy: Policy, choose: Choose, environment: EnvironmentSpec, seed: int) -> tuple[Array, Array]:
    environments, rows = environment.make(ENVIRONMENTS), list[Array]()
    states = [np.zeros((ENVIRONMENTS, policy.model.state_size), np.float32)]
    checked = IMAGES_CHECKED if environment.observation.images else OBSERVATIONS_CHECKED
    try:
        observations, _ = environments.reset(seed=seed)
        for _ in range(ceil(checked / 3 / ENVIRONMENTS)):
            rows.append(observations.copy())  # the next step overwrites them
            parameters, _, following = policy.answers(rows[-1], states[-1])
            states.append(following)
            observations, _, terminated, truncated, _ = environments.step(choose(rows[-1], parameters))
            states[-1] = states[-1] * ~(terminated | truncated)[:, None]
    finally:
        environments.close()
    return np.concatenate(rows), np.concatenate(states[:-1])
