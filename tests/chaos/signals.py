"""Interrupts and kills of the whole program at random moments, in a real terminal; what each of them leaves behind."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.process.command import FOREVER
from tests.process.terminal import CTRL_C, Job

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

# After the start: from when the interpreter has begun with the program, before which a Ctrl-C is the interpreter's own
# to answer, to when it trains, evaluates and saves.
EARLIEST_SECONDS, LATEST_SECONDS = 0.1, 3.0
GONE_SECONDS = 20.0  # in which everybody has to have left; a forkserver finishes its imports first, on a busy machine


def ctrl_c(count: int, folder: Path, seed: int = 0, first: int = 0) -> Outcome:
    """Interrupt at random moments, every other time twice: by Ctrl-C in the terminal, or the parent alone.

    It ends with 130, without a traceback, leaves nobody, and the terminal is as it was, cursor included.
    """
    indices = range(first, first + count)
    trials = [_ctrl_c(folder / f"run-{index}", index, random.Random(f"{seed}/{index}")) for index in indices]
    typed = sum(_is_typed(index) for index in indices)
    return Outcome.of(trials, f"{count} moments", {"Ctrl-C in the terminal": typed, "parent alone": count - typed})


def _is_typed(index: int) -> bool:
    """Whether the terminal interrupts its whole foreground group; two in a row, one of them twice."""
    return index // 2 % 2 == 0


def _ctrl_c(run_dir: Path, index: int, rng: random.Random) -> Trial:
    presses, moment = 1 + index % 2, rng.uniform(EARLIEST_SECONDS, LATEST_SECONDS)
    with Job(*FOREVER, "--run-dir", run_dir) as job:
        time.sleep(moment)  # until the moment drawn
        fired = not job.codes
        for press in range(presses):
            time.sleep(rng.uniform(0, 0.2) if press else 0)
            if _is_typed(index):
                job.type(CTRL_C)
            else:
                with contextlib.suppress(ProcessLookupError):  # the first one has ended it
                    os.kill(job.pid, signal.SIGINT)
        loss = "" if job.code(10) == 130 else f"exit code {job.code()}"
        how = "Ctrl-C" if _is_typed(index) else "SIGINT to the parent"
        return fired, _described(loss or left_behind(job), f"{index}: {how} x {presses} after {moment:.2f} s", job)


def parent_kills(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill the program's parent at random moments: it leaves no process, no shared memory and the terminal as it was.

    The cursor is shown again by the monitor, hence only if that was there already.
    """
    rng = random.Random(seed)
    shared = set(os.listdir("/dev/shm"))
    trials = [_parent_kill(folder / f"run-{index}", shared, rng) for index in range(count)]
    return Outcome.of(trials, f"{count} moments")


def _parent_kill(run_dir: Path, shared: set[str], rng: random.Random) -> Trial:
    with Job(*FOREVER, "--run-dir", run_dir) as job:
        moment = rng.uniform(0, LATEST_SECONDS)
        time.sleep(moment)  # until the moment drawn
        has_monitor = (run_dir / "logs" / "monitor.log").exists()
        os.kill(job.pid, signal.SIGKILL)
        fired = job.code(10) == 128 + signal.SIGKILL
        loss = left_behind(job, cursor=has_monitor)
        if new := set(os.listdir("/dev/shm")) - shared:
            loss = loss or f"left /dev/shm/{new.pop()}"
        return fired, _described(loss, f"kill after {moment:.2f} s", job)


def left_behind(job: Job, cursor: bool = True) -> str:
    """What a program that has ended has left in its terminal; '' where everything is as it was."""
    deadline = time.monotonic() + GONE_SECONDS
    while alive := job.others():
        if time.monotonic() > deadline:
            return f"left {alive}"
        time.sleep(0.02)
    if job.attributes() != job.before:
        return f"the terminal was {job.before} and is {job.attributes()}"
    if cursor and not job.cursor_is_visible:
        return "left no cursor"
    return "left a traceback" if "Traceback" in job.text else ""


def _described(loss: str, fault: str, job: Job) -> str:
    return loss and f"{fault}: {loss}; the output was:\n{job.text}"
