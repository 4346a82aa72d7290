"""Acting: a worker's environments stepped for up to t_max steps with one policy."""

import dataclasses
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a3c.environments import Environments
from a3c.heads import Array, Head
from a3c.serial import SEEDS, array_from_json
from a3c.spaces import ObservationSpec

if TYPE_CHECKING:
    from a3c.memory import Memory
    from a3c.normalization import RunningStatistics

# Step t, observations [B, *shape], and where the distribution parameters [B, outputs + free] go; then, where there is a
# memory, what `a3c.memory.Remember` has.
Act = Callable[..., None]
RECENT_EPISODES = 100
STEPS = ("parameters", "actions", "rewards", "terminated", "truncated", "valid")  # a rollout's arrays of T steps
TOTALS = ("env_steps", "episodes", "return_sum")


@dataclass(frozen=True, slots=True)
class Rollout:
    """T steps of B environments. The arrays are the collector's own and are overwritten by its next rollout."""

    head: Head
    observations: NDArray[Any]  # [T + 1, B, *shape]; the last row is what follows the last step
    parameters: Array  # [T, B, outputs + free], of the distributions that the actions were sampled from
    actions: NDArray[Any]  # [T, B, *action_shape]
    rewards: Array  # [T, B]
    terminated: NDArray[np.bool_]  # [T, B]
    truncated: NDArray[np.bool_]  # [T, B]
    valid: NDArray[np.bool_]  # [T, B]; False where the step only reset an environment that had ended
    starts: NDArray[np.bool_] | None = None  # [T + 1, B], where an episode begins; these two with a memory alone
    state: Array | None = None  # [B, S], what was remembered before the first step

    @classmethod
    def empty(
        cls, n_steps: int, count: int, observation: ObservationSpec, head: Head, memory: "Memory | None" = None
    ) -> "Rollout":
        steps = (n_steps, count)
        return cls(
            head=head,
            observations=np.zeros((n_steps + 1, count, *observation.shape), observation.dtype),
            parameters=np.zeros((*steps, head.outputs + head.free), np.float32),
            actions=np.zeros((*steps, *head.action_shape), head.action_dtype),
            rewards=np.zeros(steps, np.float32),
            terminated=np.zeros(steps, np.bool_),
            truncated=np.zeros(steps, np.bool_),
            valid=np.zeros(steps, np.bool_),
            starts=None if memory is None else memory.starts,
            state=None if memory is None else memory.before,
        )

    @property
    def flat_observations(self) -> NDArray[Any]:
        """Those of the steps, [T * B, *shape]."""
        return self.observations[:-1].reshape(-1, *self.observations.shape[2:])

    @property
    def flat_actions(self) -> NDArray[Any]:
        """[T * B, *action_shape]."""
        return self.actions.reshape(-1, *self.actions.shape[2:])

    @property
    def behavior_log_probs(self) -> Array:
        """log mu(a_t|s_t) of the policy that acted, as it was when it acted, [T, B]."""
        parameters = self.parameters.reshape(-1, self.parameters.shape[-1])
        return self.head.evaluate(parameters, self.flat_actions).log_prob.reshape(self.rewards.shape)

    def first(self, steps: int) -> "Rollout":
        """Its first steps, as views."""
        starts = None if self.starts is None else self.starts[: steps + 1]
        cut = {name: getattr(self, name)[:steps] for name in STEPS}
        return dataclasses.replace(self, observations=self.observations[: steps + 1], starts=starts, **cut)

    def fault(self) -> str | None:
        """The part that is not finite, where there is one: nothing can be learned from such a rollout."""
        if not _is_finite(self.observations):
            return "observations"
        return None if _is_finite(self.rewards) else "rewards"


class Stopwatch:
    """Wall-clock seconds by phase. Each lap books everything since the lap before, so that no time is left out."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.start()

    def start(self) -> None:
        """The first phase begins."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """A phase has ended."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now


class Collector:
    """Steps environments with sampled actions and keeps count of their episodes.

    The environments reset themselves at the step *after* an episode's end (Gymnasium's next-step autoreset). So the
    observation after a truncated step is the true final one, at its ordinary place, and the resetting step is a
    transition of no episode: it is marked invalid and not counted.

    Args:
        beat: called after every environment step and after every reset of them all, as a sign of life.
        watch: books the phases "forward", "sampling" and "env".
        statistics: takes every rollout, where there are any.
        correlation: of the exploration noise of one step with that of the next, within a rollout.
        head: how actions are taken; default: the environments' own.
        whole_episodes: a rollout is one episode of each environment, from its start; it is over with the longest.
        memory: of a recurrent policy.
    """

    def __init__(
        self,
        environments: Environments,
        n_steps: int,
        rng: np.random.Generator,
        beat: Callable[[], None] = lambda: None,
        watch: Stopwatch | None = None,
        statistics: "RunningStatistics | None" = None,
        correlation: float = 0.0,
        head: Head | None = None,
        whole_episodes: bool = False,
        memory: "Memory | None" = None,
    ):
        self._environments, self._rng, self._beat = environments, rng, beat
        self._watch, self.statistics, self._correlation = watch or Stopwatch(), statistics, correlation
        self._whole_episodes, self._memory = whole_episodes, memory
        count, self._head = environments.num_envs, head or environments.head
        self._rollout = Rollout.empty(n_steps, count, environments.observation, self._head, memory)
        self._noise = np.empty((n_steps, count, *self._head.noise_shape), np.float32)
        self._ended = np.zeros((n_steps + 1, count), np.bool_)  # by each step of the last rollout and the one before
        self.env_steps, self.episodes, self.return_sum = 0, 0, 0.0
        self.recent_returns: deque[float] = deque(maxlen=RECENT_EPISODES)
        self.restart_episodes()

    def restart_episodes(self) -> None:
        """Begin an episode in every environment; those under way are dropped and never counted."""
        self._observations = self._environments.reset(seed=int(self._rng.integers(SEEDS)))[0]
        self._ended[:] = False
        self._running_returns = np.zeros(len(self._observations))  # of the episodes under way
        if self.statistics is not None:
            self.statistics.restart()
        if self._memory is not None:
            self._memory.restart()
        self._beat()

    def close(self) -> None:
        self._environments.close()

    def state(self) -> dict[str, Any]:
        """All that the next rollouts depend on, in JSON values and arrays; for a moment between two rollouts."""
        return {
            "generator": self._rng.bit_generator.state,
            **{name: getattr(self, name) for name in TOTALS},
            "recent_returns": list(self.recent_returns),
            "observations": np.array(self._observations, self._rollout.observations.dtype),
            "ended": self._ended[-1].tolist(),
            "running_returns": self._running_returns.tolist(),
            "environments": None if self._whole_episodes else self._environments.state(),
            **({} if self.statistics is None else {"statistics": self.statistics.state()}),
            **({} if self._memory is None else {"memory": self._memory.to_json()}),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Resume where `state` was taken, bit for bit.

        False: the environments cannot be brought back to where they were, and all begin a new episode.
        """
        self._rng.bit_generator.state = state["generator"]
        self.env_steps, self.episodes, self.return_sum = (state[name] for name in TOTALS)
        self.recent_returns = deque(state["recent_returns"], maxlen=RECENT_EPISODES)
        environments = state["environments"]  # None: their state was too large to be kept, or is of no use
        if self._whole_episodes:
            return True
        observations = None if environments is None else array_from_json(state["observations"])
        if observations is None or not self._environments.restore(environments, observations, self._beat):
            self.restart_episodes()
            return False
        self._observations = observations
        self._ended[-1], self._running_returns = state["ended"], np.array(state["running_returns"])
        if self.statistics is not None:
            self.statistics.restore(state["statistics"])
        if self._memory is not None:
            self._memory.restore(state["memory"])
        return True

    def collect(self, act: Act) -> Rollout:
        """The next T steps of each environment, with actions sampled from the policy.

        A rollout with a fault counts its steps, but no returns; `restart_episodes` is then due.
        """
        rollout, noise, step, lap = self._rollout, self._noise, self._environments.step, self._watch.lap
        if self._whole_episodes:
            self.restart_episodes()
            playing = np.ones(len(self._observations), np.bool_)
        observations, sample = rollout.observations, self._head.sample
        if self._correlation:
            self._draw_correlated(noise)
        else:
            self._head.draw_noise(self._rng, noise)
        observations[0] = self._observations
        memory = self._memory
        if memory is not None:
            memory.begin(act, rollout.parameters[0])
        lap("sampling")
        for t, (parameters, step_noise) in enumerate(zip(rollout.parameters, noise, strict=True)):
            if memory is None:
                act(t, observations[t], parameters)
            else:
                memory.act(act, t, observations[t], parameters)
            lap("forward")
            rollout.actions[t] = actions = sample(parameters, step_noise)
            lap("sampling")
            observations[t + 1], rollout.rewards[t], rollout.terminated[t], rollout.truncated[t], _ = step(actions)
            lap("env")
            self._beat()
            if memory is not None:
                memory.stepped(t, rollout.terminated[t], rollout.truncated[t])
            if self._whole_episodes:
                playing &= ~(rollout.terminated[t] | rollout.truncated[t])
                if not playing.any():
                    rollout = rollout.first(t + 1)
                    break
        self._observations = observations[-1]
        if memory is not None:
            memory.finish(observations)
        self._count(rollout)
        lap("sampling")
        return rollout

    def _draw_correlated(self, noise: Array) -> None:
        """Noise that is an autoregressive process over the steps, each step's as it would be alone.

        What explores in one direction for a while gets further than independent steps (Hollenstein et al. 2023).
        """
        kept, fresh = self._correlation, math.sqrt(1 - self._correlation**2)
        normal = self._rng.standard_normal(noise.shape, np.float32)
        for before, now in pairwise(normal):
            now *= fresh
            now += kept * before
        noise[:] = self._head.noise_of(normal)

    def _count(self, rollout: Rollout) -> None:
        self._ended[0] = self._ended[-1]
        ended = np.logical_or(rollout.terminated, rollout.truncated, out=self._ended[1 : len(rollout.rewards) + 1])
        np.logical_not(self._ended[: len(ended)], out=rollout.valid)
        self.env_steps += int(np.count_nonzero(rollout.valid))
        if self._whole_episodes:  # what follows an environment's first episode counts as steps, and is not used
            over = np.logical_or.accumulate(ended)
            rollout.valid[1:] = ~over[:-1]
            ended[1:] &= ~over[:-1]
            self._ended[-1] = False
        if rollout.fault() is not None:
            return
        if self.statistics is not None:
            self.statistics.update(rollout, ended)
        if not np.count_nonzero(ended):
            self._running_returns += np.add.reduce(rollout.rewards, 0, np.float64)  # float32 would overflow at 3e38
            return
        first = np.zeros(len(self._running_returns), np.int64)  # each environment's first step not yet counted
        for environment, t in np.argwhere(ended.T):
            episode = rollout.rewards[first[environment] : t + 1, environment]
            episode_return = float(self._running_returns[environment] + episode.sum(dtype=np.float64))
            self.episodes += 1
            self.return_sum += episode_return
            self.recent_returns.append(episode_return)
            self._running_returns[environment] = 0.0
            first[environment] = t + 1
        for environment, t in enumerate(first):
            self._running_returns[environment] += rollout.rewards[t:, environment].sum(dtype=np.float64)


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all of a contiguous array is; one product shows it nearly always, in a fraction of the time."""
    if array.dtype.kind in "iu":
        return True
    flat = array.reshape(-1)
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(array).all())
