"""What a study is made of: factors, arms, the order of its runs, and what its directory refuses."""

import ast
import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from a3c import Config, ConfigError
from a3c.presets import TUNED, presets
from tests.unit.comparison_samples import sample_runs
from workers.commands import parse
from workers.comparison.study import arm_name, open_study_directory, plan, runs_row


def test_an_option_with_several_values_is_a_factor_and_one_with_a_single_value_a_setting() -> None:
    study = plan({"mode": ["async", "sync"], "workers": [2], "entropy_coef": [0.01, 0.0]}, seeds=3)
    assert study.factors == {"mode": ("async", "sync"), "entropy_coef": (0.01, 0.0)}
    assert [arm.name for arm in study.arms] == [
        "async, entropy_coef 0.01",
        "async, entropy_coef 0",
        "sync, entropy_coef 0.01",
        "sync, entropy_coef 0",
    ]
    assert {arm.config.workers for arm in study.arms} == {2}
    assert [(arm.config.mode, arm.config.loss.entropy_coef) for arm in study.arms] == [
        ("async", 0.01),
        ("async", 0.0),
        ("sync", 0.01),
        ("sync", 0.0),
    ]


def test_an_arm_has_only_the_factors_of_its_objective_and_none_is_there_twice() -> None:
    options: dict[str, Any] = {"objective": ["reinforce", "a2c"], "baseline": [False, True], "gae_lambda": [0.0, 1.0]}
    study = plan({**options, "n_steps": [5]}, seeds=1)
    assert [arm.name for arm in study.arms] == [
        "reinforce, baseline no",
        "reinforce, baseline yes",
        "a2c, gae_lambda 0",
        "a2c, gae_lambda 1",
    ]
    assert [arm.config.n_steps == 5 for arm in study.arms] == [False, False, True, True]
    with pytest.raises(ConfigError, match="kl_bound: belongs to objective natural"):
        plan({**options, "kl_bound": [0.1]}, seeds=1)
    critics = plan({"objective": ["a2c"], "critic": ["tied", "separate"], "critic_steps": [1, 3]}, seeds=1)
    assert [arm.name for arm in critics.arms] == [
        "critic tied",
        "critic separate, critic_steps 1",
        "critic separate, critic_steps 3",
    ]


def test_without_a_factor_async_is_compared_with_sync() -> None:
    assert plan({}, seeds=1).factors == {"mode": ("async", "sync")}
    assert plan({"workers": [1, 2]}, seeds=1).factors == {"workers": (1, 2)}


def test_arms_differ_in_their_factors_alone() -> None:
    study = plan({"mode": ["async", "locked", "sync"], "gamma": [0.9]}, seeds=2)
    shared = study.shared_options()
    assert set(Config().to_options()) - set(shared) == {"mode", "seed"}
    assert shared["gamma"] == 0.9


def test_every_arm_runs_with_every_seed_and_the_order_rotates() -> None:
    study = plan({"workers": [1, 2, 4], "seed": [5]}, seeds=4)
    schedule = [(arm.values["workers"], seed) for arm, seed in study.schedule()]
    assert sorted(schedule) == sorted((workers, seed) for workers in (1, 2, 4) for seed in range(5, 9))
    assert schedule[:6] == [(1, 5), (2, 5), (4, 5), (2, 6), (4, 6), (1, 6)]
    assert [arm.run(seed).seed for arm, seed in study.schedule()] == [seed for _, seed in study.schedule()]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"mode": "sync", "workers": 1}, "sync, 1 worker"),
        ({"workers": 8}, "8 workers"),
        ({"learning_rate": 0.0001, "anneal": False}, "learning_rate 0.0001, anneal no"),
        ({"hidden_sizes": (64, 64)}, "hidden_sizes 64x64"),
        ({"gamma": 0.99999991}, "gamma 0.99999991"),
    ],
)
def test_an_arm_is_named_after_its_values(values: dict[str, Any], name: str) -> None:
    assert arm_name(values) == name


def test_values_that_look_alike_have_arms_and_directories_of_their_own(tmp_path: Path) -> None:
    study = plan({"learning_rate": [1e30, 1e-30, 0.1234561, 0.1234562], "hidden_sizes": [[8] * 90, [8] * 91]}, seeds=1)
    with open_study_directory(tmp_path / "study", study, "") as directory:
        paths = {directory.run_path(arm, 0).name for arm in study.arms}
    assert len({arm.name for arm in study.arms}) == len(paths) == 8
    assert max(map(len, paths)) < 140


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": ["async"]}, "nothing to compare"),
        ({"mode": ["async", "asink"]}, "mode: must be one of async, locked, sync, got 'asink'"),
        ({"mode": ["sync", "sync"]}, "mode: the value sync is given twice"),
        ({"gamma": [0.9, float("nan")]}, "gamma: must be a finite number"),
        ({"env": ["CartPole-v1", "Acrobot-v1"]}, "env: takes one value in a study"),
        ({"seed": [0, 1], "workers": [1, 2]}, "seed: takes one value in a study; use --seeds N"),
        ({"wokers": [1, 2]}, "unknown option 'wokers'; did you mean workers"),
        ({"seed": [2**32 - 1]}, "pass 2^32"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(options: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(options, seeds=2)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_every_preset_and_every_tuned_setting_is_a_config() -> None:
    for preset in presets():
        Config.from_options({"preset": preset})
    assert set(TUNED) == {"async", "locked", "sync"}
    study = plan({"mode": ["async", "locked", "sync"], "max_grad_norm": [0.25]}, seeds=1, tuned=True)
    for arm in study.arms:
        mode = arm.config.mode
        assert arm.config == Config.from_options({**TUNED[mode], "mode": mode, "max_grad_norm": 0.25})


def test_the_same_study_has_the_same_directory_and_another_has_another() -> None:
    path = plan({"workers": [1, 2]}, seeds=3).default_path()
    assert plan({"workers": [1, 2]}, seeds=5).default_path() == path
    assert plan({"workers": [1, 4]}, seeds=3).default_path() != path
    assert plan({"workers": [1, 2], "gamma": [0.9]}, seeds=3).default_path() != path


def test_a_directory_of_another_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    with open_study_directory(tmp_path / "study", plan({"workers": [1, 2]}, seeds=1), "the first command"):
        pass
    before = (tmp_path / "study" / "study.json").read_bytes()
    with pytest.raises(ConfigError, match=r"holds another study \(the first command\); choose another directory"):
        open_study_directory(tmp_path / "study", plan({"workers": [1, 4]}, seeds=1), "the second").__enter__()
    assert (tmp_path / "study" / "study.json").read_bytes() == before
    with open_study_directory(tmp_path / "study", plan({"workers": [1, 2]}, seeds=4), "more seeds"):
        pass


def test_a_directory_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(ConfigError, match="holds something else than a study"):
        open_study_directory(tmp_path, plan({}, seeds=1), "").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_study_in_use_names_its_owner(tmp_path: Path) -> None:
    study = plan({}, seeds=1)
    again = open_study_directory(tmp_path / "study", study, "")
    in_use = pytest.raises(ConfigError, match=r"study_dir: .* is in use by process \d+")
    with open_study_directory(tmp_path / "study", study, ""), in_use:
        again.__enter__()
    with open_study_directory(tmp_path / "study", study, ""):
        pass


def test_rows_of_runs_have_the_same_columns_solved_or_not(tmp_path: Path) -> None:
    rows = [runs_row(run, {"mode": run.arm}) for run in sample_runs({"async": 5_000.0, "sync": 90_000.0}, seeds=2)]
    assert len({tuple(row) for row in rows}) == 1
    with open(tmp_path / "runs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    read = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [row["factor_mode"] for row in read] == ["async", "async", "sync", "sync"]
    assert [row["solved_env_steps"] != "" for row in read] == [True, True, False, False]
    assert "staleness_p95" in read[0]
    assert "races_torn_pulls" in read[0]


def test_every_command_of_the_page_is_one_that_can_be_typed() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "comparison.md").read_text()
    commands = re.findall(r"^    python (run_a3c.py compare .*)$", text, re.MULTILINE)
    commands += [f"run_a3c.py compare {options}" for options in re.findall(r"`(--[^`]* [^`]+)`", text)]
    assert len(commands) > 5
    for command in commands:
        compare = parse(shlex.split(command)[1:])
        for env in compare.training.pop("env", ["CartPole-v1"]):  # a study of each
            plan({**compare.training, "env": [env]}, compare.seeds)


def test_the_python_of_the_page_names_what_there_is() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "comparison.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call)]
    (keywords,) = [{word.arg: ast.literal_eval(word.value) for word in call.keywords} for call in calls]
    seeds = keywords.pop("seeds")
    study = plan({name: value if isinstance(value, list) else [value] for name, value in keywords.items()}, seeds)
    assert [arm.name for arm in study.arms] == ["async", "sync"]
