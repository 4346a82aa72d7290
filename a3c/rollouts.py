"""Acting: a worker's environments stepped for up to t_max steps with one policy."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a3c.environments import Environments

PolicyLogits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
RECENT_EPISODES = 100
TINY = np.finfo(np.float32).tiny  # a float32 exponential variate is exactly 0 once in ten million draws


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of B environments. The arrays are the collector's own and are overwritten by its next rollout."""

    observations: NDArray[np.float32]  # [T + 1, B, O]; the last row is what follows the last step
    actions: NDArray[np.int64]  # [T, B]
    rewards: NDArray[np.float32]  # [T, B]
    terminated: NDArray[np.bool_]  # [T, B]
    truncated: NDArray[np.bool_]  # [T, B]
    valid: NDArray[np.bool_]  # [T, B]; False where the step only reset an environment that had ended

    @classmethod
    def empty(cls, n_steps: int, count: int, observation_size: int) -> "Rollout":
        shape = (n_steps, count)
        return cls(
            observations=np.zeros((n_steps + 1, count, observation_size), np.float32),
            actions=np.zeros(shape, np.int64),
            rewards=np.zeros(shape, np.float32),
            terminated=np.zeros(shape, np.bool_),
            truncated=np.zeros(shape, np.bool_),
            valid=np.zeros(shape, np.bool_),
        )


class Collector:
    """Steps environments with sampled actions and keeps count of their episodes.

    The environments reset themselves at the step *after* an episode's end (Gymnasium's next-step autoreset). So the
    observation after a truncated step is the true final one, at its ordinary place, and the resetting step is a
    transition of no episode: it is marked invalid and not counted.
    """

    def __init__(self, environments: Environments, n_steps: int, action_count: int, rng: np.random.Generator):
        self._environments = environments
        self._rng = rng
        self._observations = environments.reset(seed=int(rng.integers(2**31)))[0]
        count, observation_size = self._observations.shape
        self._rollout = Rollout.empty(n_steps, count, observation_size)
        self._noise_shape = (n_steps, count, action_count)
        self._ended = np.zeros(count, np.bool_)  # by the step before this rollout
        self._running_returns = np.zeros(count)  # of the episodes under way
        self.env_steps = 0
        self.episodes = 0
        self.return_sum = 0.0
        self.recent_returns: deque[float] = deque(maxlen=RECENT_EPISODES)
        self.env_seconds = 0.0
        self.forward_seconds = 0.0

    def collect(self, policy_logits: PolicyLogits) -> Rollout:
        """The next T steps of each environment, actions sampled from softmax(policy_logits(observations))."""
        rollout, now = self._rollout, time.perf_counter
        # argmax(logits + Gumbel noise) is a sample of softmax(logits); -log of an Exp(1) variate is Gumbel.
        noise = self._rng.standard_exponential(self._noise_shape, dtype=np.float32)
        noise = -np.log(np.maximum(noise, TINY, out=noise), out=noise)
        observations = self._observations
        start = now()
        for t in range(len(noise)):
            rollout.observations[t] = observations
            actions = (policy_logits(rollout.observations[t]) + noise[t]).argmax(-1)
            acted = now()
            observations, rollout.rewards[t], rollout.terminated[t], rollout.truncated[t], _ = self._environments.step(
                actions
            )
            rollout.actions[t] = actions
            stepped = now()
            self.forward_seconds += acted - start
            self.env_seconds += stepped - acted
            start = stepped
        rollout.observations[-1] = observations
        self._observations = observations
        self._count(rollout)
        return rollout

    def _count(self, rollout: Rollout) -> None:
        ended = rollout.terminated | rollout.truncated
        np.logical_not(self._ended, out=rollout.valid[0])
        np.logical_not(ended[:-1], out=rollout.valid[1:])
        self._ended = ended[-1].copy()
        self.env_steps += int(np.count_nonzero(rollout.valid))
        if not np.count_nonzero(ended):
            self._running_returns += np.add.reduce(rollout.rewards, 0)
            return
        first = np.zeros(len(self._ended), np.int64)  # each environment's first step not yet counted
        for environment, t in np.argwhere(ended.T):
            episode = rollout.rewards[first[environment] : t + 1, environment]
            self._finish(float(self._running_returns[environment] + episode.sum()))
            self._running_returns[environment] = 0.0
            first[environment] = t + 1
        for environment, t in enumerate(first):
            self._running_returns[environment] += rollout.rewards[t:, environment].sum()

    def _finish(self, episode_return: float) -> None:
        self.episodes += 1
        self.return_sum += episode_return
        self.recent_returns.append(episode_return)
