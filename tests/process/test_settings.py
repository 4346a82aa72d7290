"""What an environment, or the script that trains, sets for the whole process, does not reach the algorithm."""

import json
import sys
from pathlib import Path

import pytest

from tests.process.command import Program, run, run_here

ENVIRONMENT = """
import os, random, warnings
import gymnasium, numpy as np, torch
from gymnasium.envs.classic_control import CartPoleEnv

def settings():
    if os.environ.get("SETTINGS"):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        np.seterr(all="raise")
        warnings.simplefilter("error")
        np.random.seed(0)
        random.seed(0)

class Settings(CartPoleEnv):
    def __init__(self, **options):
        settings()
        super().__init__(**options)

    def reset(self, **options):
        settings()
        return super().reset(**options)

    def step(self, action):
        settings()
        observation, reward, *others = super().step(action)
        np.seterr(all="raise")
        return observation, reward, *others

settings()
gymnasium.register("Settings-v0", Settings, max_episode_steps=500, reward_threshold=475)
"""
SHORT = ("--env", "setting_environment:Settings-v0", "--max-env-steps", 3000, "--target-return", 501)
SHORT = (*SHORT, "--eval-episodes", 5, "--eval-interval", 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "setting_environment.py").write_text(ENVIRONMENT)
    return folder


def trained(folder: Path, name: str, *arguments: object, **variables: str) -> dict[str, object]:
    variables |= {"PYTHONPATH": str(folder)}
    code, output = run(*SHORT, *arguments, "--run-dir", folder / name, environment=variables)
    assert code == 0, output
    return json.loads((folder / name / "summary.json").read_text())


def plain(folder: Path, *arguments: object) -> dict[str, object]:
    """The same where nothing is set, which this process survives."""
    run_dir = folder / f"plain-{len(arguments)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        code, output = run_here(*SHORT, *arguments, "--run-dir", run_dir)
    assert code == 0, output
    return json.loads((run_dir / "summary.json").read_text())


def test_settings_of_an_environment_change_no_bit_of_a_run(folder: Path) -> None:
    arguments = ("--workers", 2, "--mode", "sync", "--optimizer", "rmsprop", "--gradients", "autograd")
    undisturbed = plain(folder, *arguments)
    changed = trained(folder, "changed", *arguments, "--max-restarts", 0, SETTINGS="yes")
    assert undisturbed["state_sha256"] and changed["state_sha256"] == undisturbed["state_sha256"]
    assert changed["faults"] == undisturbed["faults"]


def test_settings_of_the_script_that_trains_change_no_bit_of_a_run(folder: Path) -> None:
    """The children import the script again, and with it what it sets."""
    options = "env='setting_environment:Settings-v0', workers=1, max_env_steps=3000, target_return=501"
    options += ", eval_episodes=5, eval_interval=1000, max_restarts=0, dashboard='off'"
    script = folder / "script.py"
    lines = [
        "import setting_environment, numpy as np",
        "from workers import resume, train",
        "from a3c import load_policy",
        "if __name__ == '__main__':",
        f"    print('STATE', train({options}, run_dir='one').state_sha256)",
        "    resume('one', max_env_steps=4000, dashboard='off')",
        "    print('ACTIONS', load_policy('one').probabilities(np.full((2, 4), 1e3)).sum().round(3))",
    ]
    script.write_text("\n".join(lines))
    variables = {"PYTHONPATH": f"{folder}:{Path(__file__).resolve().parents[2]}", "SETTINGS": "yes"}
    with Program(command=[sys.executable, str(script)], environment=variables, cwd=folder) as program:
        assert program.wait() == 0, program.text
        output = program.text
    assert f"STATE {plain(folder, '--workers', 1)['state_sha256']}" in output
    assert "ACTIONS 2.0" in output
