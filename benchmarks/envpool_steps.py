"""Microseconds of an env step, as our workers take it without EnvPool and with it, of random actions.

    python -m benchmarks.envpool_steps

Needs the extra envpool, and those of the environments. Both sides take the same actions in one process, one after the
other, so that a drift of the machine meets both.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from a3c.environments import EnvironmentSpec, describe
from a3c.heads import indifferent

SHAPES = {  # environments of a batch
    "LunarLander-v3": 16,
    "BipedalWalker-v3": 16,
    "Hopper-v5": 16,
    "Acrobot-v1": 8,
    "Pendulum-v1": 8,
    "CartPole-v1": 8,
}
WARM_UP, BATCHES = 100, 500


def main() -> None:
    print(f"{'environment':<20}{'batch':>6}{'without, us':>13}{'with, us':>10}{'ratio':>7}")
    for env, count in SHAPES.items():
        environment = dataclasses.replace(describe(env), pooled=0.0)
        ours, pooled = (microseconds(environment, count, training) for training in (False, True))
        print(f"{env:<20}{count:>6}{ours:>13.1f}{pooled:>10.1f}{ours / pooled:>7.1f}", flush=True)


def microseconds(environment: EnvironmentSpec, count: int, training: bool) -> float:
    """Of one environment's step."""
    batch, head, rng = environment.make(count, training=training), environment.head, np.random.default_rng(0)
    observations, _ = batch.reset(seed=0)
    parameters, noise = indifferent(head, environment.observation, observations), np.empty((count, *head.noise_shape))
    actions = [sampled(head, parameters, noise.astype(np.float32), rng) for _ in range(WARM_UP + BATCHES)]
    timed(batch.step, actions[:WARM_UP])
    seconds = timed(batch.step, actions[WARM_UP:])
    batch.close()
    return 1e6 * seconds / BATCHES / count


def sampled(head: Any, parameters: Any, noise: Any, rng: np.random.Generator) -> Any:
    head.draw_noise(rng, noise)
    return head.sample(parameters, noise)


def timed(step: Callable[[Any], Any], actions: list[Any]) -> float:
    began = time.perf_counter()
    for action in actions:
        step(action)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
