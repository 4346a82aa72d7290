"""Every option of a run: its type, default, range and one line of meaning.

The command line, `config.json` and the Python API are all generated from the dataclasses below, so an option is
written down exactly once. This module imports the standard library alone, so that `--help` and a typing mistake are
answered before torch is loaded.
"""

import dataclasses
import difflib
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints


class ConfigError(ValueError):
    """An option or environment that cannot be used; one line that names it and says what to do (exit code 2)."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or does not fit; one line that names the file (exit code 4)."""


class NumericsError(ArithmeticError):
    """The run's own numbers are not finite, and stay so (exit code 5); an environment's FloatingPointError is none."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values an option may take: an interval (open where said so) or a set of choices."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # the low end itself is excluded
    below: bool = False  # the high end itself is excluded
    choices: tuple[str, ...] = ()

    def complaint(self, value: Any) -> str | None:
        """Why `value` is outside, or None where it is inside."""
        if self.choices:
            return None if value in self.choices else f"must be one of {', '.join(self.choices)}"
        if isinstance(value, str):
            return None
        if not -sys.float_info.max <= value <= sys.float_info.max:  # false for NaN too; an int may be larger still
            return "must be a finite number"
        if value < self.low or (self.above and value == self.low):
            return f"must be {'above' if self.above else 'at least'} {self.low:g}"
        if value > self.high or (self.below and value == self.high):
            return f"must be {'below' if self.below else 'at most'} {self.high:g}"
        return None


SYNC_WORKERS = 100  # each needs a socket pair, and a new process inherits 256 descriptors at most
POSITIVE_INT = Bounds(low=1, high=2**62)
NON_NEGATIVE_INT = Bounds(low=0, high=2**62)
NON_NEGATIVE = Bounds(low=0)
POSITIVE = Bounds(low=0, above=True)
FRACTION = Bounds(low=0, high=1)
HALF_OPEN_FRACTION = Bounds(low=0, high=1, below=True)


def option(default: Any, meaning: str, bounds: Bounds = Bounds()) -> Any:
    """A dataclass field that is an option of the command line."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "bounds": bounds})


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The two-head actor-critic (a3c.networks)."""

    hidden_sizes: tuple[int, ...] = option((128, 128), "units of each ReLU layer of the shared trunk", POSITIVE_INT)
    gradients: str = option(
        "closed-form",
        "closed-form: the exact derivative written out in NumPy, 2 to 8 times faster; autograd: torch's own",
        Bounds(choices=("closed-form", "autograd")),
    )


@dataclass(frozen=True, slots=True)
class LossConfig:
    """What a rollout is turned into (a3c.returns, a3c.losses)."""

    gamma: float = option(0.97, "discount per environment step", FRACTION)
    gae_lambda: float = option(0.98, "lambda of the returns; 1 is the paper's n-step return, 0 is TD(0)", FRACTION)
    entropy_coef: float = option(0.01, "weight of the entropy bonus", NON_NEGATIVE)
    value_coef: float = option(0.5, "weight of the value loss", NON_NEGATIVE)
    value_scale: float = option(20.0, "unit in which the critic learns returns; 1 leaves them as they are", POSITIVE)
    normalize_advantages: bool = option(False, "scale the advantages of a rollout to mean 0 and deviation 1")


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """The shared optimizer (shared.optimizers) and what is done to a gradient before it is pushed."""

    optimizer: str = option("adam", "shared optimizer; rmsprop is the paper's", Bounds(choices=("adam", "rmsprop")))
    learning_rate: float = option(4e-3, "learning rate at the first environment step", POSITIVE)
    anneal: bool = option(True, "lower the learning rate linearly to 0 over the env-step budget")
    adam_beta1: float = option(0.0, "decay of Adam's first moment", HALF_OPEN_FRACTION)
    adam_beta2: float = option(0.999, "decay of Adam's second moment", HALF_OPEN_FRACTION)
    rmsprop_decay: float = option(0.99, "decay of RMSProp's squared gradient", HALF_OPEN_FRACTION)
    epsilon: float = option(1e-5, "added to the denominator (Adam) or under the root (RMSProp)", POSITIVE)
    max_grad_norm: float = option(1.0, "global norm to which a gradient is clipped", POSITIVE)


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How the monitor judges the shared policy."""

    target_return: float | None = option(None, "mean return that counts as solved; default: the environment's own")
    eval_episodes: int = option(100, "greedy episodes per evaluation; 0: none, train to the budget", NON_NEGATIVE_INT)
    eval_envs: int | None = option(
        None, "environments that an evaluation has open at once; default: 100 of a native batch, else 10", POSITIVE_INT
    )
    eval_interval: int = option(1000, "environment steps between the starts of two evaluations", POSITIVE_INT)
    eval_share: float = option(0.05, "largest share of the time for evaluations, after a first second", FRACTION)


@dataclass(frozen=True, slots=True)
class SupervisionConfig:
    """What is done so that a run is not lost (workers.supervisor, workers.checkpointer)."""

    checkpoint_interval: float = option(10.0, "seconds between saved checkpoints", POSITIVE)
    keep_checkpoints: int = option(3, "latest checkpoints that stay on disk, beside the best", POSITIVE_INT)
    max_restarts: int = option(
        20, "replacements of dead or hanging processes within ten minutes; one more ends the run", NON_NEGATIVE_INT
    )
    heartbeat_timeout: float = option(
        7.0, "seconds without an environment step until a worker is replaced; more where steps take long", POSITIVE
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one training run needs; two equal configs describe the same run."""

    env: str = option("CartPole-v1", "Gymnasium environment id")
    mode: str = option(
        "async",
        "async: push without a lock; locked: one at a time; sync: average all workers' gradients (A2C)",
        Bounds(choices=("async", "locked", "sync")),
    )
    workers: int = option(4, "actor-learner processes", Bounds(low=1, high=1024))
    envs_per_worker: int = option(1, "environments each worker steps together", Bounds(low=1, high=65536))
    n_steps: int = option(
        48, "environment steps per rollout (t_max), of each environment", Bounds(low=1, high=1_000_000)
    )
    max_env_steps: int = option(200_000, "env-step budget of all workers together", POSITIVE_INT)
    max_episode_steps: int | None = option(
        None, "cut episodes after so many steps; default: the environment's own", POSITIVE_INT
    )
    env_latency_ms: float = option(
        0.0, "milliseconds that a worker's environments sleep at each step; evaluations do not", NON_NEGATIVE
    )
    log_interval: int = option(0, "updates between two rows of updates.csv; 0: no such file", NON_NEGATIVE_INT)
    seed: int = option(0, "seed of everything random", Bounds(low=0, high=2**32 - 1))
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    supervision: SupervisionConfig = SupervisionConfig()

    def __post_init__(self) -> None:
        for name, value, spec in _walk(self):
            _check(name, value, spec)
        if self.mode == "sync" and self.workers > SYNC_WORKERS:
            raise ConfigError(f"workers: at most {SYNC_WORKERS} in sync mode, got {self.workers}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Config":
        """A config from flat option names, each checked; unknown names are refused with the nearest known one."""
        known = {spec.name: spec for spec in option_specs()}
        for name in options:
            if name not in known:
                raise ConfigError(f"unknown option '{name}'{did_you_mean(name, known)}")
        sections: dict[str, dict[str, Any]] = {"": {}}
        for name, value in options.items():
            value = tuple(value) if isinstance(value, list) else value
            sections.setdefault(known[name].section, {})[name] = value
        parts = {name: _SECTIONS[name](**values) for name, values in sections.items() if name}
        return cls(**sections[""], **parts)

    def to_options(self) -> dict[str, Any]:
        """All options, defaults included, under their flat names: the inverse of `from_options`."""
        return {name: value for name, value, _ in _walk(self)}


_SECTIONS: dict[str, Any] = {
    "network": NetworkConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "evaluation": EvaluationConfig,
    "supervision": SupervisionConfig,
}


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option as the command line needs it."""

    name: str
    section: str  # "" for the options of Config itself
    type: type  # int, float, str or bool: of one value
    optional: bool  # None is allowed and means "the environment's own"
    many: bool  # takes one or more values
    default: Any
    meaning: str
    bounds: Bounds


def option_specs() -> list[OptionSpec]:
    """All options in the order in which they are declared."""
    return [
        _spec(section, owner, field)
        for section, owner in (("", Config), *_SECTIONS.items())
        for field in dataclasses.fields(owner)
        if field.metadata
    ]


def did_you_mean(name: str, known: Any) -> str:
    """'; did you mean ...?' where something known is close to `name`, else ''."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _spec(section: str, owner: Any, field: dataclasses.Field[Any]) -> OptionSpec:
    hint = get_type_hints(owner)[field.name]
    optional = type(None) in get_args(hint)
    many = getattr(hint, "__origin__", None) is tuple
    value_type = get_args(hint)[0] if optional or many else hint
    return OptionSpec(
        field.name,
        section,
        value_type,
        optional,
        many,
        field.default,
        field.metadata["meaning"],
        field.metadata["bounds"],
    )


def _walk(config: Config) -> Iterator[tuple[str, Any, OptionSpec]]:
    for spec in option_specs():
        owner = getattr(config, spec.section) if spec.section else config
        yield spec.name, getattr(owner, spec.name), spec


def _check(name: str, value: Any, spec: OptionSpec) -> None:
    if value is None and spec.optional:
        return
    if spec.many and not isinstance(value, tuple):
        raise ConfigError(f"{name}: expected a list of {spec.type.__name__}, got {value!r}")
    for item in value if spec.many else (value,):
        accepted = (int, float) if spec.type is float else spec.type
        if not isinstance(item, accepted) or (isinstance(item, bool) and spec.type is not bool):
            raise ConfigError(f"{name}: expected {spec.type.__name__}, got {value!r}")
        complaint = spec.bounds.complaint(item) if spec.type is not bool else None
        if complaint:
            raise ConfigError(f"{name}: {complaint}, got {value!r}")
    if spec.many and not value:
        raise ConfigError(f"{name}: needs at least one value")
