"""PFRL's own A3C on CartPole-v1, timed: writes {"env_steps": ..., "seconds": ...} as JSON.

Runs in the virtual environment that `benchmarks.peer_environment` makes. Everything that trains is PFRL's:
`train_agent_async`, `A3C`, the shared RMSProp and the settings of its A3C example; here are only the network of the
same size as ours, a bridge from Gymnasium's five-valued `step` to the four values that PFRL expects, and the clock. It
does not evaluate. The clock starts after a warm-up and stops with the last counted step, so that neither imports nor
process start are counted.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pfrl  # type: ignore[import-not-found, unused-ignore]
import torch
from pfrl.agents.a3c import A3C  # type: ignore[import-not-found, unused-ignore]
from pfrl.experiments import LinearInterpolationHook, train_agent_async  # type: ignore[import-not-found, unused-ignore]
from pfrl.optimizers import SharedRMSpropEpsInsideSqrt  # type: ignore[import-not-found, unused-ignore]
from torch import nn

STEPS, LEARNING_RATE = 8 * 10**7, 7e-4  # PFRL's example; the run is ended by the clock, long before these steps


class Bridge:
    """A Gymnasium environment behind the older interface: `reset` gives the observation, `step` four values."""

    def __init__(self, seed: int):
        self._environment = gymnasium.make("CartPole-v1")
        self._seed: int | None = seed

    def reset(self) -> Any:
        observation, _ = self._environment.reset(seed=self._seed)
        self._seed = None
        return observation

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._environment.step(action)
        return observation, float(reward), terminated, {**info, "needs_reset": truncated}

    def close(self) -> None:
        self._environment.close()


class Clock:
    """A step hook of all processes: times the steps after a warm-up and asks for the end when the time is up."""

    def __init__(self, warm_up_steps: int, seconds: float, stop: Any):
        self._warm_up_steps, self._seconds, self._stop = warm_up_steps, seconds, stop
        self._started = multiprocessing.Value("d", 0.0)  # of the first counted step
        self._last_step = multiprocessing.Value("q", 0)
        self._ended = multiprocessing.Value("d", 0.0)  # the time of the last counted step

    def __call__(self, _environment: Any, _agent: Any, step: int) -> None:
        now = time.monotonic()
        if step == self._warm_up_steps:
            self._started.value = now
        elif step > self._warm_up_steps and self._started.value and now - self._started.value >= self._seconds:
            with self._last_step.get_lock():
                if not self._stop.is_set():
                    self._last_step.value, self._ended.value = step, now
                    self._stop.set()

    def result(self) -> dict[str, float]:
        """Steps and seconds between the first counted step and the last."""
        if not self._last_step.value:
            sys.exit("PFRL ended before the clock had run: see its messages above")
        steps, seconds = self._last_step.value - self._warm_up_steps, self._ended.value - self._started.value
        return {"env_steps": steps, "seconds": seconds}


def build_agent() -> Any:
    """A3C with the settings of PFRL's example on the network of our defaults: a tied 2 x 128 ReLU trunk, two heads."""
    head = pfrl.policies.SoftmaxCategoricalHead()
    model = nn.Sequential(
        nn.Linear(4, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        pfrl.nn.Branched(nn.Sequential(nn.Linear(128, 2), head), nn.Linear(128, 1)),
    )
    optimizer = SharedRMSpropEpsInsideSqrt(model.parameters(), lr=LEARNING_RATE, eps=1e-1, alpha=0.99)
    return A3C(model, optimizer, t_max=5, gamma=0.99, beta=1e-2, phi=as_float32, max_grad_norm=40.0)


def as_float32(observation: Any) -> Any:
    """The feature extractor."""
    return np.asarray(observation, dtype=np.float32)


def set_learning_rate(_environment: Any, agent: Any, value: float) -> None:
    """What PFRL's example anneals."""
    for group in agent.optimizer.param_groups:
        group["lr"] = value


def main() -> None:
    """Train until the clock is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up-steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.multiprocessing.set_start_method("fork")  # PFRL's process targets are closures
    pfrl.utils.set_random_seed(options.seed)
    seeds = [options.seed * options.processes + index for index in range(options.processes)]
    stop = multiprocessing.Event()
    clock = Clock(options.warm_up_steps, options.seconds, stop)
    with tempfile.TemporaryDirectory() as folder:
        train_agent_async(
            outdir=folder,
            processes=options.processes,
            make_env=lambda index, test: Bridge(seeds[index]),
            agent=build_agent(),
            steps=STEPS,
            eval_interval=None,
            global_step_hooks=[LinearInterpolationHook(STEPS, LEARNING_RATE, 0, set_learning_rate), clock],
            random_seeds=seeds,
            stop_event=stop,
        )
    options.output.write_text(json.dumps(clock.result()))


if __name__ == "__main__":
    main()
