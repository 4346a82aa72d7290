"""Environments of every kind of space: trained, evaluated, and refused where the installed one is another."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from a3c import load_policy
from a3c.environments import describe
from tests.process.command import run_here
from workers import train

MODULE = "tests.process.spaces_to_train"
SHORT: dict[str, Any] = {"workers": 1, "eval_episodes": 10, "dashboard": "off"}


@pytest.mark.parametrize("env", ["Taxi-v4", "Blackjack-v1", "Pendulum-v1", f"{MODULE}:Masked"])
def test_an_environment_is_trained_and_its_policy_evaluated(env: str, tmp_path: Path) -> None:
    summary = train(env=env, run_dir=tmp_path / "run", max_env_steps=3000, **SHORT)
    assert summary.exit_code == 0
    assert not any(dataclasses.asdict(summary.faults).values())
    code, output = run_here("evaluate", tmp_path / "run", "--episodes", 3)
    assert code == 0, output
    code, output = run_here("play", tmp_path / "run", "--episodes", 1, "--render", "text")
    assert code == 0, output


@pytest.mark.parametrize("gradients", ["closed-form", "autograd"])
def test_a_policy_learns_all_parts_of_an_action(gradients: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SHORT, "max_env_steps": 20_000, "gradients": gradients, "target_return": 36.0}
    summary = train(env=f"{MODULE}:Mixed", run_dir=tmp_path / "run", **options)
    assert summary.evaluation is not None
    assert summary.evaluation.mean > 30  # of 40; by chance 11
    assert load_policy(tmp_path / "run").head == describe(f"{MODULE}:Mixed").head


def test_a_mask_that_forbids_everything_is_named(tmp_path: Path) -> None:
    arguments = ("--env", f"{MODULE}:AllForbidden", "--max-restarts", 0, "--max-env-steps", 3000)
    code, output = run_here(*arguments, "--run-dir", tmp_path / "run")
    assert code != 0
    assert "action_mask allows no action" in output


def test_a_checkpoint_of_other_spaces_is_refused_with_the_differences(tmp_path: Path) -> None:
    train(env="FrozenLake-v1", run_dir=tmp_path / "run", max_env_steps=500, **SHORT)
    code, output = run_here("evaluate", tmp_path / "run", "--env", "gymnasium:Taxi-v4")
    assert code == 4
    assert "observation_space was" in output


def test_arguments_and_wrappers_are_kept_with_the_policy(tmp_path: Path) -> None:
    kwargs = {"is_slippery": False}
    wrappers = ["gymnasium.wrappers:TimeAwareObservation"]
    options: dict[str, Any] = {"env_kwargs": kwargs, "wrappers": [], **SHORT, "max_env_steps": 8000, "workers": 2}
    summary = train(env="FrozenLake-v1", run_dir=tmp_path / "run", **options)
    assert summary.evaluation is not None
    code, output = run_here("evaluate", tmp_path / "run", "--episodes", 5, "--json")
    assert code == 0, output
    assert json.loads(output)["mean"] == summary.evaluation.mean  # every greedy episode is the same on dry ice
    options |= {"env_kwargs": (), "wrappers": wrappers, "max_env_steps": 1000}
    assert train(env="Pendulum-v1", run_dir=tmp_path / "wrapped", **options).exit_code == 0
    code, output = run_here("evaluate", tmp_path / "wrapped", "--episodes", 2)
    assert code == 0, output
