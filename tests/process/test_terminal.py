"""What happens to the terminal, and at it, while the program runs: keys, sizes, and an end of either."""

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.outcome import Outcome
from tests.chaos.signals import ctrl_c, left_behind, parent_kills
from tests.process.command import COMMAND, ESCAPE, FOREVER, ROOT, Program, assert_interrupted_and_saved, run
from tests.process.terminal import CTRL_Z, HIDE_CURSOR, SHOW_CURSOR, SUSPENDED, Job

SHORT = ("--workers", 1, "--max-env-steps", 3000, "--target-return", 501)
CLEAR = "\x1b[2J"
BROKEN_VIEW = """
import sys, run_a3c
from workers.console import screen

drawn, render = [], screen.render
def broken(status, width, height):
    drawn.append(status)
    return render(status, width, height) if len(drawn) < 3 else 1 / 0

screen.render = broken
sys.exit(run_a3c.main(sys.argv[1:]))
"""


Training = tuple[Job, Path]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """A program that draws and trains until the tests have seen enough of it, and its run directory."""
    run_dir = tmp_path_factory.mktemp("job") / "run"
    often = ("--eval-interval", 1, "--eval-episodes", 5, "--eval-share", 1)  # something happens all the time
    with Job(*FOREVER, *often, "--run-dir", run_dir) as job:
        job.until_training(run_dir)
        yield job, run_dir


def evaluations(run_dir: Path) -> int:
    return len((run_dir / "evaluations.csv").read_text().splitlines())


def status_of(run_dir: Path) -> str:
    return str(json.loads((run_dir / "summary.json").read_text())["status"])


def test_no_more_frames_than_a_person_needs(training: Training) -> None:
    """The console is redrawn a few times a second, however often something happens."""
    job, run_dir = training
    before, rows, began = job.output.count("CartPole-v1"), evaluations(run_dir), logged_seconds(run_dir)
    job.until(lambda: job.output.count("CartPole-v1") >= before + 3 and logged_seconds(run_dir) > began + 1)
    frames, seconds = job.output.count("CartPole-v1") - before, logged_seconds(run_dir) - began
    assert frames <= 10 * seconds
    assert evaluations(run_dir) - rows > frames


def logged_seconds(run_dir: Path) -> float:
    """Since the start, as of the last whole row of metrics."""
    metrics = run_dir / "metrics.csv"
    rows = metrics.read_text().split("\n")[1:-1] if metrics.exists() else []
    return float(rows[-1].split(",")[0]) if rows else 0.0


def test_a_resized_terminal_gets_frames_of_its_new_size(training: Training) -> None:
    job, _ = training
    for width, height in ((120, 40), (20, 5), (3, 2), (80, 24)):
        seen = len(job.output)
        job.resize(width, height)
        job.until(lambda seen=seen: "Ca" in job.output[seen:].partition(CLEAR)[2])  # type: ignore[misc]
        frame = ESCAPE.sub("", job.output[seen:].partition(CLEAR)[2])
        assert max(len(line) for line in re.split(r"[\r\n]+", frame)) <= width


def test_a_suspended_program_gives_the_cursor_back_and_trains_on_when_it_is_resumed(training: Training) -> None:
    job, run_dir = training
    family = job.note_family()
    job.type(CTRL_Z)
    assert job.code(10) == SUSPENDED
    assert job.cursor_is_visible
    # All but the forkserver, which sleeps anyway: the program and its resource tracker, four workers and two more.
    job.until(lambda: sum(process.status() == psutil.STATUS_STOPPED for process in family) == 8)

    seen, rows = len(job.output), evaluations(run_dir)
    job.type(b"bg\n")
    job.until(lambda: evaluations(run_dir) > rows + 2)
    assert CLEAR not in job.output[seen:]  # nothing is drawn over what the user now types at the shell
    assert HIDE_CURSOR not in job.output[seen:]

    job.type(b"fg\n")
    job.until(lambda: "CartPole-v1" in job.output[seen:].partition(CLEAR)[2])
    assert not job.cursor_is_visible
    rows = evaluations(run_dir)
    job.until(lambda: evaluations(run_dir) > rows)
    assert job.note_family() == family  # nobody was replaced


def test_a_program_can_be_suspended_again(training: Training) -> None:
    job, _ = training
    for _ in range(2):
        stops = job.codes.count(SUSPENDED)
        job.type(CTRL_Z)
        job.until(lambda stops=stops: job.codes.count(SUSPENDED) > stops)  # type: ignore[misc]
        assert job.cursor_is_visible
        job.type(b"fg\n")
        job.until(lambda: not job.cursor_is_visible)


def test_after_all_that_a_hang_up_leaves_the_terminal_as_it_was(training: Training) -> None:
    """The last of the tests that share a program."""
    job, run_dir = training
    os.killpg(job.pid, signal.SIGHUP)
    job.until(lambda: job.codes[-1:] == [129])
    assert not left_behind(job)
    assert_interrupted_and_saved(run_dir)


def test_the_smallest_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Job(*FOREVER, "--run-dir", run_dir, size=(20, 5)) as job:
        job.until_training(run_dir)
        os.killpg(job.pid, signal.SIGTERM)
        assert job.code() == 143
        assert HIDE_CURSOR in job.output  # so that there was something to give back
        assert not left_behind(job)
    assert_interrupted_and_saved(run_dir)


def test_ctrl_c_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    outcome = ctrl_c(1, tmp_path, first=1)  # twice
    assert not outcome.lost, outcome.detail
    assert outcome.fired == 1


def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    outcome = parent_kills(1, tmp_path)
    assert not outcome.lost, outcome.detail
    assert outcome.fired == 1


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [ctrl_c, parent_kills])
def test_a_hundred_moments_leave_nothing_behind(fault: Callable[[int, Path], Outcome], tmp_path: Path) -> None:
    outcome = fault(100, tmp_path)
    assert not outcome.lost, outcome.detail
    assert outcome.fired == 100


def test_a_terminal_that_goes_away_does_not_end_the_training(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    reader, output = pty.openpty()
    arguments = [*COMMAND, *map(str, SHORT), "--run-dir", str(run_dir)]
    with subprocess.Popen(
        arguments, stdin=output, stdout=output, stderr=output, start_new_session=True, cwd=ROOT
    ) as program:
        os.close(output)
        assert HIDE_CURSOR.encode() in os.read(reader, 1000)  # it draws
        os.close(reader)
        assert program.wait(60) == 0
    assert status_of(run_dir) == "budget_exhausted"


def test_closed_streams_do_not_end_the_training(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    code, output = run("-c", '"$@" >&- 2>&-', "sh", *COMMAND, *SHORT, "--run-dir", run_dir, command=["sh"])
    assert (code, output) == (0, "")
    assert status_of(run_dir) == "budget_exhausted"


def test_a_dashboard_that_breaks_shows_the_cursor_and_lets_the_training_go_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = ("-c", BROKEN_VIEW, *SHORT, "--run-dir", run_dir)
    with Program(*arguments, size=(80, 24), command=COMMAND[:1]) as program:
        assert program.wait(60) == 0
    broke = program.output.index("the dashboard failed (ZeroDivisionError")
    assert HIDE_CURSOR in program.output[:broke]
    assert HIDE_CURSOR not in program.output[broke:]
    assert program.output[:broke].count(SHOW_CURSOR) == 1
    assert "budget" in program.text[program.text.index("the dashboard failed") :]
    assert status_of(run_dir) == "budget_exhausted"
