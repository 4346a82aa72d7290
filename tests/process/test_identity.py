"""A run whose environment is the user's own: found, trained on and used later without a word more."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import run_a3c
from a3c import load_policy
from a3c.checkpoint import save_checkpoint
from tests.process.command import COMMAND, ROOT, run, run_here
from tests.process.odd import MODULE
from tests.unit.networks import mlp

SHORT = ("--workers", 2, "--max-env-steps", 3000, "--eval-episodes", 5)
ISLAND = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Island(CartPoleEnv):
    pass

gymnasium.register("Island-v0", Island, max_episode_steps=20)
"""


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module and a run of its environment, trained from there by a program that lies elsewhere."""
    folder = tmp_path_factory.mktemp("island")
    (folder / "island.py").write_text(ISLAND)
    code, output = run("--env", "island:Island-v0", *SHORT, "--run-dir", "run", cwd=folder)
    assert code == 0, output
    return folder


COMMANDS = """
import sys
sys.path.append({root!r})
import gymnasium
import run_a3c

paths = list(sys.path)
for command in (
    "evaluate run --episodes 2",
    "play run --episodes 1 --render text",
    "export run --episodes 2",
    "resume run --max-env-steps 4000",
):
    assert "island" not in sys.modules
    assert run_a3c.main(command.split()) == 0, command
    sys.path[:] = paths  # none finds what another one has left
    del sys.modules["island"], gymnasium.registry["Island-v0"]
"""


def test_a_module_of_the_current_folder_need_not_be_named_again(island: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(COMMANDS.format(root=str(ROOT)))
    code, output = run(tmp_path / "elsewhere.py", command=[sys.executable], cwd=island)
    assert code == 0, output


def test_every_file_of_a_run_keeps_the_module(island: Path) -> None:
    for file in ("checkpoints/latest.json", "summary.json"):
        assert json.loads((island / "run" / file).read_text())["env_id"] == "island:Island-v0"


def test_a_module_that_is_not_here_is_one_line(island: Path, tmp_path: Path) -> None:
    code, output = run("evaluate", island / "run", cwd=tmp_path)
    assert code == 2
    assert len(output.splitlines()) == 1 and "No module named 'island'" in output


REGISTERING = """
import gymnasium
gymnasium.register("Shore-v0", "island:Island", max_episode_steps=20)
from workers import train
if __name__ == "__main__":
    train(env="Shore-v0", workers=1, max_env_steps=2000, eval_episodes=5, run_dir="shore", dashboard="off")
"""


@pytest.mark.long
def test_a_run_of_an_id_that_a_script_registered_is_found_by_its_entry_point(island: Path) -> None:
    (island / "script.py").write_text(REGISTERING)
    subprocess.run([sys.executable, "script.py"], cwd=island, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    for command in (("evaluate", "shore", "--episodes", 2), ("resume", "shore", "--max-env-steps", 3000)):
        code, output = run(*command, cwd=island)
        assert code == 0, output


def test_an_id_that_nobody_knows_is_one_line_that_says_how_to_name_it(tmp_path: Path) -> None:
    facts = {"env_id": "Shore-v0", "max_episode_steps": 20, "updates": 3}
    save_checkpoint(tmp_path, "best", mlp(3, 3, [4]), facts)
    code, output = run_here("evaluate", tmp_path)
    assert code == 2
    assert len(output.splitlines()) == 1 and "--env module:Shore-v0" in output
    code, output = run_here("evaluate", tmp_path, "--episodes", 2, "--env", f"{MODULE}:StartOne-v0")
    assert code == 0, output


@pytest.fixture(scope="module")
def start_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("start") / "run"
    code, output = run_here("--env", f"{MODULE}:StartOne-v0", *SHORT, "--max-env-steps", 8000, "--run-dir", run_dir)
    assert code == 0, output
    return run_dir


def test_a_loaded_policy_takes_the_environments_own_actions(start_one: Path) -> None:
    policy, environment = load_policy(start_one), gymnasium.make("StartOne-v0")
    observation, _ = environment.reset(seed=0)
    assert sum(float(environment.step(int(policy(observation[None])[0]))[1]) for _ in range(20)) == 20


def test_a_warning_tells_of_an_untrained_policy_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"env_id": "CartPole-v1", "max_episode_steps": 20, "updates": 0}
    save_checkpoint(tmp_path, "best", mlp(4, 2, [4]), facts)
    assert run_a3c.main(["evaluate", str(tmp_path), "--json"]) == 0
    output, errors = capsys.readouterr()
    assert json.loads(output)["episodes"] == 100
    assert errors == f"run_a3c.py: warning: {tmp_path}/best.json is an untrained policy, of 0 updates\n"


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_standard_output_is_the_commands_whatever_an_environment_prints(command: str, tmp_path: Path) -> None:
    facts = {"env_id": f"{MODULE}:Talks-v0", "max_episode_steps": 20, "updates": 3}
    save_checkpoint(tmp_path, "best", mlp(3, 3, [4]), facts)
    arguments = {
        "evaluate": ["evaluate", tmp_path, "--json", "--episodes", 2],
        "train": ["--env", f"{MODULE}:Talks-v0", *SHORT, "--run-dir", tmp_path / "run"],
    }[command]
    result = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "python:" not in result.stdout and "c:" not in result.stdout
    for call in ("made", "reset", "step", "closed"):
        assert f"python: {call}\n" in result.stderr and f"c: {call}\n" in result.stderr
    if command == "evaluate":
        assert json.loads(result.stdout)["episodes"] == 2


def test_numbers_that_are_not_finite_are_null_in_json_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"env_id": f"{MODULE}:PaysNothingKnown-v0", "max_episode_steps": 20, "updates": 3}
    save_checkpoint(tmp_path, "best", mlp(3, 3, [4]), facts)
    results = []
    for more in ([], ["--json"]):
        assert run_a3c.main(["evaluate", str(tmp_path), "--episodes", "2", *more]) == 0
        results.append(capsys.readouterr())
    plain, as_json = results
    assert "nan" in plain.out
    statistics = json.loads(as_json.out, parse_constant=pytest.fail)
    assert [statistics[name] for name in ("mean", "std", "min", "max", "mean_length")] == [None] * 4 + [20]
    for result in results:
        assert result.err == (
            "run_a3c.py: warning: the returns of 2 of 2 episodes are not finite; check the environment's rewards\n"
        )
