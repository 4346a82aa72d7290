"""Processes that are killed or stopped are replaced, and the run goes on: every one of them, in every mode."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from tests.chaos.supervision import WatchedRun, false_alarms, never_decreases, worker_kills, worker_stops
from tests.process.command import FOREVER

QUICK = ("--eval-episodes", 5)


def column(run_dir: Path, file: str, name: str) -> list[int]:
    """A counter as it went up, or should have."""
    return [int(row[name]) for row in csv.DictReader((run_dir / file).open())]


def kill(run: WatchedRun, name: str) -> str:
    """Kill whoever fills a place and wait for the successor's first step; what was told of the death."""
    pid = run.working()[name]
    os.kill(pid, signal.SIGKILL)
    run.until_replaced(pid)
    return run.death(pid)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> WatchedRun:
    """A run to the end whose monitor and two of whose workers were killed, the monitor twice."""
    arguments = ("--env-latency-ms", 0.7, "--checkpoint-interval", 0.2)
    with WatchedRun(tmp_path_factory.mktemp("killed"), "Watched", *arguments) as run:
        run.until_all_work()
        run.until(lambda: "checkpoints/best.json" in run.events("checkpointed"))
        for name in ("monitor", "worker-1", "monitor", "worker-3"):
            assert "SIGKILL" in kill(run, name)
        assert not (loss := run.not_solved()), loss
    return run


def test_killed_workers_are_replaced_and_the_run_still_solves(killed: WatchedRun) -> None:
    summary = killed.summary()
    assert summary["status"] == "solved"
    assert summary["worker_restarts"] == summary["faults"]["worker_restarts"] == 2


def test_a_replacement_goes_on_counting(killed: WatchedRun) -> None:
    for name in ("env_steps", "updates"):
        counts = column(killed.run_dir, "metrics.csv", name)
        assert len(counts) > 5 and never_decreases(counts)


def test_a_killed_monitor_is_replaced_and_the_best_survives(killed: WatchedRun) -> None:
    summary = killed.summary()
    assert summary["faults"]["monitor_restarts"] == 2
    evaluations = column(killed.run_dir, "evaluations.csv", "seed")
    assert len(set(evaluations)) == len(evaluations)
    assert never_decreases(column(killed.run_dir, "evaluations.csv", "env_steps"))
    best = json.loads((killed.run_dir / "checkpoints" / "best.json").read_text())
    assert best["evaluation"]["mean"] == summary["evaluation"]["mean"] >= 475


def test_a_stopped_worker_is_seen_to_hang_and_replaced_for_good(tmp_path: Path) -> None:
    outcome = worker_stops(1, tmp_path, timeout=1.5)
    assert outcome.survived == outcome.fired == 1, outcome


@pytest.mark.long
def test_sync_goes_on_when_any_of_its_workers_or_its_monitor_is_replaced(tmp_path: Path) -> None:
    log = ("--log-interval", 1)
    with WatchedRun(tmp_path, "Watched", *FOREVER, *QUICK, *log, "--mode", "sync", "--env-latency-ms", 0.3) as run:
        run.until_all_work()
        for name in ("worker-0", "worker-2", "monitor"):
            assert "SIGKILL" in kill(run, name)
            before = last_update(run)
            run.until(lambda before=before: last_update(run) > before + 20)  # type: ignore[misc]
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.wait() == 130
        run.assert_nobody_left()
    assert run.summary()["worker_restarts"] == 2
    updates = column(run.run_dir, "updates.csv", "updates")
    assert len(set(updates)) == len(updates) > 60
    for name in ("updates", "env_steps", "episodes"):  # a reset of one worker's would show: a row follows every update
        assert never_decreases(column(run.run_dir, "updates.csv", name))


def last_update(run: WatchedRun) -> int:
    updates = column(run.run_dir, "metrics.csv", "updates")
    return updates[-1] if updates else 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_kills(tmp_path: Path) -> None:
    outcome = worker_kills(100, tmp_path)
    assert outcome.survived == outcome.fired == 100, outcome


@pytest.mark.long
@pytest.mark.timeout(600)
def test_stopped_workers_are_replaced_within_ten_seconds(tmp_path: Path) -> None:
    outcome = worker_stops(20, tmp_path)
    assert outcome.survived == outcome.fired == 20, outcome


@pytest.mark.long
@pytest.mark.timeout(600)
def test_workers_starved_by_other_programs_are_not_taken_to_hang(tmp_path: Path) -> None:
    outcome = false_alarms(60, tmp_path)
    assert outcome.survived == outcome.fired == 1, outcome
