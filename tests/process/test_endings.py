"""How a run ends when it does not end by itself: signals, kills."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from a3c import load_policy
from tests.process.command import COMMAND, FOREVER, Program


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_a_checkpoint_and_leaves_nobody(tmp_path: Path, number: signal.Signals, code: int) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir, size=(80, 24)) as program:
        program.until_training(run_dir)
        asked = time.monotonic()
        os.killpg(program.process.pid, number)  # as a terminal does, and `timeout`
        assert program.wait(10) == code
        assert time.monotonic() - asked < 5
        program.assert_nobody_left()
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert load_policy(run_dir / summary["checkpoint"])
    assert load_policy(run_dir / "checkpoints" / "latest.json")
    assert "Traceback" not in program.text
    assert program.output.rindex("\x1b[?25h") > program.output.rindex("\x1b[?25l")


def test_an_interrupt_before_training_is_no_traceback(tmp_path: Path) -> None:
    with Program(*FOREVER, "--run-dir", tmp_path / "run") as program:
        program.until(lambda: (tmp_path / "run" / "events.jsonl").exists())
        program.note_family()
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait(10) == 130
        program.assert_nobody_left()
    assert "Traceback" not in program.text


def test_a_hang_up_that_nohup_ignores_does_not_end_the_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir, command=["nohup", *COMMAND]) as program:
        program.until_training(run_dir)
        evaluations = run_dir / "evaluations.csv"
        seen = len(evaluations.read_text().splitlines())
        os.killpg(program.process.pid, signal.SIGHUP)
        program.until(lambda: len(evaluations.read_text().splitlines()) > seen + 2)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait(10) == 130


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        for worker in program.workers():
            worker.suspend()  # nobody follows the first request
        os.killpg(program.process.pid, signal.SIGINT)
        program.until(lambda: "interrupted" in (run_dir / "events.jsonl").read_text())
        asked = time.monotonic()
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait(10) == 130
        assert time.monotonic() - asked < 1.5
        program.assert_nobody_left()
    assert "Traceback" not in program.text


def test_a_worker_that_does_not_stop_is_ended_in_time(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.workers()[0].suspend()
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait(10) == 130
        program.assert_nobody_left()


def test_a_killed_worker_that_may_not_be_replaced_ends_the_run_by_its_name(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir, "--max-restarts", 0) as program:
        program.until_training(run_dir)
        program.workers()[1].kill()
        assert program.wait(10) == 3
        program.assert_nobody_left()
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert re.search(r"^(worker-\d|monitor) died: killed by SIGKILL; the budget of 0 restarts ", summary["reason"])
    assert summary["worker_restarts"] == 0
    assert summary["reason"] in program.text


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        assert len(program.family) >= 6  # forkserver, four workers, monitor
        program.process.kill()
        program.wait(10)
        program.assert_nobody_left(5)
