"""The family of objectives as a user runs it: staleness bounded, forced and corrected, in real processes."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a3c import Policy, load_checkpoint
from a3c.config import CORRECTED
from tests.process.command import FOREVER, Program, run_here
from workers import resume, train
from workers.runs.records import Summary

NOTHING: dict[str, Any] = {"dashboard": "off", "eval_episodes": 0, "seed": 2}


def trained(run_dir: Path, **options: Any) -> Summary:
    return train(run_dir=run_dir, **{**NOTHING, "max_env_steps": 4000, **options})


def largest_staleness(run_dir: Path) -> int:
    rows = list(csv.DictReader((run_dir / "staleness.csv").open()))
    return max(int(row["staleness"]) for row in rows if int(row["pushes"]))


@pytest.mark.parametrize(("plain", "corrected"), [("a2c", "v-trace"), ("ppo", "ppo-decoupled")])
def test_sync_equals_the_corrected_objective_at_staleness_zero_bit_for_bit(
    plain: str, corrected: str, tmp_path: Path
) -> None:
    found = [
        trained(tmp_path / name, objective=name, mode="sync", workers=3, gae_lambda=0.9).state_sha256
        for name in (plain, corrected)
    ]
    assert found[0] == found[1]
    assert (plain, corrected.removeprefix("ppo-")) in CORRECTED


@pytest.mark.parametrize("stale", ["drop", "recompute"])
def test_no_gradient_beyond_the_bound_is_applied_before_or_after_a_resume(stale: str, tmp_path: Path) -> None:
    options = ("--workers", 6, "--objective", "a2c", "--max-staleness", 1, "--stale", stale, "--log-interval", 1)
    with Program(*options, *FOREVER, "--checkpoint-interval", 0.1, "--run-dir", tmp_path / "run") as program:
        program.until(lambda: len(list((tmp_path / "run" / "checkpoints").glob("latest-*.json"))) > 1)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130, program.text
    assert largest_staleness(tmp_path / "run") <= 1
    before = json.loads((tmp_path / "run" / "summary.json").read_text())
    resumed = resume(tmp_path / "run", max_env_steps=before["env_steps"] + 20_000, dashboard="off")
    assert resumed is not None
    assert resumed.env_steps >= before["env_steps"] + 20_000
    assert largest_staleness(tmp_path / "run") <= 1
    if stale == "drop":
        assert resumed.faults.stale_gradients >= before["faults"]["stale_gradients"] > 0


@pytest.mark.parametrize("objective", ["a2c", "v-trace"])
def test_forced_staleness_is_what_was_asked_for_and_versions_tell_it(objective: str, tmp_path: Path) -> None:
    summary = trained(tmp_path, objective=objective, workers=1, forced_staleness=8, log_interval=1)
    rows = list(csv.DictReader((tmp_path / "updates.csv").open()))
    ages = [int(row["learner_version"]) - int(row["behavior_version"]) for row in rows]
    corrected = objective == "v-trace"
    assert summary.staleness is not None
    assert summary.staleness.max == (0 if corrected else 8)
    assert set(ages[10:]) == ({8} if corrected else {0})
    assert [int(row["updates"]) - 1 - int(row["behavior_version"]) for row in rows[10:]] == [8] * len(rows[10:])


def test_a_bound_below_what_is_forced_is_refused() -> None:
    code, error = run_here("--forced-staleness", 8, "--max-staleness", 4)
    assert code == 2
    assert "max_staleness: with forced_staleness 8 every gradient would be dropped" in error


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--objective", "a2c", "--clip", "0.3"), "clip: belongs to objectives ppo, ppo-decoupled, not to a2c"),
        (("--objective", "reinforce", "--n-steps", "9"), "n_steps: belongs to objectives a2c"),
        (("--objective", "q", "--entropy-coef", "1"), "entropy_coef: belongs to objectives a2c"),
        (("--objective", "ppo", "--correction", "v-trace"), "correction: v-trace belongs to a2c and v-trace"),
        (("--critic-steps", "2"), "critic_steps: needs a critic of its own: --critic separate"),
        (("--env", "Pendulum-v1", "--objective", "q"), "objective: q needs one of n actions"),
    ],
)
def test_an_option_of_another_objective_is_refused_in_one_line(words: tuple[str, ...], line: str) -> None:
    code, error = run_here(*words)
    assert code == 2
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("objective", ["natural", "n-step-q"])
def test_a_policy_of_its_own_kind_is_loaded_and_acts(objective: str, tmp_path: Path) -> None:
    trained(tmp_path, objective=objective, workers=1)
    policy = Policy(load_checkpoint(tmp_path).model)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert set(policy(observations).tolist()) <= {0, 1}
    assert np.isfinite(policy.values(observations)).all()
    code, output = run_here("evaluate", tmp_path, "--episodes", 5)
    assert code == 0
    assert "over 5 greedy episodes" in output


def test_evaluate_repeats_the_sampled_evaluation_of_a_run(tmp_path: Path) -> None:
    trained(tmp_path, eval_episodes=20, eval_actions="sampled", max_env_steps=3000, workers=1)
    evaluation = json.loads((tmp_path / "summary.json").read_text())["evaluation"]
    typed = ("evaluate", tmp_path, "--episodes", 20, "--seed", evaluation["seed"], "--json")
    drawn, greedy = (json.loads(run_here(*typed, *words)[1]) for words in (["--no-greedy"], []))
    assert (drawn["mean"], drawn["std"], drawn["actions"]) == (evaluation["mean"], evaluation["std"], "sampled")
    assert (greedy["actions"], greedy["mean"] == drawn["mean"]) == ("greedy", False)
