"""How a run ends when it does not end by itself: signals, kills. Those at a terminal are in test_terminal.py."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process.command import COMMAND, FOREVER, Program, assert_interrupted_and_saved, run_here
from workers.supervisor import STOP_SECONDS

MORE = 3000  # env steps of a run that is gone on with


def test_an_interrupt_saves_a_checkpoint_and_leaves_nobody(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir, size=(80, 24)) as program:
        program.until_training(run_dir)
        os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does, and `timeout`
        assert program.wait() == 130
        program.assert_nobody_left()
    assert seconds_between(run_dir, "interrupted", "stopped") < STOP_SECONDS  # nobody had to be killed
    assert_interrupted_and_saved(run_dir)
    assert "Traceback" not in program.text
    assert program.output.rindex("\x1b[?25h") > program.output.rindex("\x1b[?25l")


def test_an_interrupt_before_training_is_no_traceback(tmp_path: Path) -> None:
    with Program(*FOREVER, "--run-dir", tmp_path / "run") as program:
        program.until(lambda: (tmp_path / "run" / "events.jsonl").exists() and bool(program.note_family()))
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
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
        assert program.wait() == 130


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        for worker in program.workers():
            worker.suspend()  # nobody follows the first request
        os.killpg(program.process.pid, signal.SIGINT)
        program.until(lambda: "interrupted" in (run_dir / "events.jsonl").read_text())
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
        program.assert_nobody_left()
    assert seconds_between(run_dir, "interrupted", "stopped") < STOP_SECONDS
    assert "Traceback" not in program.text


def seconds_between(run_dir: Path, first: str, second: str) -> float:
    """Between two kinds of events, by the run's own clock."""
    events = map(json.loads, (run_dir / "events.jsonl").read_text().splitlines())
    moments = {event["kind"]: event["seconds"] for event in events}
    return float(moments[second] - moments[first])


def test_a_worker_that_does_not_stop_is_ended_in_time(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.workers()[0].suspend()
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
        program.assert_nobody_left()
    assert STOP_SECONDS <= seconds_between(run_dir, "interrupted", "stopped") < 3 * STOP_SECONDS


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A run one of whose workers was killed and could not be replaced: its directory, its output, its summary."""
    run_dir = tmp_path_factory.mktemp("failed") / "run"
    arguments = (*FOREVER, "--max-restarts", 0, "--checkpoint-interval", 0.1, "--eval-episodes", 10)
    with Program(*arguments, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        program.until((run_dir / "checkpoints" / "latest.json").exists)
        program.workers()[1].kill()
        assert program.wait() == 3, program.text
        program.assert_nobody_left()
    return run_dir, program.text, json.loads((run_dir / "summary.json").read_text())


def test_a_killed_worker_that_may_not_be_replaced_ends_the_run_by_its_name(
    failed: tuple[Path, str, dict[str, Any]],
) -> None:
    _, output, summary = failed
    assert summary["status"] == "failed"
    assert re.search(r"^(worker-\d|monitor) died: killed by SIGKILL; the budget of 0 restarts ", summary["reason"])
    assert summary["worker_restarts"] == 0
    assert summary["reason"] in output


def test_a_run_that_failed_can_be_gone_on_with(failed: tuple[Path, str, dict[str, Any]]) -> None:
    run_dir, _, before = failed
    budget = before["env_steps"] + MORE
    code, output = run_here("resume", run_dir, "--max-env-steps", budget)
    assert code == 0, output
    after = json.loads((run_dir / "summary.json").read_text())
    assert after["status"] == "budget_exhausted" and after["env_steps"] >= budget


@pytest.mark.long  # test_terminal.py kills one parent, test_border.py looks at every kind of child
def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Program(*FOREVER, "--run-dir", run_dir) as program:
        program.until_training(run_dir)
        assert len(program.family) >= 6  # forkserver, four workers, monitor
        program.process.kill()
        program.wait()
        program.assert_nobody_left(5)
