"""A few of the faults that `make chaos` injects by the hundred: what is expected of a run is said there."""

import os
from pathlib import Path

import psutil
import pytest

from tests.chaos.chains import BUSY, SYNC_2, chains
from tests.chaos.disks import disk_full_at_the_end
from tests.chaos.evaluations import evaluation_faults
from tests.chaos.outcome import Outcome
from tests.chaos.resuming import kill_group
from tests.chaos.signals import ctrl_c
from tests.chaos.trees import tree_kills
from tests.process.command import Program

SHORTER = ("--max-env-steps", 6000)


def assert_survived(outcome: Outcome, fired: int) -> None:
    assert outcome.losses == ()
    assert outcome.survived == outcome.fired == fired, outcome


def test_a_kill_of_everybody_reaches_an_orphan_in_a_session_of_its_own() -> None:
    with Program("-c", "(setsid sleep 987 &); exec sleep 987", command=["sh"]) as program:
        program.until(lambda: [process.name() for process in program.everybody()] == ["sleep", "sleep"])
        (orphan,) = [process for process in program.everybody() if process.pid != program.process.pid]
        assert orphan.ppid() != program.process.pid and os.getsid(orphan.pid) != os.getsid(program.process.pid)
        assert kill_group(program)
        alive = psutil.wait_procs([orphan], timeout=5)[1]
    assert not alive


@pytest.mark.long
def test_a_run_goes_on_whichever_of_its_processes_is_killed(tmp_path: Path) -> None:
    roles = ("forkserver", "checkpointer", "resource tracker", "monitor")
    outcome = tree_kills(len(roles), tmp_path, roles=roles)
    assert_survived(outcome, len(roles))
    assert outcome.facts == {role: roles.count(role) for role in roles}


@pytest.mark.long
def test_a_run_that_loses_two_processes_at_once_on_a_busy_machine_goes_on(tmp_path: Path) -> None:
    assert_survived(tree_kills(4, tmp_path, seed=3, first=5), 4)


@pytest.mark.long
def test_signals_and_resumes_in_a_chain_leave_no_trace_in_the_results(tmp_path: Path) -> None:
    outcome = chains(1, tmp_path, seed=15, settings=[(*BUSY, *SYNC_2, *SHORTER)])  # of one worker: test_resume.py
    assert_survived(outcome, 1)
    assert "SIGTERM" in outcome.facts  # the first link, which ends an evaluation under way


@pytest.mark.long
def test_a_run_finishes_and_saves_on_time_whatever_its_evaluations_do(tmp_path: Path) -> None:
    assert_survived(evaluation_faults(1, tmp_path, faults=["everybody close raise"]), 1)


@pytest.mark.long
def test_a_disk_full_at_the_end_ends_a_run_once(tmp_path: Path) -> None:
    assert_survived(disk_full_at_the_end(1, tmp_path, first=1), 1)  # by a signal; test_disk.py has one by its budget


def test_an_interrupt_of_the_parent_alone_leaves_nothing_behind(tmp_path: Path) -> None:
    outcome = ctrl_c(1, tmp_path, first=2)
    assert outcome.facts["parent alone"] == 1
    assert_survived(outcome, 1)
