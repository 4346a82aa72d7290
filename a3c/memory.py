"""What a recurrent policy remembers of a worker's environments, carried from each rollout to the next."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.serial import array_from_json
from a3c.spaces import ObservationSpec

Array = NDArray[np.float32]
# Step t, observations [B, *shape], where the distribution parameters [B, outputs + free] go, the environments [B] in
# which an episode begins, and the state [B, S], which becomes that after the step.
Remember = Callable[[int, NDArray[Any], Array, NDArray[np.bool_], Array], None]


class Memory:
    """The states of B environments, and the starts of their episodes.

    With a burn-in of K steps the state before a rollout is made anew, by the parameters that act in it, from the last K
    observations before (Kapturowski et al. 2019, section 3).

    Args:
        size: S, the numbers of a state; K, `burn_in`, is at most `n_steps`.
    """

    def __init__(self, size: int, n_steps: int, count: int, burn_in: int, observation: ObservationSpec):
        self.state = np.zeros((count, size), np.float32)
        self.before = np.zeros((count, size), np.float32)  # the last rollout, before it forgot where episodes start
        self.starts = np.zeros((n_steps + 1, count), np.bool_)  # [T + 1, B], of the last rollout
        self._burn_in, self._count = burn_in, 0  # and how many steps there are to burn in from
        self._seen = np.zeros((burn_in, count, *observation.shape), observation.dtype)
        self._seen_starts = np.zeros((burn_in, count), np.bool_)
        self._seen_state = np.zeros((count, size), np.float32)  # before the first of them
        self.restart()

    def restart(self) -> None:
        """Begin an episode in every environment."""
        self.state[:], self._count = 0.0, 0
        self._first, self._ended = np.ones(len(self.state), np.bool_), np.zeros(len(self.state), np.bool_)

    def begin(self, act: Remember, out: Array) -> None:
        """Begin a rollout; `out` is written to and not used."""
        self.starts[0] = self._first
        if self._count:
            self.state[:] = self._seen_state
            for index in range(self._count):
                act(-1, self._seen[index], out, self._seen_starts[index], self.state)
        self.before[:] = self.state

    def act(self, act: Remember, t: int, observations: NDArray[Any], out: Array) -> None:
        """Act in step t, and remember it."""
        if self._burn_in and t == len(self.starts) - 1 - self._burn_in:
            self._seen_state[:] = self.state
        act(t, observations, out, self.starts[t], self.state)

    def stepped(self, t: int, terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]) -> None:
        """Take how step t ended; the step after an end only resets, so that the observation after it is a first one."""
        self.starts[t + 1] = self._first = self._ended
        self._ended = terminated | truncated

    def finish(self, observations: NDArray[Any]) -> None:
        """Keep what the next rollout burns in from, of those of this one [T + 1, B, *shape]."""
        if self._burn_in:
            last = slice(len(self.starts) - 1 - self._burn_in, len(self.starts) - 1)
            self._seen[:], self._seen_starts[:], self._count = observations[last], self.starts[last], self._burn_in

    def to_json(self) -> dict[str, Any]:
        """All that the next rollouts depend on, in JSON values and arrays."""
        content = {"state": self.state.copy(), "first": self._first.tolist(), "ended": self._ended.tolist()}
        if not self._count:
            return content
        seen = {"seen": self._seen.copy(), "seen_starts": self._seen_starts.copy(), "seen_state": self._seen_state}
        return content | seen

    def restore(self, content: dict[str, Any]) -> None:
        """Resume where `to_json` was called."""
        self.state[:] = array_from_json(content["state"])
        self._first, self._ended = (np.array(content[name], np.bool_) for name in ("first", "ended"))
        if "seen" in content:
            self._seen[:], self._count = array_from_json(content["seen"]), self._burn_in
            self._seen_starts[:] = array_from_json(content["seen_starts"])
            self._seen_state[:] = array_from_json(content["seen_state"])
