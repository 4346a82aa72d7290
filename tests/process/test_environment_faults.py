"""Environments that fail while a run goes on: the worker is replaced, the fault told; where it lasts, exit code 3.

Faults that happen once happen in one run, one after the other; each test looks at what became of one of them.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from a3c.checkpoint import load_training
from shared.scoreboard import DROPPED
from tests.chaos.environments import RESET, STEP
from tests.chaos.supervision import WatchedRun
from tests.process.command import FOREVER, Program

DEADLY = {  # fault and place: what is told of it
    ("hang_in_python", STEP): "hung: no environment step for",
    ("hang_in_c", RESET): "hung: no environment step for",
    ("lose_licence", STEP): "died: RuntimeError: the simulator lost its licence",
    ("raise_unpicklable", STEP): "SimulatorError: ('the scene fell apart', <unlocked _thread.lock",
    ("call_sys_exit", STEP): "died: SystemExit: 0",
    ("leave_without_a_word", STEP): "died: exit code 0 without a crash report",
    ("segfault", STEP): "died: killed by SIGSEGV",
    ("run_out_of_memory", STEP): "died: MemoryError",
    ("change_shape", STEP): "died: ValueError: observation of shape (5,), expected (4,)",
}
MONITOR = "monitor"
SPOILING = {"observe_nan": "observations", "pay_infinity": "rewards", "pay_much": "gradients"}  # and as what it counts


@dataclass(frozen=True, slots=True)
class Faulty:
    """A run in which everything has gone wrong once."""

    run: WatchedRun
    victims: dict[tuple[str, str], int]  # process ids by fault, and by place or monitor
    code: int


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    arguments = (
        *FOREVER,
        "--workers",
        2,
        "--heartbeat-timeout",
        1.5,
        "--eval-episodes",
        5,
        "--env-latency-ms",
        0.2,
        "--checkpoint-interval",
        0.1,
    )
    with WatchedRun(tmp_path_factory.mktemp("faulty") / "run", "Ordered", *arguments) as run:
        run.until_all_work(2)
        victims = {}
        victims["print_a_line", STEP] = run.order("print_a_line")
        for fault, what in SPOILING.items():
            victims[fault, STEP] = run.order(fault)
            run.until(lambda what=what: dropped(run, what) > 0)  # type: ignore[misc]
        for fault, place in DEADLY:
            victims[fault, place] = run.order(fault, place)
            run.until_replaced(victims[fault, place])
        run.order("lose_licence", role=MONITOR)
        run.until(lambda: run.events("evaluation-failed"))
        victims["segfault", MONITOR] = run.order("segfault", role=MONITOR)
        run.until_replaced(victims["segfault", MONITOR])
        run.note_family()
        os.killpg(run.process.pid, signal.SIGINT)
        yield Faulty(run, victims, run.wait())


def dropped(run: WatchedRun, what: str) -> int:
    """How many rollouts had been dropped for that when the last checkpoint was made."""
    if not (run.run_dir / "checkpoints" / "latest.json").exists():
        return 0
    return int(load_training(run.run_dir)[1].tensors["board.dropped"][:, DROPPED.index(what)].sum())


@pytest.mark.parametrize(("fault", "place"), DEADLY)
def test_a_worker_is_replaced_whose_environment_does(fault: str, place: str, faulty: Faulty) -> None:
    run, victim = faulty.run, faulty.victims[fault, place]
    assert DEADLY[fault, place] in run.death(victim)
    assert DEADLY[fault, place] in run.text
    assert run.successor(victim)


def test_an_evaluation_that_fails_is_told_and_costs_no_process(faulty: Faulty) -> None:
    [told] = faulty.run.events("evaluation-failed")
    assert told.startswith("RuntimeError: the simulator lost its licence")
    assert faulty.run.summary()["faults"]["failed_evaluations"] == 1


def test_a_monitor_that_its_environment_kills_is_replaced(faulty: Faulty) -> None:
    told = faulty.run.death(faulty.victims["segfault", MONITOR])
    assert told.startswith("monitor died: killed by SIGSEGV")


def test_nobody_else_is_replaced(faulty: Faulty) -> None:
    assert faulty.code == 130
    faulty.run.assert_nobody_left()
    faults = faulty.run.summary()["faults"]
    assert (faults["worker_restarts"], faults["monitor_restarts"]) == (len(DEADLY), 1)
    assert len(faulty.run.events("restarted")) == len(DEADLY) + 1


@pytest.mark.parametrize("what", sorted(SPOILING.values()))
def test_a_rollout_with_a_spoilt_number_is_dropped_and_counted_once(what: str, faulty: Faulty) -> None:
    assert faulty.run.summary()["faults"][what] == 1


@pytest.mark.parametrize("fault", ["hang_in_python", "hang_in_c"])
def test_where_an_environment_hangs_is_told(fault: str, faulty: Faulty) -> None:
    where = f'environments.py", line \\d+ in {fault}\n'
    assert re.search(where, faulty.run.text)
    assert re.search(where, logs(faulty.run))


def test_an_environments_own_traceback_is_told(faulty: Faulty) -> None:
    for text in (faulty.run.text, logs(faulty.run)):
        assert re.search(r'environments.py", line \d+, in lose_licence\n', text)
        assert "Fatal Python error: Segmentation fault" in text


def test_what_an_environment_prints_is_in_its_workers_log_alone(faulty: Faulty) -> None:
    assert "a line of the simulator's own" in logs(faulty.run)
    assert "a line of the simulator's own" not in faulty.run.text


def test_an_environment_that_fails_again_and_again_ends_the_run_in_its_own_words(tmp_path: Path) -> None:
    arguments = (*FOREVER, "--workers", 2, "--max-restarts", 2)
    with WatchedRun(tmp_path, "Broken", *arguments, variables={"BROKEN": "lose_licence step"}) as run:
        assert run.wait(60) == 3
    assert len(run.events("restarted")) <= 2 < len(run.events("crashed"))
    assert "in lose_licence" in run.text
    assert run.summary()["status"] == "failed"
    reason = run.summary()["reason"]
    told = (
        r"the simulator lost its licence, in step of .*, .*\.py, line \d+; the budget of 2 restarts within ten minutes"
    )
    assert re.search(told, reason), reason


def test_a_worker_that_never_begins_is_restarted_later_and_later(tmp_path: Path) -> None:
    arguments = (*FOREVER, "--workers", 1, "--max-restarts", 2)
    with WatchedRun(tmp_path, "Broken", *arguments, variables={"BROKEN": "lose_licence reset"}) as run:
        assert run.wait(60) == 3
    deaths, restarts = run.moments("crashed"), run.moments("restarted")
    delays = [restart - death for death, restart in zip(deaths, restarts, strict=False)]
    assert len(deaths) == 3 and len(delays) == 2
    for delay, least in zip(delays, (0.25, 0.5), strict=True):
        assert delay >= least


def test_a_worker_that_dies_at_import_ends_the_run_in_the_imports_words(tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(
        "import multiprocessing\n"
        "from tests.chaos.environments import Watched as Picky\n"
        "if multiprocessing.current_process().name.startswith('worker-'):\n"
        "    raise ImportError('the simulator is not installed on this core')\n"
    )
    registering = "import gymnasium\ngymnasium.register('Picky-v0', 'picky:Picky', max_episode_steps=500)\n"
    (tmp_path / "registering.py").write_text(registering)
    arguments = (*FOREVER, "--workers", 1, "--max-restarts", 0, "--run-dir", tmp_path / "run")
    variables = {"PYTHONPATH": str(tmp_path), "FAULTS": str(tmp_path)}
    with Program("--env", "registering:Picky-v0", *arguments, environment=variables) as program:
        assert program.wait(60) == 3
    assert 'picky.py", line 4, in <module>' in program.text
    reason = json.loads((tmp_path / "run" / "summary.json").read_text())["reason"]
    assert "ImportError: the simulator is not installed on this core" in reason


def logs(run: WatchedRun) -> str:
    """What all processes have written to their logs."""
    return "".join(path.read_text() for path in (run.run_dir / "logs").iterdir())
