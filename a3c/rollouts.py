"""Acting: a worker's environments stepped for up to t_max steps with one policy."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.batches import SEEDS, Environments, array_from_json, array_to_json
from a3c.stopwatch import Stopwatch

Act = Callable[[int, NDArray[np.float32]], NDArray[np.float32]]  # step t, observations [B, O] -> logits [B, A]
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

    def fault(self) -> str | None:
        """The part that is not finite, where there is one: nothing can be learned from such a rollout."""
        if not _is_finite(self.observations):
            return "observations"
        return None if _is_finite(self.rewards) else "rewards"


class Collector:
    """Steps environments with sampled actions and keeps count of their episodes.

    The environments reset themselves at the step *after* an episode's end (Gymnasium's next-step autoreset). So the
    observation after a truncated step is the true final one, at its ordinary place, and the resetting step is a
    transition of no episode: it is marked invalid and not counted.

    The totals are public: the collector of a worker that replaces another one begins with that one's.

    Args:
        beat: called after every environment step and after every reset of them all, as a sign of life.
        watch: books the phases "forward", "sampling" and "env".
    """

    def __init__(
        self,
        environments: Environments,
        n_steps: int,
        action_count: int,
        rng: np.random.Generator,
        beat: Callable[[], None] = lambda: None,
        watch: Stopwatch | None = None,
    ):
        self._environments, self._rng, self._beat = environments, rng, beat
        self._n_steps, self._watch = n_steps, watch or Stopwatch()
        self.restart_episodes()
        count, observation_size = self._observations.shape
        self._rollout = Rollout.empty(n_steps, count, observation_size)
        self._noise = np.empty((n_steps, count, action_count), np.float32)
        self.env_steps = 0
        self.episodes = 0
        self.return_sum = 0.0
        self.recent_returns: deque[float] = deque(maxlen=RECENT_EPISODES)

    def restart_episodes(self) -> None:
        """Begin an episode in every environment; those under way are dropped and never counted."""
        self._observations = self._environments.reset(seed=int(self._rng.integers(SEEDS)))[0]
        count = len(self._observations)
        self._ended = np.zeros((self._n_steps + 1, count), np.bool_)  # by each step of the last rollout and one before
        self._running_returns = np.zeros(count)  # of the episodes under way
        self._beat()

    def state(self) -> dict[str, Any]:
        """All that the next rollouts depend on, as plain JSON; to be asked for between two rollouts."""
        return {
            "generator": self._rng.bit_generator.state,
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "return_sum": self.return_sum,
            "recent_returns": list(self.recent_returns),
            "observations": array_to_json(np.asarray(self._observations, np.float32)),
            "ended": self._ended[-1].tolist(),
            "running_returns": self._running_returns.tolist(),
            "environments": self._environments.state(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on where `state` was taken, bit for bit.

        False: totals and generator are those of `state`, but the environments cannot be brought back to where they
        were, and all begin a new episode.
        """
        self._rng.bit_generator.state = state["generator"]
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self.return_sum = state["return_sum"]
        self.recent_returns = deque(state["recent_returns"], maxlen=RECENT_EPISODES)
        environments = state["environments"]  # None: their state was too large to be kept
        observations = None if environments is None else array_from_json(state["observations"])
        if observations is None or not self._environments.restore(environments, observations, self._beat):
            self.restart_episodes()
            return False
        self._observations = observations
        self._ended[-1], self._running_returns = state["ended"], np.array(state["running_returns"])
        return True

    def collect(self, act: Act) -> Rollout:
        """The next T steps of each environment, actions sampled from softmax(act(t, observations)).

        A rollout with a fault counts its steps, but no returns; `restart_episodes` is then due.
        """
        rollout, step, lap = self._rollout, self._environments.step, self._watch.lap
        # argmax(logits + Gumbel noise) is a sample of softmax(logits); -log of an Exp(1) variate is Gumbel.
        noise = self._rng.standard_exponential(dtype=np.float32, out=self._noise)
        np.log(np.maximum(noise, TINY, out=noise), out=noise)
        observations = rollout.observations
        observations[0] = self._observations
        lap("sampling")
        for t, negative_gumbel in enumerate(noise):
            logits = act(t, observations[t])
            lap("forward")
            rollout.actions[t] = actions = (logits - negative_gumbel).argmax(-1)
            lap("sampling")
            observations[t + 1], rollout.rewards[t], rollout.terminated[t], rollout.truncated[t], _ = step(actions)
            lap("env")
            self._beat()
        self._observations = observations[-1]
        self._count(rollout)
        lap("sampling")
        return rollout

    def _count(self, rollout: Rollout) -> None:
        self._ended[0] = self._ended[-1]
        ended = np.logical_or(rollout.terminated, rollout.truncated, out=self._ended[1:])
        np.logical_not(self._ended[:-1], out=rollout.valid)
        self.env_steps += int(np.count_nonzero(rollout.valid))
        if rollout.fault() is None:
            self._count_returns(rollout, ended)

    def _count_returns(self, rollout: Rollout, ended: NDArray[np.bool_]) -> None:
        if not np.count_nonzero(ended):
            self._running_returns += np.add.reduce(rollout.rewards, 0, np.float64)  # float32 would overflow at 3e38
            return
        first = np.zeros(len(self._running_returns), np.int64)  # each environment's first step not yet counted
        for environment, t in np.argwhere(ended.T):
            episode = rollout.rewards[first[environment] : t + 1, environment]
            self._finish(float(self._running_returns[environment] + episode.sum(dtype=np.float64)))
            self._running_returns[environment] = 0.0
            first[environment] = t + 1
        for environment, t in enumerate(first):
            self._running_returns[environment] += rollout.rewards[t:, environment].sum(dtype=np.float64)

    def _finish(self, episode_return: float) -> None:
        self.episodes += 1
        self.return_sum += episode_return
        self.recent_returns.append(episode_return)


def _is_finite(array: NDArray[np.float32]) -> bool:
    """Whether all of a contiguous array is; one product tells so nearly always, in a fraction of the time."""
    flat = array.reshape(-1)
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(array).all())
