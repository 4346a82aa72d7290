"""Times both ways to a rollout's gradient by turns; run as a process by `benchmarks.gradients`.

What is timed is all that comes after acting. The closed form goes on from what acting has computed.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from a3c.config import Config
from a3c.environments import describe
from a3c.learners import Learner, learner_for
from a3c.networks import ActorCritic, bind, build, flat_zeros, initialize
from a3c.rollouts import Collector, Rollout, Stopwatch

WAYS = {"closed_form_us": "closed-form", "autograd_us": "autograd"}


def main() -> None:
    """Write {"closed_form_us": [...], "autograd_us": [...]}, a time per call for each block."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--n-steps", "--envs", "--blocks", "--calls"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    learners, rollout = prepared(options.n_steps, options.envs)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for block in range(-1, options.blocks):  # the first block warms up
        for name, learner in learners.items():
            seconds = timed(learner, rollout, options.calls)
            if block >= 0:
                times[name].append(round(1e6 * seconds / options.calls, 3))
    options.output.write_text(json.dumps(times))


def prepared(n_steps: int, envs: int) -> tuple[dict[str, Learner], Rollout]:
    """Both learners, each on its own copy of one model, and a rollout that both have acted through."""
    environment = describe("CartPole-v1")
    learners: dict[str, Learner] = {}
    vectors = []
    for name, gradients in WAYS.items():
        config = Config.from_options({"n_steps": n_steps, "envs_per_worker": envs, "gradients": gradients})
        model = build(config, environment)
        initialize(model, seed=0)
        vectors.append(_flat(model))
        learners[name] = learner_for(model, config, Stopwatch(), np.random.default_rng(0))
    rng = np.random.default_rng(0)
    collector = Collector(environment.make(envs), n_steps, rng)
    rollout = collector.collect(learners["closed_form_us"].act)
    for learner in learners.values():
        learned(learner, rollout)
    closed, auto = vectors
    assert torch.allclose(closed, auto, rtol=1e-3, atol=1e-5), "the two gradients differ"
    return learners, rollout


def timed(learner: Learner, rollout: Rollout, calls: int) -> float:
    """Seconds that so many calls take."""
    started = time.perf_counter()
    for _ in range(calls):
        learned(learner, rollout)
    return time.perf_counter() - started


def learned(learner: Learner, rollout: Rollout) -> None:
    """Have a learner write the gradient of a rollout."""
    for rows in learner.prepare(rollout):
        learner.gradient(rows)


def _flat(model: ActorCritic) -> torch.Tensor:
    """The model's gradients as one vector; bound as in a worker."""
    gradient = flat_zeros(model)
    bind(model, flat_zeros(model), gradient)
    return gradient


if __name__ == "__main__":
    main()
