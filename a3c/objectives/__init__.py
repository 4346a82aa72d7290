"""Objectives: the return targets and the loss of a rollout. A new one is a new file here, and a name in OBJECTIVES."""

from importlib import import_module
from typing import Any

from a3c.config import Config
from a3c.objectives.a2c import A2C
from a3c.objectives.objective import Array, Derivative, LossTerms, Objective, Targets
from a3c.objectives.returns import lambda_returns, normalize

__all__ = (
    "A2C",
    "OBJECTIVES",
    "Array",
    "Derivative",
    "LossTerms",
    "Objective",
    "Targets",
    "lambda_returns",
    "normalize",
    "objective_for",
)

# The file and the class of each: only that of the run is imported.
OBJECTIVES = {
    "a2c": ("a2c", "A2C"),
    "reinforce": ("reinforce", "Reinforce"),
    "ppo": ("ppo", "PPO"),
    "v-trace": ("v_trace", "VTrace"),
    "ppo-decoupled": ("ppo_decoupled", "DecoupledPPO"),
    "natural": ("natural", "NaturalA2C"),
    "q": ("q_learning", "OneStepQ"),
    "sarsa": ("q_learning", "OneStepSarsa"),
    "n-step-q": ("q_learning", "NStepQ"),
}


def objective_for(config: Config) -> Objective:
    """The objective of a run."""
    file, name = OBJECTIVES[config.corrected_objective]
    kind: Any = getattr(import_module(f"a3c.objectives.{file}"), name)
    more = (config.optimizer.learning_rate,) if kind.preconditions else ()
    made: Objective = kind(config.loss, *more)
    return made
