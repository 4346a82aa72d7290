"""From a run's options to the shared state that its processes get."""

from pathlib import Path

from torch import Tensor

from a3c.config import Config, ConfigError, OptimizerConfig
from a3c.environments import EnvironmentSpec
from a3c.networks import build, initialize
from shared.optimizers import SharedAdam, SharedOptimizer, SharedRMSProp
from shared.parameters import bind, flat_zeros
from shared.scoreboard import Scoreboard
from shared.store import SharedStore


def build_store(config: Config, environment: EnvironmentSpec, scoreboard: Scoreboard, lock_path: Path) -> SharedStore:
    """The shared parameters, initialised by the run's seed, the shared optimizer, and the mode's way to push.

    Raises:
        ConfigError: they do not fit into the memory, or the mode needs locks that the system has not.
    """
    try:
        model = build(config, environment)
        initialize(model, config.seed)
        vector = flat_zeros(model)
        bind(model, vector)
        optimizer = build_optimizer(config.optimizer, len(vector))
        return store_around(vector, optimizer, config, scoreboard, lock_path)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch has no class of its own
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more can be had"
        raise ConfigError(f"hidden_sizes: the network and its copies do not fit into memory: {reason}") from error


def store_around(
    vector: Tensor, optimizer: SharedOptimizer, config: Config, scoreboard: Scoreboard, lock_path: Path
) -> SharedStore:
    """The mode's store for parameters that begin as `vector` [P].

    One worker has nobody to be asynchronous to: it is given the store that makes a run repeat itself.
    """
    if config.mode == "sync" or config.workers == 1:
        from shared.sync_store import SyncStore

        interval = config.evaluation.eval_interval if config.evaluation.eval_episodes else None
        return SyncStore(vector, optimizer, scoreboard, interval)
    if config.mode == "locked":
        from shared.locked_store import LockedStore

        try:
            return LockedStore(vector, optimizer, scoreboard)
        except OSError as error:
            raise ConfigError(f"mode: locked needs file locks ({error.strerror}); choose --mode async") from error
    return SharedStore(vector, optimizer, scoreboard)


def build_optimizer(config: OptimizerConfig, size: int) -> SharedOptimizer:
    """The shared optimizer of a run for `size` parameters."""
    if config.optimizer == "rmsprop":
        return SharedRMSProp(size, config.rmsprop_decay, config.epsilon)
    return SharedAdam(size, config.adam_beta1, config.adam_beta2, config.epsilon)
