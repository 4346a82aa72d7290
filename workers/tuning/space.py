"""What a search may choose from: for each option its values, or a range that is drawn from evenly in its logarithm.

The defaults are among them, and the first trial; an option that the user types is not searched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from a3c.config import Config, option_specs


@dataclass(frozen=True, slots=True)
class Range:
    """Real numbers, evenly in their logarithm."""

    low: float
    high: float


SPACE: dict[str, tuple[Any, ...] | Range] = {
    "learning_rate": Range(1e-4, 1e-2),
    "envs_per_worker": (4, 8, 16),
    "n_steps": (16, 32, 64, 128, 256),
    "passes": (1, 2, 4, 8, 12),
    "minibatches": (1, 2, 4, 8, 16),
    "gamma": (0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
    "gae_lambda": (0.9, 0.95, 0.98, 1.0),
    "entropy_coef": (0.0, 0.001, 0.005, 0.01, 0.03),
    "noise_correlation": (0.0, 0.5, 0.8, 0.9, 0.95),
    "clip": (0.1, 0.2, 0.3),
    "max_grad_norm": (0.5, 1.0, 5.0),
    "hidden_sizes": ("64 64", "128 128", "256 256"),  # as typed: a choice of Optuna's is a number or a text
}


def searched(typed: Mapping[str, Any]) -> dict[str, tuple[Any, ...] | Range]:
    """What is left to choose where these options are given."""
    config = Config.from_options({**typed, "preset": "none"})
    own = {spec.name for spec in option_specs() if spec.belongs_to(config)}
    return {name: values for name, values in SPACE.items() if name not in typed and name in own}


def drawn(trial: Any, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Options that an Optuna trial suggests."""
    chosen: dict[str, Any] = {}
    for name, values in searched(typed).items():
        if isinstance(values, Range):
            chosen[name] = float(f"{trial.suggest_float(name, values.low, values.high, log=True):.3g}")
        else:
            chosen[name] = trial.suggest_categorical(name, values)
    return as_options(chosen)


def as_options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run, from what Optuna keeps."""
    sizes = {name: tuple(map(int, value.split())) for name, value in chosen.items() if name == "hidden_sizes"}
    return {**chosen, **sizes}


def first(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, as Optuna keeps them."""
    options = Config(preset="none").to_options()
    options["hidden_sizes"] = " ".join(map(str, options["hidden_sizes"]))
    return {name: options[name] for name in searched(typed)}
