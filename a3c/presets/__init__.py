"""Presets: settings tuned for an environment or made for a purpose, one file per family. Standard library alone.

`auto` is the preset of the environment's id, where there is one. A preset replaces the defaults; what is typed beside
it wins. Each says how it was found, on which seeds it was measured, and the figure that came out.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

AUTO, NONE = "auto", "none"


@cache
def presets() -> dict[str, dict[str, Any]]:
    """All presets by name: an environment's id, or the purpose."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(__file__).parent.glob("*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


def names() -> tuple[str, ...]:
    """What `--preset` takes."""
    return (AUTO, NONE, *presets())


def resolved(name: str, env: str, objective: str | None = None) -> tuple[str, dict[str, Any]]:
    """The preset that a name means for an environment, and its options; a KeyError where there is none.

    Where another `objective` is wanted than the preset's own, what that needs replaces what is there.
    """
    if name == AUTO:
        name = env if env in presets() else NONE
    preset = {} if name == NONE else presets()[name]
    base = resolved(preset["base"], env)[1] if "base" in preset else {}
    options = base | preset.get("options", {})
    if objective in (None, options.get("objective")):
        return name, options
    return name, options | FAMILY.get(objective, {}) | preset.get("objectives", {}).get(objective, {})


# What an objective needs other than the defaults, in any environment.
VALUES: dict[str, Any] = {
    "envs_per_worker": 1,
    "n_steps": 16,
    "learning_rate": 5e-4,
    "adam_beta1": 0.9,
    "max_grad_norm": 10.0,
    "anneal": True,
}
FAMILY: dict[str, dict[str, Any]] = {
    "natural": {
        "optimizer": "sgd",
        "critic": "separate",
        "critic_learning_rate": 1e-3,
        "learning_rate": 0.5,
        "max_grad_norm": 100.0,
        "anneal": False,
        "envs_per_worker": 4,
        "n_steps": 128,
    },
    "q": {**VALUES, "envs_per_worker": 16, "n_steps": 2, "target_interval": 500},
    # On-policy values of workers that explore much are other values than those of the greedy policy.
    "sarsa": {**VALUES, "exploration_rates": [0.05, 0.01, 0.1]},
    "n-step-q": VALUES,
}


# The best setting that was found for each mode on CartPole-v1, with 4 workers on 2 cores, as what it changes of the
# preset (benchmarks/tuning). The preset itself is an earlier best of `async`.
TUNED: dict[str, dict[str, Any]] = {
    "async": {"value_coef": 1.0, "max_grad_norm": 0.5},
    "locked": {"gamma": 0.98},
    "sync": {
        "n_steps": 32,
        "learning_rate": 5.6e-3,
        "gae_lambda": 0.95,
        "normalize_advantages": True,
        "max_grad_norm": 0.5,
        "adam_beta1": 0.5,
    },
}
