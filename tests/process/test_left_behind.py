"""What an environment starts, prints or leaves, and what a user does after a run: none of it is in the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.process.command import FOREVER, ROOT, Program, run_here
from workers.processes.child import LARGEST_LOG

ENVIRONMENTS = """
import os, subprocess, sys, threading, time
import gymnasium
import numpy as np

class Plain(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        return np.zeros(2, np.float32), float(action), False, False, {}

class Simulator(Plain):
    # Started for every environment; close() asks it to end and waits for that.
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(os.environ["SIMULATORS"], "a") as file:
            file.write(f"{self.process.pid}\\n")
    def close(self):
        self.process.terminate()
        self.process.wait()

class Forgetful(Simulator):
    def close(self):
        pass

class Threaded(Plain):
    def __init__(self):
        threading.Thread(target=time.sleep, args=(600,)).start()

class Loud(Plain):
    def step(self, action):
        print("x" * 100_000)
        return super().step(action)

for one in (Simulator, Forgetful, Threaded, Loud):
    gymnasium.register(f"{one.__name__}-v0", f"leaving:{one.__name__}", max_episode_steps=20)
"""
SHORT = ("--workers", 2, "--max-env-steps", 600, "--n-steps", 16, "--eval-episodes", 2, "--eval-interval", 300)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "leaving.py").write_text(ENVIRONMENTS)
    return tmp_path


def variables(lab: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(lab), "SIMULATORS": str(lab / "simulators")}


def simulators(lab: Path) -> list[int]:
    path = lab / "simulators"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def ends(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pids)


@pytest.mark.parametrize("name", ["Simulator", "Forgetful"])
def test_a_simulator_ends_with_its_environment_or_else_with_its_worker(name: str, lab: Path) -> None:
    arguments = ("--env", f"leaving:{name}-v0", *SHORT, "--run-dir", lab / "run")
    with Program(*arguments, environment=variables(lab)) as program:
        assert program.process.wait(60) == 0, program.text  # a simulator that is forgotten keeps the pipe open
        assert len(simulators(lab)) >= 4  # of two workers, the look before the start, and evaluations
        assert len(alive(simulators(lab))) <= (name == "Forgetful")  # the look's own is the user's to close


def test_a_simulator_does_not_outlive_a_killed_process(lab: Path) -> None:
    arguments = (
        *FOREVER,
        "--envs-per-worker",
        1,
        "--env",
        "leaving:Simulator-v0",
        "--workers",
        2,
        "--eval-episodes",
        0,
        "--run-dir",
        lab / "run",
    )
    with Program(*arguments, environment=variables(lab)) as program:
        program.until(lambda: len(alive(simulators(lab)[1:])) == 2)
        victim = simulators(lab)[1]
        os.kill(psutil.Process(victim).ppid(), signal.SIGKILL)
        assert ends([victim])
        program.until(lambda: len(alive(simulators(lab)[1:])) == 2)
        program.process.kill()
        assert ends(simulators(lab)[1:])


def test_a_thread_that_an_environment_leaves_keeps_no_run_from_ending(lab: Path) -> None:
    arguments = ("--env", "leaving:Threaded-v0", *SHORT, "--run-dir", lab / "run")
    with Program(*arguments, environment=variables(lab)) as program:
        assert program.wait(60) == 0, program.text


def test_logs_of_an_environment_that_prints_stay_bounded(lab: Path) -> None:
    arguments = (*FOREVER, "--env", "leaving:Loud-v0", "--workers", 1, "--eval-episodes", 0, "--run-dir", lab / "run")
    with Program(*arguments, environment=variables(lab)) as program:
        log = lab / "run" / "logs" / "worker-0.log"
        sizes: list[int] = []

        def is_shortened() -> bool:
            sizes.append(log.stat().st_size if log.exists() else 0)
            return len(sizes) > 1 and sizes[-1] < sizes[-2]

        for _ in range(2):
            program.until(is_shortened)
        with open(log, "rb") as file:
            assert file.readline() == b"(the beginning of this log was dropped)\n"
        assert max(sizes) > LARGEST_LOG // 2


def test_without_evaluations_a_run_is_saved_and_resumed(tmp_path: Path) -> None:
    arguments = ("--workers", 2, "--eval-episodes", 0, "--max-env-steps", 2000, "--run-dir", tmp_path / "run")
    code, output = run_here(*arguments)
    assert code == 0 and "no evaluations" in output
    assert not (tmp_path / "run" / "checkpoints" / "best.json").exists()
    code, output = run_here("resume", tmp_path / "run", "--max-env-steps", 4000)
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert code == 0 and summary["env_steps"] >= 4000 and summary["evaluation"] is None


def test_sigusr1_saves_a_checkpoint_and_training_goes_on(tmp_path: Path) -> None:
    latest = tmp_path / "run" / "checkpoints" / "latest.json"
    with Program(*FOREVER, "--workers", 2, "--checkpoint-interval", 1000, "--run-dir", tmp_path / "run") as program:
        program.until_training(tmp_path / "run")
        assert not latest.exists()
        for _ in range(2):
            before = latest.stat().st_mtime_ns if latest.exists() else 0
            program.process.send_signal(signal.SIGUSR1)
            program.until(lambda before=before: latest.exists() and latest.stat().st_mtime_ns > before)  # type: ignore[misc]
        assert program.process.poll() is None


SCRIPT = """
import multiprocessing, signal, time
from workers import train

def work():
    time.sleep(60)

if __name__ == "__main__":
    train(workers=1, max_env_steps=500, eval_episodes=0, run_dir={run_dir!r}, dashboard="off")
    process = multiprocessing.get_context("forkserver").Process(target=work)
    process.start()
    time.sleep(0.2)
    process.terminate()
    process.join(10)
    print("ended by", process.exitcode, "blocked", signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.long
def test_the_users_own_processes_take_signals_after_a_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(run_dir=str(tmp_path / "run")))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"ended by -{int(signal.SIGTERM)} blocked set()", done.stderr


TWO_RUNS = """
import os
from workers import train
for gain in ("1", "2"):
    os.environ["GAIN"] = gain
    options = dict(workers=1, max_env_steps=200, eval_episodes=1, dashboard="off")
    train(env="paying:Paying-v0", run_dir={folder!r} + gain, **options)
"""
PAYING = (
    ENVIRONMENTS.split("class Simulator")[0]
    + """
class Paying(Plain):
    def step(self, action):
        return np.zeros(2, np.float32), float(os.environ["GAIN"]), False, False, {}
gymnasium.register("Paying-v0", "paying:Paying", max_episode_steps=20)
"""
)


@pytest.mark.long
def test_environment_variables_that_change_between_two_runs_are_seen_by_the_second(tmp_path: Path) -> None:
    (tmp_path / "paying.py").write_text(PAYING)
    script = tmp_path / "script.py"  # without a main guard: its environment is in a module
    script.write_text(TWO_RUNS.format(folder=str(tmp_path / "run-")))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    means = [
        json.loads((tmp_path / f"run-{gain}" / "summary.json").read_bytes())["evaluation"]["mean"] for gain in "12"
    ]
    assert means == [20, 40]
