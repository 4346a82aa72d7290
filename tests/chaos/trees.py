"""Kills of single processes of a run: workers, monitor, checkpointer, and the helpers that Python starts."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.chaos.outcome import Outcome
from tests.chaos.supervision import busy
from tests.process.command import FOREVER, Program, lives, run
from tests.process.conftest import shared_memory_files, unused
from workers import ExitCode

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

KILLS_PER_RUN = 10
EARLY = 4  # of so many runs one is hit while it starts
BUSY_PROCESSES = 4  # beside every other run
QUICK = (
    "--workers",
    3,
    "--checkpoint-interval",
    0.3,
    "--eval-interval",
    500,
    "--eval-episodes",
    5,
    "--max-restarts",
    10_000,
)
CODES = {ExitCode.FINISHED, ExitCode.WORKER, ExitCode.CHECKPOINT, ExitCode.NUMERICS, ExitCode.DISK}
APPEARS_SECONDS = 10.0  # in which there is somebody to be killed
GOES_ON_SECONDS = 60.0  # in which a run that was hit has saved again, on a busy machine
ENDS_SECONDS = 5.0  # after Ctrl-C
GONE_SECONDS = 20.0  # in which everybody has to have left; a forkserver finishes its imports first, on a busy machine
SHOWN_LINES = 15
MORE = 1000  # env steps that are made when it is resumed


def tree_kills(
    count: int, folder: Path, seed: int = 0, first: int = 0, roles: Sequence[str | None] = (None,)
) -> Outcome:
    """Kill random processes of runs, any but the parent, at random moments: the run goes on, or ends with its summary.

    Ten kills a run, some so close that the first one is still being dealt with; every other run on a busy machine, some
    while they start. Ctrl-C then ends it within five seconds, and it can be resumed.

    Args:
        first: of the seed's runs, the one to begin with.
        roles: of the processes to be killed, in turn; None for any.
    """
    trials, killed = list[Trial](), Counter[str]()
    while len(trials) < count:
        kills, fired = min(KILLS_PER_RUN, count - len(trials)), killed.total()
        wanted = [roles[kill % len(roles)] for kill in range(kills)]
        loss = _run_killed(folder / f"run-{first}", wanted, seed, first, killed)
        fired = killed.total() - fired  # fewer where the run has ended in between
        trials += [(True, "")] * (fired - 1) + [(fired > 0, loss)]
        first += 1
    return Outcome.of(trials, f"{count} moments", dict(killed))


def _run_killed(folder: Path, wanted: Sequence[str | None], seed: int, index: int, killed: Counter[str]) -> str:
    """Start a run and kill of its processes; what was lost."""
    rng, run_dir, shared = random.Random(f"{seed}/{index}"), folder / "run", shared_memory_files()
    processes, early, waits = BUSY_PROCESSES * (index % 2), index % EARLY == EARLY - 1, index % 3 != 1
    victims = list[str]()
    with busy(processes), Program(*FOREVER, *QUICK, "--seed", index, "--run-dir", run_dir) as program:
        if not early:
            program.until_training(run_dir)
        for role in wanted:
            victims += _kill(program, rng, role)
        loss = (waits and _stands_still(program, run_dir)) or _badly_ended(program, run_dir, shared)
    killed.update(victims)
    where = f"run {index}, beside {processes} busy processes, {'early' if early else 'in training'}"
    return loss and f"{where}, killed {', '.join(victims)}: {loss}; the output ended with:\n{end_of(program.text)}"


def _kill(program: Program, rng: random.Random, role: str | None) -> list[str]:
    """Kill one process at a random moment; its role, none where the run has ended or has nobody of that role."""
    moment = time.monotonic() + rng.uniform(0, rng.choice([0.05, 1.0]))
    while program.process.poll() is None and time.monotonic() < moment + APPEARS_SECONDS:
        time.sleep(max(0.005, moment - time.monotonic()))  # until the moment drawn
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends by itself
            others = [process for process in program.everybody() if process.pid != program.process.pid]
            named = [(name, process) for process in others if (name := role_of(process)) == role or role is None]
            if named:
                name, victim = rng.choice(named)
                victim.kill()
                _until_dead(program, victim)
                return [name]
    return []


def _until_dead(program: Program, victim: psutil.Process) -> None:
    program.until(lambda: not lives(victim) or program.process.poll() is not None)


def role_of(process: psutil.Process) -> str:
    """What a process is for: by the log that it writes, or by its command where it is one of Python's helpers."""
    command, parent = process.cmdline(), process.parent()
    log = _log(process.pid)
    if log.parent.name == "logs":
        return log.stem.split("-")[0]
    if "multiprocessing.resource_tracker" in " ".join(command):
        return "resource tracker"
    if "forkserver" in " ".join(command):
        return "forkserver" if parent is None or parent.cmdline() != command else "just forked"
    return process.name()


def _log(pid: int) -> Path:
    """Where a process writes what it has to say."""
    try:
        return Path(os.readlink(f"/proc/{pid}/fd/2"))
    except OSError as error:  # it has ended
        raise psutil.NoSuchProcess(pid) from error


def _stands_still(program: Program, run_dir: Path) -> str:
    """Wait until a run that goes on has trained, evaluated and saved again; what it has not done."""
    last = (_announced(run_dir), _evaluations(run_dir))
    deadline = time.monotonic() + GOES_ON_SECONDS
    while program.process.poll() is None:
        saved, evaluated = _announced(run_dir) > last[0], _evaluations(run_dir) > last[1]
        if saved and evaluated:
            return ""
        if time.monotonic() > deadline:
            return f"after {GOES_ON_SECONDS} s {'no evaluation' if saved else 'no checkpoint'} of a run that goes on"
        time.sleep(0.02)
    return ""


def _announced(run_dir: Path) -> int:
    """The env steps of the latest checkpoint, -1 where there is none."""
    manifests = sorted((run_dir / "checkpoints").glob("latest-*[0-9].json"))
    return int(manifests[-1].stem.split("-")[1]) if manifests else -1


def _evaluations(run_dir: Path) -> int:
    table = run_dir / "evaluations.csv"
    return len(table.read_text().splitlines()) if table.exists() else 0


def _badly_ended(program: Program, run_dir: Path, shared: set[Path]) -> str:
    """Interrupt a run that goes on; what is wrong with its end, whether it was this one or its own."""
    began, had_checkpoint, code = time.monotonic(), _announced(run_dir) >= 0, program.process.poll()
    if code is None:
        program.process.send_signal(signal.SIGINT)
    seconds = _seconds_to_end(program, began)
    if program.process.poll() not in (CODES if code is not None else {ExitCode.INTERRUPTED}):
        return f"exit code {program.process.poll()} after {seconds:.1f} s"
    if seconds > ENDS_SECONDS:
        return f"Ctrl-C took {seconds:.1f} s"
    if "Traceback" in program.text:
        return "left a traceback"
    if run_dir.exists() and not (run_dir / "summary.json").exists():
        return "left no summary"
    return left(program, shared) or (_not_resumed(run_dir) if had_checkpoint else "")


def _seconds_to_end(program: Program, began: float) -> float:
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(60)
    return time.monotonic() - began


def end_of(output: str) -> str:
    """The last lines of an output."""
    return "\n".join(output.splitlines()[-SHOWN_LINES:])


def left(program: Program, shared: set[Path]) -> str:
    """Which process or shared memory a program that has ended leaves for good; '' for none."""
    deadline = time.monotonic() + GONE_SECONDS
    while (alive := program.everybody()) or (files := unused(shared_memory_files() - shared)):
        if time.monotonic() > deadline:
            return f"left {alive or files}"
        time.sleep(0.05)
    return ""


def _not_resumed(run_dir: Path) -> str:
    code, output = run("resume", run_dir, "--max-env-steps", _announced(run_dir) + MORE)
    return "" if code == 0 else f"resume: exit code {code}:\n{output}"
