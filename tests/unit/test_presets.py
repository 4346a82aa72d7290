"""The named settings: what they leave to the user, and that they are what the search behind them has found."""

import json
from pathlib import Path

import pytest

from a3c import Config, ConfigError
from a3c.presets import presets

REPORTED_SEEDS = range(50)
RESULTS = Path(__file__).parents[2] / "benchmarks" / "tuning" / "results"
ENV_STEPS_FIXED = {"eval_interval": 25, "anneal": False}
UNSOLVED = 16_000  # env steps that a run counts which was not solved within 8,000


def test_a_preset_is_a_setting_that_leaves_the_task_and_the_seed_to_the_user_and_says_where_it_is_from():
    for name, preset in presets().items():
        Config.from_options({"preset": name})
        assert not {"env", "seed", "target_return", "eval_episodes", "preset"} & set(preset["options"])
        assert {"about", "figure", "seeds"} <= set(preset)


def test_the_environments_own_preset_is_taken_where_nothing_else_is_typed():
    assert Config.from_options({}).preset == "CartPole-v1"
    assert Config.from_options({"env": "Acrobot-v1"}).preset in ("none", "Acrobot-v1")
    assert Config.from_options({"preset": "none"}) == Config(preset="none")
    assert Config.from_options({"gamma": 0.5}).loss.gamma == 0.5
    again = Config.from_options({"n_steps": 7})
    assert Config.from_options(again.to_options()) == again
    with pytest.raises(ConfigError, match=r"unknown preset 'CartPol-v1'; did you mean CartPole-v1"):
        Config.from_options({"preset": "CartPol-v1"})


def test_another_objective_brings_what_it_needs_and_what_is_typed_wins():
    natural = Config.from_options({"objective": "natural"})
    assert (natural.optimizer.optimizer, natural.critic.critic, natural.envs_per_worker) == ("sgd", "separate", 4)
    assert Config.from_options({"objective": "natural", "envs_per_worker": 2}).envs_per_worker == 2
    assert Config.from_options({"objective": "natural", "env": "Acrobot-v1"}).optimizer.optimizer == "sgd"
    own = Config.from_options({"objective": "a2c"})
    assert own == Config.from_options({})
    assert Config.from_options(natural.to_options()) == natural


def test_sample_efficient_is_the_best_setting_of_its_search():
    confirmed, decided = (trials_by_setting(f"{stage}-env-steps.jsonl") for stage in ("confirm", "decide"))
    both = {setting: confirmed[setting] + decided[setting] for setting in confirmed.keys() & decided.keys()}
    steps = {
        setting: [UNSOLVED if trial["env_steps"] is None else trial["env_steps"] for trial in trials]
        for setting, trials in both.items()
    }
    best = min(steps, key=lambda setting: sum(steps[setting]) / len(steps[setting]))
    assert len(steps[best]) == 128
    assert _options("sample-efficient") == _options("CartPole-v1", **json.loads(best) | ENV_STEPS_FIXED)


def trials_by_setting(name):
    records = map(json.loads, (RESULTS / name).read_text().splitlines())
    return {json.dumps(record["options"]): record["trials"] for record in records}


def _options(preset, **options):
    return {**Config.from_options({"preset": preset, **options}).to_options(), "preset": ""}


def test_no_setting_was_tuned_on_a_reported_seed():
    for path in RESULTS.glob("*.jsonl"):
        seeds = {trial["seed"] for line in path.read_text().splitlines() for trial in json.loads(line)["trials"]}
        assert seeds and not seeds & set(REPORTED_SEEDS), path
