"""A disk that fails while a run goes on: the user is told, training is not stopped, and what was saved stays whole."""

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil

from a3c.checkpoint import load_training
from tests.chaos.resuming import rows
from tests.process.command import FOREVER, Program, run_here

OFTEN = ("--checkpoint-interval", 0.1, "--eval-episodes", 5)
SHORT = ("--target-return", 501, "--max-env-steps", 3000, "--eval-episodes", 5)
SLOW_DISK = """
import multiprocessing, os, time
sync = os.fsync

def slow(descriptor):
    if multiprocessing.parent_process() is not None:
        time.sleep(1)
    sync(descriptor)

os.fsync = slow
"""


def events(run_dir: Path, kind: str) -> list[str]:
    """What has been told of one kind so far; a line that is being written is left out."""
    lines = (run_dir / "events.jsonl").read_text().split("\n")[:-1]
    return [event["message"] for event in map(json.loads, lines) if event["kind"] == kind]


def saves(run_dir: Path) -> int:
    return sum("latest" in message for message in events(run_dir, "checkpointed"))


def summary(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "summary.json").read_bytes())
    return content


def checkpointer(program: Program) -> psutil.Process:
    """The process that writes checkpoints: the one that logs as such."""
    processes = {os.path.basename(os.readlink(f"/proc/{one.pid}/fd/1")): one for one in program.workers()}
    return processes["checkpointer.log"]


def limit_files(process: psutil.Process, size: int) -> None:
    """Let no file that a process writes become larger than `size` bytes, as where a disk is full."""
    process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def until_next_save(program: Program, run_dir: Path) -> None:
    before = saves(run_dir)
    program.until(lambda: saves(run_dir) > before)


def until_next_refusal(program: Program, run_dir: Path, reason: str) -> None:
    before = len(events(run_dir, "unsaved"))
    program.until(lambda: any(reason in message for message in events(run_dir, "unsaved")[before:]))


def test_a_run_outlives_a_full_disk_and_a_checkpoint_directory_that_goes_and_comes_back(tmp_path: Path) -> None:
    run_dir, away = tmp_path / "run", tmp_path / "away"
    checkpoints = run_dir / "checkpoints"
    with Program(*FOREVER, *OFTEN, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        until_next_save(program, run_dir)

        limit_files(checkpointer(program), 20_000)
        until_next_refusal(program, run_dir, "File too large")
        until_next_refusal(program, run_dir, "File too large")
        full = load_training(run_dir)[0]
        assert full.skipped == () and not list(checkpoints.glob(".*"))
        trained = int(rows(run_dir / "metrics.csv")[-1]["env_steps"])
        program.until(lambda: int(rows(run_dir / "metrics.csv")[-1]["env_steps"]) > trained + 1000)
        limit_files(checkpointer(program), resource.RLIM_INFINITY)
        until_next_save(program, run_dir)

        checkpoints.rename(away)
        until_next_refusal(program, run_dir, "No such file or directory; the checkpoint before it stands")
        checkpoints.touch()
        until_next_refusal(program, run_dir, "Not a directory")
        gone = load_training(away)[0]
        checkpoints.unlink()
        (away / f".latest.json.{2**22 + 1}.tmp").write_text("left by a process that died")  # no pid is as large
        away.rename(checkpoints)
        until_next_save(program, run_dir)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130, program.text
    assert not list(checkpoints.glob(".*"))
    assert gone.skipped == () and gone.manifest["env_steps"] > full.manifest["env_steps"]
    assert load_training(run_dir)[0].manifest["env_steps"] > gone.manifest["env_steps"]
    assert summary(run_dir)["faults"]["failed_saves"] >= 4
    assert "File too large" in program.text and "No such file or directory" in program.text


def test_a_run_whose_last_save_fails_says_so_and_exits_with_74(tmp_path: Path) -> None:
    run_dir, away = tmp_path / "run", tmp_path / "away"
    arguments = ("--target-return", 501, "--max-env-steps", 30_000, *OFTEN)
    with Program(*arguments, "--run-dir", run_dir) as program:
        program.until(lambda: (run_dir / "checkpoints" / "latest.json").exists())
        (run_dir / "checkpoints").rename(away)
        assert program.wait() == 74, program.text
    assert summary(run_dir)["status"] == "failed" and "the last checkpoint cannot be written" in program.text
    assert "Traceback" in (run_dir / "logs" / "checkpointer.log").read_text()
    assert load_training(away)[0].skipped == ()


def test_tables_that_cannot_be_written_do_not_end_a_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("metrics.csv", "evaluations.csv", "events.jsonl"):
        (run_dir / name).symlink_to("/dev/full")
    code, output = run_here(*SHORT, "--run-dir", run_dir)
    assert code == 74, output
    assert summary(run_dir)["status"] == "budget_exhausted" and summary(run_dir)["env_steps"] >= 3000
    assert load_training(run_dir)[0].manifest["env_steps"] >= 3000
    assert "evaluations.csv: No space left on device" in output
    assert output.count("events.jsonl: cannot be written: No space left on device") == 1, output


def test_a_slow_disk_does_not_stop_the_workers(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    run_dir, environment = tmp_path / "run", {"PYTHONPATH": str(tmp_path)}
    checkpoints, metrics = run_dir / "checkpoints", run_dir / "metrics.csv"
    with Program(*FOREVER, *OFTEN, "--run-dir", run_dir, environment=environment) as program:
        program.until(lambda: any(path.name.startswith(".") for path in checkpoints.glob(".*")))
        saving = next(checkpoints.glob(".*"))  # for a second, at least
        trained = int(rows(metrics)[-1]["env_steps"])
        while saving.exists():
            assert program.process.poll() is None
        assert int(rows(metrics)[-1]["env_steps"]) > trained + 500
    shutil.rmtree(run_dir)
