"""How well a critic predicts, on held-out episodes: what it said of each state against the return that followed."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a3c.environments import EnvironmentSpec
from a3c.heads import Array
from a3c.learners import Learner, memory_for
from a3c.objectives.returns import lambda_returns
from a3c.rollouts import Collector

TOGETHER = 10  # episodes that are played side by side


@dataclass(frozen=True, slots=True)
class CriticQuality:
    """Of values V against the returns G that followed them."""

    explained_variance: float  # 1 - Var(G - V) / Var(G): 1 is perfect, 0 no better than a constant
    slope: float  # of the line that predicts G from V: 1 is calibrated, below 1 V is too extreme
    bias: float  # mean of V - G, in units of return: above 0 it is too optimistic


def judge(
    learner: Learner,
    environment: EnvironmentSpec,
    episodes: int,
    steps: int,
    gamma: float,
    seed: int,
    beat: Callable[[], None] = lambda: None,
) -> CriticQuality:
    """Play whole episodes with sampled actions, as in training, and hold the critic against what followed.

    Returns are discounted; what a time limit or the last of `steps` steps has cut off is bootstrapped.

    Args:
        learner: of a rollout of `steps` steps of TOGETHER environments.
        beat: called after every step; may raise.
    """
    values, returns = list[Array](), list[Array]()
    with closing(environment.make(TOGETHER, beat)) as environments:
        rng, head = np.random.default_rng(seed), learner.head
        memory = memory_for(learner, steps, TOGETHER, environment.observation)
        collector = Collector(environments, steps, rng, beat, head=head, whole_episodes=True, memory=memory)
        while collector.episodes < episodes:
            rollout = collector.collect(learner.act)
            known = learner.rollout_values(rollout)
            discounts = np.float32(gamma) * (~rollout.terminated).astype(np.float32)
            followed = lambda_returns(rollout.rewards, discounts, (~rollout.truncated).astype(np.float32), known)
            values.append(known[:-1][rollout.valid])
            returns.append(followed[rollout.valid])
            if not collector.episodes:
                break  # an episode is longer than any rollout
    return quality(np.concatenate(values).astype(np.float64), np.concatenate(returns).astype(np.float64))


def quality(values: NDArray[np.float64], returns: NDArray[np.float64]) -> CriticQuality:
    """Of values [N] and the returns [N] that followed; NaN where one of them does not vary."""
    variance, spread = returns.var(), values.var()
    explained = 1 - (returns - values).var() / variance if variance else math.nan
    covariance = ((values - values.mean()) * (returns - returns.mean())).mean()
    slope = covariance / spread if spread else math.nan
    return CriticQuality(float(explained), float(slope), float((values - returns).mean()))
