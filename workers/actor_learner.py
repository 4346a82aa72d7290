"""The actor-learner: the loop that is the whole algorithm."""

import os
from pathlib import Path

import numpy as np

from a3c.config import ON_POLICY, Config
from a3c.environments import EnvironmentSpec
from a3c.learners import (
    Cures,
    Learner,
    NonFiniteError,
    clipped_gradient,
    learner_for,
    memory_for,
    prepared,
    rollout_steps,
)
from a3c.networks import ActorCritic, bind, build, flat_zeros
from a3c.objectives import objective_for
from a3c.rollouts import Collector, Stopwatch
from shared.scoreboard import Scoreboard
from shared.store import Pulled, SharedStore, StaleGradientError
from workers.link import Link, connect
from workers.processes import entry

# Workers are many and in no hurry; an evaluation is one process, and a run is over as soon as it says so. Where there
# are more processes than cores this puts the monitor, the console and the user's other programs first.
NICENESS = 10
RECOMPUTATIONS = 10  # of a gradient that is too stale each time, before its rollout is dropped


def main(
    worker_index: int,
    incarnation: int,
    config: Config,
    environment: EnvironmentSpec,
    store: SharedStore,
    scoreboard: Scoreboard,
    run_dir: Path,
) -> None:
    """Process target: act, compute gradients and push them until the budget is spent or a stop is requested."""
    os.nice(NICENESS)
    link = connect(worker_index, incarnation, store, scoreboard, run_dir, config)
    entry.run(run_dir / "logs" / f"worker-{worker_index}.log", lambda: learn(worker_index, config, environment, link))


def learn(worker_index: int, config: Config, environment: EnvironmentSpec, link: Link) -> None:
    """Algorithm S3 of Mnih et al. 2016, one actor-learner."""
    model = build(config, environment)
    parameters, gradient = (flat_zeros(model, pinned=config.network.device != "cpu") for _ in range(2))
    bind(model, parameters, gradient)
    max_norm, watch = config.optimizer.max_grad_norm, Stopwatch()
    rng = np.random.default_rng(seeds(config.seed, worker_index, link.incarnation))
    objective, cures = objective_for(config), critic_cures(config, environment, link)
    learner = learner_for(model, config, watch, rng, environment.max_episode_steps, cures)
    collector = collector_for(config, environment, model, learner, link, watch, rng)
    recomputations = RECOMPUTATIONS if config.staleness.stale == "recompute" else 0
    link.join(collector, watch)
    while True:
        pulled = link.pull(parameters)
        watch.lap("pull")
        link.book_waiting("pull")
        if pulled.stopped or pulled.env_steps >= config.max_env_steps:
            break
        learning_rate = annealed_learning_rate(config, pulled.env_steps)
        if model.value_head is None and model.free is not None:  # action values, taken epsilon-greedily
            model.free.data[:] = exploration_rate(config, worker_index, pulled.env_steps)
        rollout, acted = collector.collect(learner.act), pulled
        link.start_learning()
        if collector.statistics is not None and model.normalizer is not None and not pulled.updates:
            model.normalizer.set_unit(collector.statistics.row)
        try:
            if objective.corrects:
                pulled = link.pull_again(parameters)
                watch.lap("pull")
            minibatches = prepared(learner, rollout, has_moved(acted, pulled))
            for index in range(link.first(acted, len(minibatches)), len(minibatches)):
                if index:
                    pulled = link.pull_again(parameters)
                    watch.lap("pull")
                batch, attempts = minibatches[index], recomputations
                while True:
                    measured, norm = clipped_gradient(learner, batch, gradient.numpy(), max_norm)
                    watch.lap("clip")
                    try:
                        staleness = link.push(gradient, learning_rate, pulled)
                        break
                    except StaleGradientError:
                        if not attempts:
                            raise
                    attempts, pulled = attempts - 1, link.pull_again(parameters)
                    watch.lap("pull")
                    if batch.rows is None:
                        learner.prepare(rollout, has_moved(acted, pulled))
                if staleness is None:
                    return
                watch.lap("push")
                link.book_waiting("push")
                link.publish(measured, norm, staleness, learning_rate, acted.updates, pulled.updates)
                watch.lap("publish")
        except NonFiniteError as fault:
            link.drop(fault.what)
        except StaleGradientError:
            link.drop("stale_gradients")
    link.leave()
    collector.close()


def has_moved(acted: Pulled, pulled: Pulled) -> bool:
    """Whether two pulls may have copied different parameters; one and the same has not."""
    return pulled is not acted and (acted.updates != pulled.updates or acted.torn or pulled.torn)


def collector_for(
    config: Config,
    environment: EnvironmentSpec,
    model: ActorCritic,
    learner: Learner,
    link: Link,
    watch: Stopwatch,
    rng: np.random.Generator,
) -> Collector:
    """A worker's environments, and what steps them."""
    environments = environment.make(config.envs_per_worker, link.beat, config.env_latency_ms, training=True)
    statistics = None
    if model.normalizer is not None:
        from a3c.normalization import RunningStatistics

        statistics = RunningStatistics(config, model.normalizer.size)
    steps, whole = rollout_steps(config, environment.max_episode_steps), objective_for(config).whole_episodes
    noise = config.noise_correlation if config.loss.objective in ON_POLICY else 0.0
    memory = memory_for(learner, steps, config.envs_per_worker, environment.observation, config.network.burn_in)
    return Collector(environments, steps, rng, link.beat, watch, statistics, noise, model.head, whole, memory)


def critic_cures(config: Config, environment: EnvironmentSpec, link: Link) -> Cures:
    """What the critic of this worker has; a slow copy of the network is filled by the link."""
    critic, slow = config.critic, None
    if config.has_slow_copy:
        slow = build(config, environment)
        link.slow = flat_zeros(slow)
        bind(slow, link.slow)
    if critic.critic_memory:
        from a3c.critic_memory import CriticMemory

        link.memory = CriticMemory(environment.observation)
    return Cures(critic.critic_steps, slow, link.memory if critic.critic_memory else None, critic.critic_memory)


def exploration_rate(config: Config, worker_index: int, env_steps: int) -> float:
    """The rate of random actions after `env_steps` of all workers: from 1 linearly to the worker's own final one.

    (Mnih et al. 2016, section 5.1: different workers, different rates.)
    """
    rates, share = config.loss.exploration_rates, config.loss.exploration_share
    final, over = rates[worker_index % len(rates)], share * config.max_env_steps
    return final + (1 - final) * max(0.0, 1 - env_steps / over) if over else final


def seeds(seed: int, worker_index: int, incarnation: int) -> list[int]:
    """The seed of a worker's generator: of the run's and its index; one that replaces a dead one has its own."""
    return [seed, worker_index, *([incarnation] if incarnation else [])]


def annealed_learning_rate(config: Config, env_steps: int) -> float:
    """The learning rate after `env_steps` of all workers: linear to 0 at the budget.

    (Mnih et al. 2016, supplement, experimental setup.)
    """
    rate = config.optimizer.learning_rate
    return rate * max(0.0, 1 - env_steps / config.max_env_steps) if config.optimizer.anneal else rate
