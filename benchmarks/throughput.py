"""A training that never ends by itself, watched for some seconds: its env steps/s and its parent's CPU time."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.benchmark import BenchmarkError
from benchmarks.program import TERMINAL, TRAIN, Program, run_directory

FOREVER = ("--target-return", "1e9", "--max-env-steps", "1000000000")
START_SECONDS = 60.0  # until the first evaluation is on disk
STOP_SECONDS = 30.0
INTERRUPTED = 143  # exit code after SIGTERM


def measure_training(arguments: Sequence[str], seconds: float, dashboard: bool = False) -> dict[str, float]:
    """Train for `seconds` beyond the first evaluation, then stop.

    Returns:
        steps_per_second: the summary's, over the whole training and without the start-up.
        parent_cpu_share: CPU time of the parent process alone, of all the CPU time there was; with the console on, the
            parent draws it.
    """
    with run_directory() as run_dir:
        shown = ("--dashboard", "on" if dashboard else "off", "--run-dir", str(run_dir))
        command = (*TRAIN, *FOREVER, *arguments, *shown)
        with Program(command, TERMINAL if dashboard else None) as program:
            _until_training(program, run_dir / "evaluations.csv")
            parent = psutil.Process(program.process.pid)
            before, since = _cpu_seconds(parent), time.perf_counter()
            program.let_run(seconds)
            spent, passed = _cpu_seconds(parent) - before, time.perf_counter() - since
            program.process.terminate()
            program.wait(STOP_SECONDS)
            if program.process.returncode != INTERRUPTED:
                raise program.failure(f"ended with exit code {program.process.returncode}, not {INTERRUPTED}")
        summary = json.loads((run_dir / "summary.json").read_text())
    if summary["status"] != "interrupted":
        raise BenchmarkError(f"the run ended as {summary['status']}, not interrupted: {summary['reason']}")
    return {
        "steps_per_second": summary["steps_per_second"],
        "env_steps": summary["env_steps"],
        "train_seconds": summary["train_seconds"],
        "parent_cpu_share": round(spent / passed / usable_cores(), 5),
    }


def usable_cores() -> int:
    """Cores that a process here may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _until_training(program: Program, evaluations: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not evaluations.exists() or evaluations.read_text().count("\n") < 2:  # the header and a row
        if time.monotonic() > deadline:
            raise program.failure(f"had evaluated nothing after {START_SECONDS:g} s")
        program.let_run(0.05)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
