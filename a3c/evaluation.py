"""Evaluation over a fixed number of episodes."""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.environments import EnvironmentSpec

NATIVE_BATCH = 100
SERIAL_BATCH = 10  # scalar environments cost memory and gain nothing from a larger batch
IMAGE_BATCH = 10  # of native ones that show images, whose episodes are long: few that are over are waited for
# Observations [B, *shape] -> actions [B, *action_shape]: `Actor.actions`, the most probable ones or drawn.
Acting = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Returns:
    """Undiscounted returns and lengths of the evaluated episodes, [E]."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    seed: int

    def statistics(self) -> dict[str, float]:
        """Mean, standard deviation (of the sample), minimum and maximum of the returns; not finite where they are."""
        values = self.returns
        with np.errstate(all="ignore"):
            std = values.std(ddof=1) if len(values) > 1 else 0.0
        return {"mean": float(values.mean()), "std": float(std), "min": float(values.min()), "max": float(values.max())}


class _CancelledError(Exception):
    """The evaluation is not wanted any more."""


def batch_size(environment: EnvironmentSpec, episodes: int, environments_at_once: int | None) -> int:
    """How many environments an evaluation has open."""
    native = IMAGE_BATCH if environment.observation.images else NATIVE_BATCH
    return min(episodes, native if environment.native else SERIAL_BATCH, environments_at_once or episodes)


def evaluate(
    act: Acting,
    environment: EnvironmentSpec,
    episodes: int,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
    environments_at_once: int | None = None,
    goes_on: Callable[[Returns], bool] = lambda returns: True,
    restart: Callable[[int], None] = lambda count: None,
) -> Returns | None:
    """Play `episodes` whole episodes by `act`; None where `cancelled` said so before the end.

    Each environment of a batch plays exactly one episode, so that short episodes are not favoured. Equal arguments
    give equal returns, bit for bit on the same machine.

    Args:
        cancelled: asked after every step, and after each environment that is made or, where it is scalar, reset.
        environments_at_once: the most that may be open; scalar ones give the same greedy returns whatever it is.
        goes_on: asked between two batches, with the returns so far, whether there is to be another one.
        restart: called with the size of the batches before each that begins: `Actor.restart`.
    """

    def beat() -> None:
        if cancelled():
            raise _CancelledError

    count, spec = batch_size(environment, episodes, environments_at_once), environment.observation
    # A product may be rounded otherwise in a batch of another size, and at another place of it: an episode of a scalar
    # environment has the same place in batches of the same size, however many are played at once.
    asked = np.zeros((count if environment.native else SERIAL_BATCH, *spec.shape), spec.dtype)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    with suppress(_CancelledError), closing(environment.make(count, beat)) as environments:
        for first in range(0, episodes, count):
            last = min(first + count, episodes)
            places = (first + np.arange(count)) % len(asked)
            observations, _ = environments.reset(seed=(seed + first) % 2**32)
            restart(len(asked))
            alive = np.arange(count) < last - first
            batch_returns, batch_lengths = np.zeros(count), np.zeros(count, np.int64)
            while alive.any():
                beat()
                asked[places] = observations
                observations, rewards, terminated, truncated, _ = environments.step(act(asked)[places])
                batch_returns += np.where(alive, rewards, 0.0)
                batch_lengths += alive
                alive &= ~(terminated | truncated)
            returns[first:last], lengths[first:last] = batch_returns[: last - first], batch_lengths[: last - first]
            found = Returns(returns[:last], lengths[:last], seed)
            if last == episodes or not goes_on(found):
                return found
    return None
