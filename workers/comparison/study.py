"""What a study is: which options are factors, the arms that follow, and who runs when. Standard library alone."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a3c.config import Config, ConfigError
from a3c.presets import TUNED

DEFAULT_MODES = ("async", "sync")


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the factors' values, and the setting of its runs."""

    name: str
    values: dict[str, Any]  # by option name
    config: Config  # of its first seed

    def run(self, seed: int) -> Config:
        """The setting of one run."""
        return replace(self.config, seed=seed)


@dataclass(frozen=True, slots=True)
class Study:
    """Every arm with every seed."""

    factors: dict[str, tuple[Any, ...]]  # the values compared, by option name
    arms: tuple[Arm, ...]  # the first is what the others are held against
    seeds: tuple[int, ...]
    tuned: bool

    def schedule(self) -> list[tuple[Arm, int]]:
        """All runs in the order in which they are made.

        Seed by seed, and each seed begins with the next arm, so that whatever the machine does meanwhile, growing
        warm or busy, happens to all arms alike.
        """
        arms = self.arms
        return [
            (arms[(first + place) % len(arms)], seed)
            for first, seed in enumerate(self.seeds)
            for place in range(len(arms))
        ]

    def shared_options(self) -> dict[str, Any]:
        """The value of every option on which all arms agree, but for the seed."""
        every = [arm.config.to_options() for arm in self.arms]
        return {
            name: value
            for name, value in every[0].items()
            if name != "seed" and all(options[name] == value for options in every)
        }

    def definition(self) -> dict[str, Any]:
        """What two studies must share to be one: arms and their settings; seeds may be added."""
        arms = {arm.name: {**arm.config.to_options(), "seed": None} for arm in self.arms}
        definition: dict[str, Any] = json.loads(json.dumps({"factors": self.factors, "arms": arms}))
        return definition

    def default_path(self) -> Path:
        """The same study has the same directory, so that the same command goes on with it."""
        digest = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()[:8]
        env = self.arms[0].config.env.replace("/", "-").replace(":", "-")
        return Path("runs") / f"compare-{env[:80]}-{'-'.join(self.factors)[:80]}-{digest}"


def plan(options: Mapping[str, Sequence[Any]], seeds: int, tuned: bool = False) -> Study:
    """The study that follows from options with one or several values each.

    Args:
        options: by name, the values of each option that was given; several make it a factor. Where none has several and
            no mode is given, async is compared with sync. `seed` is the first seed.
        seeds: runs of each arm.
        tuned: start each mode from its own best setting (a3c.presets) instead of from the defaults.
    Raises:
        ConfigError: nothing to compare, a value twice, or a value that an option cannot take.
    """
    given = {name: tuple(map(_hashable, values)) for name, values in options.items()}
    if "mode" not in given and not any(len(values) > 1 for values in given.values()):
        given["mode"] = DEFAULT_MODES
    first_seed = _only("seed", given.pop("seed", (0,)), "use --seeds N for N runs of each arm")
    _only("env", given.get("env", ("",)), "returns of different environments are not comparable; make a study of each")
    for name, values in given.items():
        if repeated := [value for value in values if values.count(value) > 1]:
            raise ConfigError(f"{name}: the value {_word(repeated[0])} is given twice")
    factors = {name: values for name, values in given.items() if len(values) > 1}
    if not factors:
        raise ConfigError(
            "compare: nothing to compare: every option has one value; give one of them several, such as "
            "--modes async sync or --workers 1 2 4"
        )
    fixed = {name: values[0] for name, values in given.items() if len(values) == 1}
    combinations = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    arms = tuple(
        Arm(arm_name(values), values, _config({**fixed, **values, "seed": first_seed}, tuned))
        for values in combinations
    )
    if first_seed + seeds > 2**32:
        raise ConfigError(f"seed: {seeds} seeds from {first_seed} on pass 2^32")
    return Study(factors, arms, tuple(range(first_seed, first_seed + seeds)), tuned)


def arm_name(values: Mapping[str, Any]) -> str:
    """The values of an arm's factors in words: "async", "4 workers", "sync, entropy_coef 0"."""
    words = []
    for name, value in values.items():
        if name == "mode":
            words.append(str(value))
        elif name == "workers":
            words.append(f"{value} worker{'s' * (value != 1)}")
        else:
            words.append(f"{name} {_word(value)}")
    return ", ".join(words)


def _config(options: dict[str, Any], tuned: bool) -> Config:
    return Config.from_options({**(TUNED[options.get("mode", Config().mode)] if tuned else {}), **options})


def _hashable(value: Any) -> Any:
    """A network may be a list of layers in Python, and is a tuple everywhere else."""
    return tuple(value) if isinstance(value, list) else value


def _only(name: str, values: tuple[Any, ...], advice: str) -> Any:
    if len(values) > 1:
        raise ConfigError(f"{name}: takes one value in a study; {advice}")
    return values[0]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "x".join(str(part) for part in value)
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return str(value)  # all digits, where six would make two values one
