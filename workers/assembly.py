"""From a run's options to the shared state that its processes get."""

from pathlib import Path

import torch
from torch import Tensor

from a3c.config import Config, OptimizerConfig
from a3c.environments import EnvironmentSpec
from a3c.networks import build, initialize
from shared.board import Board
from shared.optimizers import AdamOptions, RMSPropOptions, SharedAdam, SharedOptimizer, SharedRMSProp
from shared.parameters import bind, flat_size
from shared.store import LockedStore, SharedStore
from shared.sync_store import SyncStore

WORKER_BYTES, EPISODE_BYTES, ACTION_BYTES, NUMBER_BYTES = 16_384, 2_048, 6, 6  # of a deposit, which is JSON
LARGEST_DEPOSIT = 2**20


def build_store(config: Config, environment: EnvironmentSpec, board: Board, lock_path: Path) -> SharedStore:
    """The shared parameters, initialised by the run's seed, the shared optimizer, and the mode's way to push."""
    model = build(config, environment)
    initialize(model, config.seed)
    vector = torch.zeros(flat_size(model))
    bind(model, vector)
    optimizer = build_optimizer(config.optimizer, len(vector))
    return store_around(vector, optimizer, config, board, lock_path, deposit_size(config, environment))


def store_around(
    vector: Tensor, optimizer: SharedOptimizer, config: Config, board: Board, lock_path: Path, deposit_size: int = 0
) -> SharedStore:
    """The mode's store for parameters that begin as `vector` [P].

    One worker has nobody to be asynchronous to: it is given the store that makes a run repeat itself.
    """
    if config.mode == "sync" or config.workers == 1:
        return SyncStore(vector, optimizer, board, config.evaluation.eval_interval, deposit_size)
    if config.mode == "locked":
        return LockedStore(vector, optimizer, board, str(lock_path), deposit_size)
    return SharedStore(vector, optimizer, board, deposit_size)


def deposit_size(config: Config, environment: EnvironmentSpec) -> int:
    """Bytes enough for what a worker tells of itself, unless its episodes are too long to be told action by action, or
    its observations too large.
    """
    episode = EPISODE_BYTES + ACTION_BYTES * (environment.max_episode_steps or 0)
    episode += NUMBER_BYTES * environment.observation_size
    return min(WORKER_BYTES + config.envs_per_worker * episode, LARGEST_DEPOSIT)


def build_optimizer(config: OptimizerConfig, size: int) -> SharedOptimizer:
    """The shared optimizer of a run for `size` parameters."""
    if config.optimizer == "rmsprop":
        return SharedRMSProp(size, RMSPropOptions(config.rmsprop_decay, config.epsilon))
    return SharedAdam(size, AdamOptions(config.adam_beta1, config.adam_beta2, config.epsilon))
