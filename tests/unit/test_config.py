"""Every option: round trips, ranges, types, names, and a module that loads nothing."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from a3c.config import Config, ConfigError, LossConfig, NetworkConfig, OptimizerConfig, option_specs

SPECS = {spec.name: spec for spec in option_specs()}
NUMERIC = [spec for spec in SPECS.values() if spec.type in (int, float)]


def step(spec, value, direction):
    """The nearest value of the option's type above or below."""
    return value + direction if spec.type is int else math.nextafter(value, direction * math.inf)


def allowed(spec):
    """Values at the very edge of an option's range, and its default."""
    if spec.type is bool:
        return [True, False]
    if spec.type is str:
        return list(spec.bounds.choices) or ["Acrobot-v1"]
    values = [None] if spec.optional else []
    bounds = spec.bounds
    for end, excluded, inward in ((bounds.low, bounds.above, 1), (bounds.high, bounds.below, -1)):
        if math.isfinite(end):
            value = spec.type(end)
            values.append(step(spec, value, inward) if excluded else value)
    if spec.type is float:
        values += [1, 0.5] if bounds.high > 1 else [0.5]  # a whole number will do
    return [(value, value) for value in values] if spec.many else values


def refused(spec):
    """Values just outside an option's range, and of every wrong type."""
    wrong = {
        int: [1.5, "3", True, [1]],
        float: ["0.1", True, [0.5]],
        str: [3, None, ["async"]],
        bool: [0, 1, "yes", None],
    }
    values = [*wrong[spec.type], b"x", {}, object()]
    if spec.type in (int, float):
        bounds = spec.bounds
        for end, excluded, outward in ((bounds.low, bounds.above, -1), (bounds.high, bounds.below, 1)):
            if math.isfinite(end):
                value = spec.type(end)
                values.append(value if excluded else step(spec, value, outward))
        values += [math.nan, math.inf, -math.inf]
        values += [] if spec.optional else [None]
        values += [10**400]  # no float holds it
    if spec.bounds.choices:
        values += ["", "nonsense", spec.bounds.choices[0].upper()]
    if spec.many:
        values = [value for value in values if value != [1]]
        values += [(value,) for value in values] + [(8, value) for value in values] + [(), [], 64]  # 64 is not (64,)
    return values


def test_every_option_is_written_down_once_with_its_meaning():
    assert len(SPECS) == len(option_specs())
    assert all(spec.meaning and "\n" not in spec.meaning for spec in SPECS.values())
    parts = [getattr(Config(), field.name) for field in dataclasses.fields(Config)]
    sections = [part for part in parts if dataclasses.is_dataclass(part)]
    assert len(SPECS) == len(parts) - len(sections) + sum(len(dataclasses.fields(section)) for section in sections)


def test_defaults_round_trip():
    assert Config.from_options({}) == Config()
    assert Config.from_options(Config().to_options()) == Config()
    assert list(Config().to_options()) == list(SPECS)
    assert Config().to_options() == {spec.name: spec.default for spec in SPECS.values()}


@pytest.mark.parametrize("name", SPECS)
def test_values_inside_the_range_round_trip(name):
    spec = SPECS[name]
    for value in allowed(spec):
        config = Config.from_options({name: value})
        owner = getattr(config, spec.section) if spec.section else config
        assert getattr(owner, name) == value
        assert Config.from_options(config.to_options()) == config
        assert Config.from_options(json.loads(json.dumps(config.to_options()))) == config


@pytest.mark.parametrize("name", SPECS)
def test_values_outside_the_range_or_of_the_wrong_type_are_refused_by_name(name):
    for value in refused(SPECS[name]):
        with pytest.raises(ConfigError) as caught:
            Config.from_options({name: value})
        assert str(caught.value).startswith(f"{name}: "), value
        assert "\n" not in str(caught.value), value


def test_every_numeric_option_has_a_range():
    assert all(math.isfinite(spec.bounds.low) for spec in NUMERIC if spec.name != "target_return")


def test_sections_built_by_hand_are_checked_too():
    with pytest.raises(ConfigError, match=r"^gamma: .*at most 1, got 1.5"):
        Config(loss=LossConfig(gamma=1.5))
    with pytest.raises(ConfigError, match=r"^hidden_sizes: .*at least 1, got .*0"):
        Config(network=NetworkConfig(hidden_sizes=(8, 0)))
    with pytest.raises(ConfigError, match=r"^adam_beta1: .*below 1"):
        dataclasses.replace(Config(), optimizer=OptimizerConfig(adam_beta1=1.0))


@pytest.mark.parametrize(
    ("name", "near"),
    [("learning_rat", "learning_rate"), ("worker", "workers"), ("gama", "gamma"), ("gae_lamda", "gae_lambda")],
)
def test_unknown_option_is_refused_with_the_nearest_name(name, near):
    with pytest.raises(ConfigError, match=f"^unknown option '{name}'; did you mean .*{near}"):
        Config.from_options({name: 1})


@pytest.mark.parametrize("name", ["zzzzzzzz", "", "loss", "network", "__class__"])
def test_option_near_to_nothing_or_a_sections_name_is_refused(name):
    with pytest.raises(ConfigError, match=f"^unknown option '{name}'"):
        Config.from_options({name: 1})


def test_configs_are_equal_by_value_and_cannot_be_changed():
    assert Config(seed=3) == Config(seed=3) != Config(seed=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


def test_importing_the_config_loads_no_heavy_module():
    code = (
        "import sys, a3c.config; a3c.config.Config.from_options({}); "
        "print(sorted({'torch', 'numpy', 'gymnasium', 'rich', 'safetensors'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
