"""The algorithm: networks, rollouts, returns, losses, gradients, evaluation, checkpoints. No process, no terminal."""

import importlib
from typing import Any

_HOMES = {
    "ActorCritic": "a3c.networks",
    "CheckpointError": "a3c.config",
    "Config": "a3c.config",
    "ConfigError": "a3c.config",
    "Policy": "a3c.actors",
    "describe": "a3c.environments",
    "evaluate": "a3c.evaluation",
    "lambda_returns": "a3c.objectives",
    "load_checkpoint": "a3c.checkpoint",
    "load_policy": "a3c.checkpoint",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    # Resolved on first use, so that `a3c.config` can be imported without loading torch.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
