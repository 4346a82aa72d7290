"""What every process of a run would stumble over is one line before any of them is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.command import ROOT, run
from tests.process.odd import MODULE

MINE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
from workers import train

class Mine(CartPoleEnv):
    pass

gymnasium.register("Mine-v0", Mine, max_episode_steps=20)

def go(env="Mine-v0"):
    settings = dict(workers=1, max_env_steps=1000, eval_episodes=5, target_return=501.0, dashboard="off")
    print("ended:", train(env=env, run_dir="run", **settings).status)

"""
GUARD = 'if __name__ == "__main__":\n    '


def python(*arguments: str, folder: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the user's own, which imports ours."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], input=code, capture_output=True, text=True, timeout=100, cwd=folder, env=variables
    )


def refusal(result: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The one line of an error that ended a program before anything was begun."""
    assert result.returncode == 1
    assert "run" not in {path.name for path in folder.iterdir()}
    assert result.stderr.count("Traceback") == 1
    return result.stderr.splitlines()[-1]


def test_a_fault_of_the_environment_leaves_no_run_directory(tmp_path: Path) -> None:
    code, output = run("--env", f"{MODULE}:OldStep-v0", "--run-dir", tmp_path / "run")
    assert code == 2
    assert len(output.splitlines()) == 1
    assert "fails in step: " in output and "step must return the five values" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("way", ["-c", "-"])
def test_a_class_of_a_session_without_a_file_is_refused(way: str, tmp_path: Path) -> None:
    code = f"{MINE}go()\n"
    result = python("-c", code, folder=tmp_path) if way == "-c" else python("-", folder=tmp_path, code=code)
    assert "its code is only in this session; put it into a module" in refusal(result, tmp_path)


def test_a_scripts_own_class_needs_its_call_under_a_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"{MINE}go()\n")
    line = MINE.count("\n") + 1
    assert f"they import script.py, whose line {line} would begin a run" in refusal(
        python("script.py", folder=tmp_path), tmp_path
    )


def test_so_does_a_call_from_a_thread(tmp_path: Path) -> None:
    threaded = "import threading\nthread = threading.Thread(target=go)\nthread.start()\nthread.join()\n"
    (tmp_path / "script.py").write_text(f"{MINE}{threaded}")
    result = python("script.py", folder=tmp_path)
    assert "they import script.py, whose line" in result.stderr
    assert not (tmp_path / "run").exists()


def test_with_a_guard_a_scripts_own_class_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"{MINE}{GUARD}go()\n")
    result = python("script.py", folder=tmp_path)
    assert result.stdout.splitlines()[-1] == "ended: budget_exhausted", result.stderr


def test_a_process_that_may_have_no_children_is_told_so(tmp_path: Path) -> None:
    pool = "from multiprocessing import get_context\n    get_context('spawn').Pool(1).map(go, ['CartPole-v1'])\n"
    (tmp_path / "script.py").write_text(f"{MINE}{GUARD}{pool}")
    result = python("script.py", folder=tmp_path)
    assert result.stderr.splitlines()[-1].startswith("a3c.config.ConfigError: workers: this process may not start any")
    assert not (tmp_path / "run").exists()
