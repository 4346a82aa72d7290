"""The named settings: what they leave to the user, and that they are what the search behind them has found."""

import json
from pathlib import Path

import pytest

from a3c import Config, ConfigError
from a3c.actors import actor_for
from a3c.environments import describe
from a3c.evaluation import evaluate
from a3c.networks import bind, build, flat_zeros, initialize
from a3c.presets import presets
from benchmarks.tuning import serial
from benchmarks.tuning.search import ENV_STEPS_FIXED, RESULTS, env_steps_search, trial_process
from shared.store import Snapshot
from workers import train
from workers.monitor import evaluation_seed

REPORTED_SEEDS = range(50)


@pytest.fixture(scope="module")
def env_steps_of_a_trial():
    """A trial of the search, in the process that the search has for all of them."""
    with trial_process() as process:
        yield lambda options: process.submit(serial.env_steps_until_solved, options).result()
    trial_process.cache_clear()


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


def test_sample_efficient_is_the_best_setting_of_its_search():
    best = env_steps_search().ranked("confirm", "decide")[0]
    assert len(best["trials"]) == 128
    assert _options("sample-efficient") == _options("CartPole-v1", **best["options"] | ENV_STEPS_FIXED)


def _options(preset, **options):
    return {**Config.from_options({"preset": preset, **options}).to_options(), "preset": ""}


def test_no_setting_was_tuned_on_a_reported_seed():
    for path in RESULTS.glob("*.jsonl"):
        seeds = {trial["seed"] for line in path.read_text().splitlines() for trial in json.loads(line)["trials"]}
        assert seeds and not seeds & set(REPORTED_SEEDS), path


def test_a_trial_takes_the_env_steps_of_a_run(tmp_path: Path, env_steps_of_a_trial):
    options = {"preset": "sample-efficient", "seed": 5010, "target_return": 100.0, "eval_episodes": 4}
    summary = train(run_dir=tmp_path / "run", dashboard="off", **options)
    assert summary.status == "solved"
    assert env_steps_of_a_trial(options) == summary.solved_env_steps


def test_a_trial_is_judged_once_more_at_the_end_of_its_budget(env_steps_of_a_trial):
    rare = {"workers": 1, "seed": 1, "max_env_steps": 1000, "eval_interval": 10_000}
    assert env_steps_of_a_trial({**rare, "target_return": 50.0}) >= 1000
    assert env_steps_of_a_trial({**rare, "target_return": 500.0}) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_snapshot_is_solved_up_to_the_lower_mean_of_two_fresh_evaluations(seed):
    cartpole = describe("CartPole-v1")
    options = {"seed": seed, "eval_episodes": 4, "hidden_sizes": [16]}
    model = build(Config.from_options(options), cartpole)
    initialize(model, seed)
    parameters = flat_zeros(model)
    bind(model, parameters)
    greedy = actor_for(model).greedy
    means = [evaluate(greedy, cartpole, 4, evaluation_seed(seed, index)).returns.mean() for index in (1, 2)]
    for target, solved in ((min(means), True), (min(means) + 0.25, False)):
        judge = serial.Judge(Config.from_options({**options, "target_return": float(target)}), cartpole)
        assert judge.see(Snapshot(parameters, updates=0, env_steps=0, taken=0.0, consistent=True)) == solved
