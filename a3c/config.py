"""Every option of a run: its type, default, range and one line of meaning. Standard library alone.

The command line, `config.json` and the Python API are generated from the dataclasses below: an option is written once.
"""

import dataclasses
import difflib
import functools
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import NoneType
from typing import Any, get_args


class ConfigError(ValueError):
    """An option or environment that cannot be used; one line that names it and says what to do (exit code 2)."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or does not fit; one line that names the file (exit code 4)."""


class NumericsError(ArithmeticError):
    """The run's own numbers are not finite, and stay so (exit code 5); an environment's FloatingPointError is none."""


# What runs did before there was an option for it.
FORMER = {"preset": "none", "objective": "a2c", "normalize_observations": False, "noise_correlation": 0.0}
DEFAULT_ENV = "CartPole-v1"
SEPARATE = ("critic_learning_rate", "critic_steps", "critic_weight_decay", "critic_memory")  # of a separate critic
SYNC_WORKERS = 100  # each needs a socket pair, and a new process inherits 256 descriptors at most
LARGEST_INT = 2**62  # of an option without a bound of its own

CONVOLUTIONS, CORES = ("paper", "nature", "residual"), ("lstm", "gru")

# The objectives (a3c.objectives), by kind.
ON_POLICY = ("a2c", "reinforce", "ppo", "v-trace", "ppo-decoupled", "natural")
BOOTSTRAPPED = ("a2c", "ppo", "v-trace", "ppo-decoupled", "natural")
PROXIMAL = ("ppo", "ppo-decoupled")
VALUE_BASED = ("q", "sarsa", "n-step-q")
# What an objective becomes with a correction.
CORRECTED = {
    ("a2c", "v-trace"): "v-trace",
    ("v-trace", "v-trace"): "v-trace",
    ("ppo", "decoupled"): "ppo-decoupled",
    ("ppo-decoupled", "decoupled"): "ppo-decoupled",
}


def option(default: Any, meaning: str, **bounds: Any) -> Any:
    """A dataclass field that is an option of the command line; `bounds` are the last fields of an `OptionSpec`."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, **bounds})


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The two-head actor-critic (a3c.networks)."""

    hidden_sizes: tuple[int, ...] = option((128, 128), "units of each ReLU layer of the shared trunk", low=1)
    convolution: str = option(
        "paper",
        "layers of images: paper: Mnih et al. 2016; nature: Mnih et al. 2015; residual: IMPALA's small one",
        choices=CONVOLUTIONS,
    )
    recurrent: str | None = option(None, "a core that remembers, behind the trunk; default: none", choices=CORES)
    recurrent_size: int | None = option(None, "units of that core; default: 128", low=1, high=65536)
    burn_in: int = option(0, "steps before a rollout from which the core's state is made anew", low=0, high=1_000_000)
    normalize_observations: bool = option(True, "scale observations by the running mean and deviation of each number")
    gradients: str = option(
        "closed-form",
        "closed-form: the exact derivative written out in NumPy, 2 to 8 times faster, of all but images and "
        "recurrent networks; autograd: torch's own",
        choices=("closed-form", "autograd"),
    )
    precision: str = option(
        "auto",
        "of images' layers while training: float32, bfloat16, or auto: bfloat16 where the processor multiplies in it; "
        "weights, and evaluations, are float32",
        choices=("auto", "float32", "bfloat16"),
    )
    device: str = option(
        "cpu", "where a worker's own network is; auto: on a GPU where there is one", choices=("cpu", "cuda", "auto")
    )


@dataclass(frozen=True, slots=True)
class LossConfig:
    """What a rollout is turned into (a3c.objectives)."""

    objective: str = option(
        "ppo",
        "a2c: the policy gradient; reinforce: of whole episodes; ppo: the clipped surrogate, several passes over a "
        "rollout; v-trace, ppo-decoupled: these, corrected for an older policy that acted; natural: the natural "
        "gradient; q, sarsa, n-step-q: action values",
        choices=(*ON_POLICY, *VALUE_BASED),
    )
    gamma: float = option(0.99, "discount per environment step", low=0, high=1)
    gae_lambda: float = option(
        0.95, "lambda of the returns; 1 is the paper's n-step return, 0 is TD(0)", low=0, high=1, of=BOOTSTRAPPED
    )
    baseline: bool = option(True, "subtract the critic's value from the returns", of=("reinforce",))
    entropy_coef: float = option(0.005, "weight of the entropy bonus", low=0, of=ON_POLICY)
    value_coef: float = option(0.5, "weight of the value loss", low=0, of=ON_POLICY)
    value_scale: float | None = option(
        None,
        "unit in which the critic learns returns; 1 leaves them as they are; default: their running spread",
        above=0,
    )
    normalize_advantages: bool = option(
        False, "scale the advantages of a rollout to mean 0 and deviation 1", of=ON_POLICY
    )
    clip: float = option(0.2, "how far the ratio of new to acting policy may be from 1", above=0, of=PROXIMAL)
    passes: int = option(4, "passes over each rollout", low=1, high=1000, of=PROXIMAL)
    minibatches: int = option(4, "minibatches of each pass, one update each", low=1, high=65536, of=PROXIMAL)
    value_clip: float | None = option(
        None, "how far a value may move in one rollout, in units of value; default: any", above=0, of=PROXIMAL
    )
    rho_clip: float = option(
        1.0, "largest importance weight of a step's own advantage", above=0, of=("v-trace", "ppo-decoupled")
    )
    c_clip: float = option(1.0, "largest importance weight of what follows a step", above=0, of=("v-trace",))
    damping: float = option(0.5, "added to the diagonal of the Fisher matrix", above=0, of=("natural",))
    kl_bound: float = option(0.001, "largest change of the policy per step, in nats", above=0, of=("natural",))
    exploration_rates: tuple[float, ...] = option(
        (0.1, 0.01, 0.5), "final rates of random actions, of worker 0, 1, ... in turn", low=0, high=1, of=VALUE_BASED
    )
    exploration_share: float = option(
        0.1, "share of the env-step budget over which they fall from 1", low=0, high=1, of=VALUE_BASED
    )
    target_interval: int = option(300, "updates between two copies to the target network", low=1, of=VALUE_BASED)


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """The critic's own network, and what keeps it from failing (docs/family.md)."""

    critic: str = option(
        "tied",
        "tied: shares the policy's trunk; separate: a network of its own",
        choices=("tied", "separate"),
        of=ON_POLICY,
    )
    critic_learning_rate: float | None = option(
        None, "of a separate critic, stepped by Adam; default: learning_rate", above=0, of=ON_POLICY
    )
    critic_steps: int = option(1, "updates of a separate critic per update of the actor", low=1, high=100, of=ON_POLICY)
    critic_weight_decay: float = option(
        0.0, "share of a separate critic's weights that a step at learning rate 1 takes away", low=0, of=ON_POLICY
    )
    critic_memory: float = option(
        0.0, "weight of a separate critic's loss on steps of earlier rollouts", low=0, of=ON_POLICY
    )
    slow_critic: float | None = option(
        None,
        "make returns from a slow copy of the critic, which moves by this share per update; default: from itself",
        above=0,
        high=1,
        of=BOOTSTRAPPED,
    )


@dataclass(frozen=True, slots=True)
class StalenessConfig:
    """How old a gradient may be, and what corrects it (docs/family.md)."""

    correction: str | None = option(
        None,
        "gradients at freshly pulled parameters, with the importance weights of v-trace or of decoupled ppo; "
        "default: the objective's own",
        choices=("none", "v-trace", "decoupled"),
        of=("a2c", "v-trace", "ppo", "ppo-decoupled"),
    )
    max_staleness: int | None = option(
        None, "updates between pull and push beyond which a gradient is not applied; default: any", low=0
    )
    stale: str = option(
        "drop", "a gradient beyond max_staleness: dropped, or computed again", choices=("drop", "recompute")
    )
    forced_staleness: int = option(
        0, "act with parameters that are at least so many updates old, for experiments", low=0, high=100_000
    )


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """The shared optimizer (shared.optimizers) and what is done to a gradient before it is pushed."""

    optimizer: str = option(
        "adam", "shared optimizer; rmsprop is the paper's; sgd: plain", choices=("adam", "rmsprop", "sgd")
    )
    learning_rate: float = option(1e-3, "learning rate at the first environment step", above=0)
    anneal: bool = option(True, "lower the learning rate linearly to 0 over the env-step budget")
    adam_beta1: float = option(0.9, "decay of Adam's first moment", low=0, below=1)
    adam_beta2: float = option(0.999, "decay of Adam's second moment", low=0, below=1)
    rmsprop_decay: float = option(0.99, "decay of RMSProp's squared gradient", low=0, below=1)
    epsilon: float = option(1e-5, "added to the denominator (Adam) or under the root (RMSProp)", above=0)
    max_grad_norm: float = option(0.5, "global norm to which a gradient is clipped", above=0)


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How the monitor evaluates the shared policy."""

    target_return: float | None = option(None, "mean return that counts as solved; default: the environment's own")
    eval_episodes: int = option(100, "episodes per evaluation; 0: none, train to the budget", low=0)
    eval_actions: str = option(
        "greedy",
        "the most probable ones, or sampled, as in training, by which no episode goes in circles",
        choices=("greedy", "sampled"),
    )
    eval_envs: int | None = option(
        None, "environments that an evaluation has open at once; default: 100 of a native batch, else 10", low=1
    )
    critic_episodes: int = option(
        0, "held-out episodes, with sampled actions, on which each evaluation judges the critic; 0: none", low=0
    )
    eval_interval: int = option(1000, "environment steps between the starts of two evaluations", low=1)
    eval_share: float = option(0.3, "largest share of the time for evaluations, after a first second", low=0, high=1)


@dataclass(frozen=True, slots=True)
class SupervisionConfig:
    """What is done so that a run is not lost (workers.supervisor, workers.checkpointer)."""

    checkpoint_interval: float = option(10.0, "seconds between saved checkpoints", above=0)
    keep_checkpoints: int = option(3, "latest checkpoints that stay on disk, beside the best", low=1)
    max_restarts: int = option(
        20, "replacements of dead or hanging processes within ten minutes; one more ends the run", low=0
    )
    heartbeat_timeout: float = option(
        7.0, "seconds without an environment step until a worker is replaced; more where steps take long", above=0
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one training run needs; two equal configs describe the same run.

    Only `from_options` applies a preset: here it is a name.
    """

    env: str = option(DEFAULT_ENV, "Gymnasium environment id, or a class of a module: MODULE:CLASS", metavar="ID")
    preset: str = option(
        "auto",
        "named setting to start from; auto: the one tuned for the environment, where there is one; none: the defaults",
        metavar="NAME",
    )
    env_kwargs: tuple[str, ...] = option(
        (), "arguments of the environment, each as name=value; default: its own", metavar="NAME=VALUE"
    )
    wrappers: tuple[str, ...] = option(
        (),
        "gymnasium.Wrapper classes around the environment, the outermost last; default: none",
        metavar="MODULE:CLASS",
    )
    mode: str = option(
        "async",
        "async: push without a lock; locked: one at a time; sync: average all workers' gradients (A2C)",
        choices=("async", "locked", "sync"),
    )
    workers: int = option(4, "actor-learner processes", low=1, high=1024)
    envs_per_worker: int = option(8, "environments each worker steps together", low=1, high=65536)
    vector: str = option(
        "auto",
        "how a worker steps its environments: auto: as Gymnasium's own batch where that pays; envpool: as EnvPool's",
        choices=("auto", "envpool"),
    )
    n_steps: int = option(
        64,
        "environment steps per rollout (t_max), of each environment",
        low=1,
        high=1_000_000,
        of=(*BOOTSTRAPPED, *VALUE_BASED),
    )
    noise_correlation: float = option(
        0.8, "correlation of the exploration noise from one step to the next; 0: none", low=0, below=1, of=ON_POLICY
    )
    max_env_steps: int = option(1_000_000, "env-step budget of all workers together", low=1)
    max_episode_steps: int | None = option(
        None, "cut episodes after so many steps; default: the environment's own", low=1
    )
    env_latency_ms: float = option(
        0.0, "milliseconds that a worker's environments sleep at each step; evaluations do not", low=0
    )
    log_interval: int = option(0, "updates between two rows of updates.csv; 0: no such file", low=0)
    seed: int = option(0, "seed of everything random", low=0, high=2**32 - 1)
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    critic: CriticConfig = CriticConfig()
    staleness: StalenessConfig = StalenessConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    supervision: SupervisionConfig = SupervisionConfig()

    def __post_init__(self) -> None:
        for spec in option_specs():
            spec.check(spec.value_in(self))
        if self.mode == "sync" and self.workers > SYNC_WORKERS:
            raise ConfigError(f"workers: at most {SYNC_WORKERS} in sync mode, got {self.workers}")
        steps = self.n_steps * self.envs_per_worker
        if self.loss.objective in PROXIMAL and self.loss.minibatches > steps:
            raise ConfigError(
                f"minibatches: at most {steps}, the steps of a rollout (n_steps x envs_per_worker), got "
                f"{self.loss.minibatches}"
            )
        for name in SEPARATE if self.critic.critic == "tied" else ():
            if getattr(self.critic, name) != getattr(CriticConfig(), name):
                raise ConfigError(f"{name}: needs a critic of its own: --critic separate")
        network = self.network
        if network.recurrent is None and (network.recurrent_size is not None or network.burn_in):
            name = "burn_in" if network.recurrent_size is None else "recurrent_size"
            raise ConfigError(f"{name}: needs a core that remembers: --recurrent lstm or gru")
        if network.recurrent is not None:
            self._check_recurrent()
        limit, forced = self.staleness.max_staleness, self.staleness.forced_staleness
        if limit is not None and limit < forced and self.staleness.stale == "drop":
            raise ConfigError(f"max_staleness: with forced_staleness {forced} every gradient would be dropped")
        _ = self.corrected_objective  # which refuses what does not go together

    def _check_recurrent(self) -> None:
        """Whole sequences are learned from: of a minibatch's environments, and never of single steps."""
        if self.loss.objective in PROXIMAL and self.loss.minibatches > self.envs_per_worker:
            raise ConfigError(
                f"minibatches: at most {self.envs_per_worker} with a recurrent network, the environments of a rollout "
                f"(envs_per_worker), got {self.loss.minibatches}"
            )
        if self.critic.critic_memory:
            raise ConfigError("critic_memory: single steps of earlier rollouts, which a recurrent network cannot judge")
        if self.network.burn_in > self.n_steps:
            raise ConfigError(f"burn_in: at most {self.n_steps} (n_steps), got {self.network.burn_in}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Config":
        """A config from a preset and flat option names, each checked; an unknown one is refused with the nearest."""
        options = _with_preset(options)
        known = {spec.name: spec.section for spec in option_specs()}
        values: defaultdict[str, dict[str, Any]] = defaultdict(dict)  # by section
        for name, value in options.items():
            if name not in known:
                raise ConfigError(f"unknown option '{name}'{did_you_mean(name, known)}")
            if name == "env_kwargs" and isinstance(value, dict):
                value = [f"{argument}={one!r}" for argument, one in value.items()]
            values[known[name]][name] = tuple(value) if isinstance(value, list) else value
        own = values.pop("", {})
        sections: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(cls)}
        return cls(**own, **{name: dataclasses.replace(sections[name], **part) for name, part in values.items()})

    @property
    def corrected_objective(self) -> str:
        """The objective with its correction; a ConfigError where they do not go together."""
        objective, correction = self.loss.objective, self.staleness.correction
        if correction is None or (correction == "none" and objective in ("a2c", "ppo")):
            return objective
        if (objective, correction) not in CORRECTED:
            known = " and ".join(sorted(o for o, c in CORRECTED if c == correction)) or "a2c and ppo"
            raise ConfigError(f"correction: {correction} belongs to {known}, not to objective {objective}")
        return CORRECTED[objective, correction]

    @property
    def has_slow_copy(self) -> bool:
        """Whether returns are made from a slow copy of the network: a target network."""
        return self.critic.slow_critic is not None or self.loss.objective in VALUE_BASED

    def check_belonging(self, names: Any) -> None:
        """Raise ConfigError where one of the options called `names` is of other objectives than this one's."""
        for spec in option_specs():
            if spec.name in names and not spec.belongs_to(self):
                owners = ", ".join(spec.of)
                raise ConfigError(
                    f"{spec.name}: belongs to {'objective' if len(spec.of) == 1 else 'objectives'} {owners}, "
                    f"not to {self.loss.objective}"
                )

    @property
    def is_default_environment(self) -> bool:
        """Whether the environment is the default one, which is known to be right."""
        return (self.env, self.env_kwargs, self.wrappers, self.vector) == (DEFAULT_ENV, (), (), "auto")

    def to_options(self) -> dict[str, Any]:
        """All options, defaults included, under their flat names: the inverse of `from_options`."""
        return {spec.name: spec.value_in(self) for spec in option_specs()}


def _with_preset(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of their preset, and its name."""
    from a3c.presets import names, resolved

    name, env, objective = options.get("preset", "auto"), options.get("env", DEFAULT_ENV), options.get("objective")
    if not (isinstance(name, str) and isinstance(env, str) and isinstance(objective, str | None)):
        return dict(options)  # which is refused by name
    try:
        name, found = resolved(name, env, objective)
    except KeyError:
        known = names()
        hint = did_you_mean(str(name), known) or f"; there are {', '.join(known)}"
        raise ConfigError(f"preset: unknown preset {name!r}{hint}") from None
    return {**found, **options, "preset": name}


def stored_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run has kept, with those that its version did not have as they were then."""
    return {**FORMER, **options}


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option: its name and type, what it means, and which values it takes."""

    name: str
    section: str  # the field of Config that holds it; "" for Config's own and those of other commands
    type: type  # int, float, str, bool or Path: of one value
    optional: bool  # None is allowed and means what `meaning` calls the default
    many: bool  # takes one or more values
    default: Any  # dataclasses.MISSING for a positional argument
    meaning: str
    low: float = -inf  # numbers from here on ...
    above: float = -inf  # or only those above this one ...
    high: float = inf  # up to here ...
    below: float = inf  # or only below this one
    choices: tuple[str, ...] = ()
    metavar: str = ""  # what stands for the value in --help; "": what its type is called there
    of: tuple[str, ...] = ()  # the objectives to which it belongs; (): to all

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"

    def value_in(self, owner: Any) -> Any:
        """The value of this option that an instance of its dataclass has."""
        return getattr(getattr(owner, self.section) if self.section else owner, self.name)

    def belongs_to(self, config: Config) -> bool:
        """Whether the run of a config makes use of it."""
        return not self.of or config.loss.objective in self.of or config.corrected_objective in self.of

    def check(self, value: Any) -> None:
        """Raise ConfigError unless the option takes the value."""
        if value is None and self.optional:
            return
        if self.many and not (isinstance(value, tuple) and (value or self.default == ())):
            raise ConfigError(f"{self.name}: expected a list of at least one {self.type.__name__}, got {value!r}")
        values: tuple[Any, ...] = value if self.many else (value,)
        for one in values:
            accepted: Any = (int, float) if self.type is float else self.type
            if not isinstance(one, accepted) or (isinstance(one, bool) and self.type is not bool):
                raise ConfigError(f"{self.name}: expected {self.type.__name__}, got {value!r}")
            demands = {f"one of {', '.join(self.choices)}": not self.choices or one in self.choices}
            if self.type in (int, float):
                # The first is false for NaN too; an int may be larger still.
                demands |= {
                    "a finite number": abs(one) <= sys.float_info.max,
                    f"at least {self.low:g}": one >= self.low,
                }
                demands |= {f"above {self.above:g}": one > self.above, f"at most {self.high:g}": one <= self.high}
                demands[f"below {self.below:g}"] = one < self.below
            if broken := [demand for demand, holds in demands.items() if not holds]:
                raise ConfigError(f"{self.name}: must be {broken[0]}, got {value!r}")


@functools.cache
def option_specs(owner: Any = Config, section: str = "") -> tuple[OptionSpec, ...]:
    """The options of a dataclass and of those in its fields, in the order in which they are declared."""
    specs: list[OptionSpec] = []
    for field in dataclasses.fields(owner):
        if dataclasses.is_dataclass(field.type):
            specs += option_specs(field.type, field.name)  # type: ignore[arg-type]
        elif field.metadata:
            many, optional = ... in get_args(field.type), NoneType in get_args(field.type)
            kind: Any = (get_args(field.type) or (field.type,))[0]
            about: dict[str, Any] = {"high": LARGEST_INT if kind is int else inf, **field.metadata}
            specs.append(OptionSpec(field.name, section, kind, optional, many, field.default, **about))
    return tuple(specs)


def did_you_mean(name: str, known: Any) -> str:
    """'; did you mean ...?' where something known is close to `name`, else ''."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
