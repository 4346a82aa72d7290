"""What is wrong is said in one line before any process starts; exit code 2, or 4 for a checkpoint.

The same of whole commands is in test_bad_configurations.py.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import run_a3c
from tests.process.command import COMMAND, FOREVER, ROOT, Program

BAD_OPTIONS = [
    (["--worker", "4"], "unknown option '--worker'; did you mean --workers"),
    (["--workers", "0"], "workers: must be at least 1"),
    (["--workers", "-3"], "workers: must be at least 1"),
    (["--workers", "four"], "argument --workers: invalid int value: 'four'"),
    (["--workers"], "argument --workers: expected one argument"),
    (["--gamma", "1.5"], "gamma: must be at most 1"),
    (["--gamma", "nan"], "gamma: must be a finite number"),
    (["--learning-rate", "inf"], "learning_rate: must be a finite number"),
    (["--learning-rate", "0"], "learning_rate: must be above 0"),
    (["--adam-beta1", "1"], "adam_beta1: must be below 1"),
    (["--hidden-sizes", "64", "0"], "hidden_sizes: must be at least 1"),
    (["--optimizer", "lion"], "optimizer: must be one of adam, rmsprop"),
    (["--mode", "sinc"], "mode: must be one of"),
    (["--mode", "sync", "--workers", "101"], "workers: at most 100 in sync mode"),
    (["--dashboard", "maybe"], "dashboard: must be one of auto, on, off, got 'maybe'"),
    (["--seed", "-1"], "seed: must be at least 0"),
    (["--env", "CartPool-v1"], "unknown environment 'CartPool-v1'; did you mean CartPole-v1"),
    (["--env", "Pendulum-v1", "--env-kwargs", "g"], "expected NAME=VALUE, got 'g'"),
    (["--env", "Pendulum-v1", "--wrappers", "nowhere:Nothing"], "'nowhere:Nothing' cannot be imported"),
    (["--preset", "CartPol-v1"], "unknown preset 'CartPol-v1'; did you mean CartPole-v1"),
    (["--env", "nowhere:Nothing-v0"], "No module named 'nowhere'"),
    (["--run-dir", "/dev/null/run"], "run_dir: '/dev/null/run' cannot be written"),
    (["trian"], "did you mean train"),
    (["evaluate", "/nowhere", "--episodes", "0"], "must be at least 1"),
]


Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, code: int, *arguments: object) -> str:
    """The line that says why a command was not followed."""
    assert run_a3c.main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1, printed.err
    return printed.err


def test_a_bad_option_is_named_in_one_line(capsys: Capture) -> None:
    for arguments, message in BAD_OPTIONS:
        assert message in refused(capsys, 2, *arguments)


def test_a_bad_option_leaves_no_run_directory(tmp_path: Path, capsys: Capture) -> None:
    run_dir = tmp_path / "run"
    refused(capsys, 2, "--run-dir", run_dir, "--env", "Nothing-v0")
    refused(capsys, 2, "--run-dir", run_dir, "--workers", 0)
    assert not run_dir.exists()


def test_a_run_directory_that_holds_a_run_is_left_alone(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "already holds a run" in refused(capsys, 2, "--run-dir", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_directory_in_use_names_its_owner(tmp_path: Path, capsys: Capture) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--workers", 1, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        assert f"is in use by process {program.process.pid}" in refused(capsys, 2, "--run-dir", run_dir)
        assert program.process.poll() is None


def test_help_is_shown_by_the_command_itself() -> None:
    for arguments in ([], ["train"]):
        result = subprocess.run([*COMMAND, *arguments, "--help"], capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert result.returncode == 0
        assert result.stdout.startswith("usage: run_a3c.py") and not result.stderr


def test_a_damaged_checkpoint_is_refused_in_one_line(solved_run: Any, tmp_path: Path, capsys: Capture) -> None:
    for damage in ("missing", "not json", "no weights", "flipped", "cut", "other shapes"):
        best = json.loads((solved_run[0] / "checkpoints" / "best.json").read_text())
        weights = bytearray((solved_run[0] / "checkpoints" / best["weights"]["file"]).read_bytes())
        folder = tmp_path / damage
        folder.mkdir()
        if damage == "flipped":
            weights[len(weights) // 2] ^= 1
        if damage == "cut":
            weights = weights[:-7]
        if damage == "other shapes":
            best["network"]["hidden_sizes"] = [64, 64]
        if damage != "missing":
            (folder / "best.json").write_text("{" if damage == "not json" else json.dumps(best))
        if damage != "no weights":
            (folder / best["weights"]["file"]).write_bytes(weights)
        assert str(folder) in refused(capsys, 4, "evaluate", folder), damage
