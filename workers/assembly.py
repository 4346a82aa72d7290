"""From a run's options to the shared state that its processes get."""

import torch

from a3c.config import Config, OptimizerConfig
from a3c.environments import EnvironmentSpec
from a3c.networks import build, initialize
from shared.optimizers import AdamOptions, RMSPropOptions, SharedAdam, SharedOptimizer, SharedRMSProp
from shared.parameters import bind, flat_size
from shared.store import SharedStore


def build_store(config: Config, environment: EnvironmentSpec) -> SharedStore:
    """The shared parameters, initialised by the run's seed, and the shared optimizer."""
    model = build(config, environment)
    initialize(model, config.seed)
    vector = torch.zeros(flat_size(model))
    bind(model, vector)
    return SharedStore(vector, build_optimizer(config.optimizer, len(vector)), config.workers)


def build_optimizer(config: OptimizerConfig, size: int) -> SharedOptimizer:
    """The shared optimizer of a run for `size` parameters."""
    if config.optimizer == "rmsprop":
        return SharedRMSProp(size, RMSPropOptions(config.rmsprop_decay, config.epsilon))
    return SharedAdam(size, AdamOptions(config.adam_beta1, config.adam_beta2, config.epsilon))
