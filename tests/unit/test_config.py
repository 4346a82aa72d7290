"""Every option: round trips, ranges, types, names, and a module that loads nothing."""

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.config import (
    SEPARATE,
    Config,
    ConfigError,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    OptionSpec,
    option_specs,
)
from workers.commands import COMMANDS, GROUPS, parse

SPECS = {spec.name: spec for spec in option_specs()}
NUMERIC = [spec for spec in SPECS.values() if spec.type in (int, float)]


def ends(spec: OptionSpec, inside: bool) -> list[Any]:
    """The values at the very ends of an option's range, or the nearest ones beyond them."""
    found: list[Any] = []
    for end, excluded, outward in ((spec.low, 0, -1), (spec.above, 1, -1), (spec.high, 0, 1), (spec.below, 1, 1)):
        if math.isfinite(end):
            value, step = spec.type(end), (int(not inside) - excluded) * outward
            found.append(value + step if spec.type is int else math.nextafter(value, value + step) if step else value)
    return found


def allowed(spec: OptionSpec) -> list[Any]:
    """Values at the very ends of an option's range, and within."""
    if spec.type is bool:
        return [True, False]
    if spec.type is str and spec.many:
        return [(), ("a=1",), ("a=1", "b:C")]
    if spec.type is str:
        return list(spec.choices) or ["none" if spec.name == "preset" else "Acrobot-v1"]
    values = [*ends(spec, inside=True), *([None] if spec.optional else [])]
    if spec.type is float:
        values += [1, 0.5] if min(spec.high, spec.below) > 1 else [0.5]  # a whole number will do
    return [(value, value) for value in values] if spec.many else values


def refused(spec: OptionSpec) -> list[Any]:
    """Values just outside an option's range, and of every wrong type."""
    wrong = {
        int: [1.5, "3", True, [1]],
        float: ["0.1", True, [0.5]],
        str: [3, None, ["async"]],
        bool: [0, 1, "yes", None],
    }
    values = [*wrong[spec.type], b"x", {}, object()]
    if spec.type is str and spec.optional:
        values.remove(None)
    if spec.type is str and spec.many:
        values.remove(["async"])
    if spec.type in (int, float):
        values += [*ends(spec, inside=False), math.nan, math.inf, -math.inf, 10**400]  # no float holds the last
        values += [] if spec.optional else [None]
    if spec.choices:
        values += ["", "nonsense", spec.choices[0].upper()]
    if spec.many:
        values = [value for value in values if value not in ([1], [0.5])]
        first = 8 if spec.type is int else "a=1"
        values += [(value,) for value in values] + [(first, value) for value in values] + [64]  # 64 is not (64,)
        values = [value for value in values if value != {}] if spec.name == "env_kwargs" else values  # a dict will do
        values += [] if spec.default == () else [(), []]
    return values


def typical(spec: OptionSpec) -> st.SearchStrategy[Any]:
    """Any values that an option takes and a command line can name."""
    if spec.type not in (int, float):
        return st.sampled_from([value for value in allowed(spec) if value != ()])
    low, high = max(spec.low, spec.above), min(spec.high, spec.below)
    kind = st.integers if spec.type is int else st.floats
    one = kind(*[None if math.isinf(end) else spec.type(end) for end in (low, high)])
    one = one.filter(lambda value: spec.above < value < spec.below)
    return st.lists(one, min_size=1, max_size=3).map(tuple) if spec.many else one


def test_every_option_is_written_down_once_with_its_meaning():
    assert len(SPECS) == len(option_specs())
    assert all(spec.meaning and "\n" not in spec.meaning for spec in SPECS.values())
    parts = [getattr(Config(), field.name) for field in dataclasses.fields(Config)]
    sections = [part for part in parts if dataclasses.is_dataclass(part)]
    assert len(SPECS) == len(parts) - len(sections) + sum(len(dataclasses.fields(section)) for section in sections)


def test_defaults_round_trip():
    assert Config.from_options({"preset": "none"}) == Config(preset="none")
    assert Config.from_options(Config(preset="none").to_options()) == Config(preset="none")
    assert list(Config().to_options()) == list(SPECS)
    assert Config().to_options() == {spec.name: spec.default for spec in SPECS.values()}


def test_values_inside_the_range_round_trip():
    for spec in SPECS.values():
        for value in allowed(spec):
            beside = {"objective": "ppo"} if value == "decoupled" else {}
            beside |= {"critic": "separate"} if spec.name in SEPARATE else {}
            beside |= {"recurrent": "lstm", "n_steps": 1_000_000} if spec.name in ("recurrent_size", "burn_in") else {}
            beside |= {"minibatches": 1} if spec.name in ("recurrent", "recurrent_size", "burn_in") else {}
            config = Config.from_options({**beside, spec.name: value})
            assert spec.value_in(config) == value
            assert Config.from_options(config.to_options()) == config
            assert Config.from_options(json.loads(json.dumps(config.to_options()))) == config


def test_values_outside_the_range_or_of_the_wrong_type_are_refused_by_name():
    for spec in SPECS.values():
        for value in refused(spec):
            with pytest.raises(ConfigError) as caught:
                Config.from_options({spec.name: value})
            assert str(caught.value).startswith(f"{spec.name}: "), value
            assert "\n" not in str(caught.value), value


def test_every_numeric_option_has_a_range():
    assert all(math.isfinite(max(spec.low, spec.above)) for spec in NUMERIC if spec.name != "target_return")


def test_sections_built_by_hand_are_checked_too():
    with pytest.raises(ConfigError, match=r"^gamma: .*at most 1, got 1.5"):
        Config(loss=LossConfig(gamma=1.5))
    with pytest.raises(ConfigError, match=r"^hidden_sizes: .*at least 1, got .*0"):
        Config(network=NetworkConfig(hidden_sizes=(8, 0)))
    with pytest.raises(ConfigError, match=r"^adam_beta1: .*below 1"):
        dataclasses.replace(Config(), optimizer=OptimizerConfig(adam_beta1=1.0))


def test_an_unknown_option_is_refused_with_the_nearest_name():
    for name, near in (("learning_rat", "learning_rate"), ("worker", "workers"), ("gama", "gamma")):
        with pytest.raises(ConfigError, match=f"^unknown option '{name}'; did you mean .*{near}"):
            Config.from_options({name: 1})
    for name in ("zzzzzzzz", "", "loss", "network", "__class__"):  # near to nothing, or a section's
        with pytest.raises(ConfigError, match=f"^unknown option '{name}'"):
            Config.from_options({name: 1})


def test_configs_are_equal_by_value_and_cannot_be_changed():
    assert Config(seed=3) == Config(seed=3) != Config(seed=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


@given(st.fixed_dictionaries({}, optional={spec.name: typical(spec) for spec in SPECS.values()}))
@settings(max_examples=50, deadline=None)
def test_a_command_line_sets_what_it_names(values: dict[str, Any]):
    """Of a study too, where another value may follow each."""
    train, compare = list[str](), ["compare"]
    for name, value in values.items():
        flag = SPECS[name].flag
        if isinstance(value, bool):
            train.append(flag if value else flag.replace("--", "--no-", 1))
            compare += [flag, "yes" if value else "no", "no"]
        elif isinstance(value, tuple):
            train += [flag, *map(str, value)]
            compare += [flag, ",".join(map(str, value)), "1,2"]
        else:
            train.append(f"{flag}={value}")
            compare.append(f"{flag}={value}")
    typed = parse(train).training
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in typed.items()} == values
    study = parse(compare)
    firsts = {name: chosen[0] for name, chosen in study.training.items()}
    assert firsts | {"seed": study.seed} == {"seed": 0} | values


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_option_with_its_default(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        parse([command, "--help"])
    assert end.value.code == 0
    shown = "".join(capsys.readouterr().out.split())  # wherever a line is broken
    trains = command in ("train", "compare", "tune")
    specs = {spec.name: spec for spec in [*(option_specs() if trains else ()), *option_specs(COMMANDS[command])]}
    for spec in specs.values():
        assert "".join(spec.meaning.split()) in shown
        assert (spec.flag if spec.default is not dataclasses.MISSING else spec.metavar) in shown
        if spec.type in (int, float, str) and spec.default not in (None, dataclasses.MISSING) and not spec.many:
            assert "".join(f"{spec.meaning} (default: {spec.default})".split()) in shown
    assert {f"{GROUPS.get(spec.section, spec.section)}:" in shown for spec in SPECS.values()} == {trains}


def test_until_the_options_are_known_to_be_right_no_heavy_module_is_loaded():
    for code in (
        "a3c.config.Config.from_options({})",
        "print(run_a3c.main(['--worker', '4']), run_a3c.main(['evaluate', 'x', '--seed', '-1']))",
    ):
        code = f"import sys, a3c.config, run_a3c; {code}; print(sorted(HEAVY & set(sys.modules)))"
        code = code.replace("HEAVY", "{'torch', 'numpy', 'gymnasium', 'rich', 'safetensors', 'multiprocessing'}")
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout.splitlines()[-1] == "[]"


def test_a_rollout_has_a_step_for_each_minibatch():
    few = {"preset": "none", "n_steps": 1, "envs_per_worker": 3}
    with pytest.raises(ConfigError, match=r"minibatches: at most 3, the steps of a rollout .*, got 4"):
        Config.from_options(few)
    assert Config.from_options({**few, "minibatches": 3}).loss.minibatches == 3
    Config.from_options({**few, "objective": "a2c"})  # which has none
