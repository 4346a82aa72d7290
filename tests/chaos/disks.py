"""Disks that are full when a run comes to its end, so that its last checkpoint cannot be saved."""

import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from a3c.checkpoint import load_training
from tests.chaos.outcome import Outcome
from tests.chaos.resuming import SIDE_BY_SIDE
from tests.chaos.supervision import WatchedRun
from tests.chaos.trees import ENDS_SECONDS, end_of, left
from tests.process.command import run
from tests.process.conftest import shared_memory_files
from workers import ExitCode

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

# Python runs this at its start where it finds it. From when the file $FULL is there, the checkpoints' folder is full.
FULL_DISK = """
import errno, os, sys
FULL, CALL = os.environ["FULL"], os.environ["CALL"]
sync = os.fsync

def refuse(path):
    if "/checkpoints" in str(path) and os.path.exists(FULL):
        with_number = os.open(FULL, os.O_WRONLY | os.O_APPEND)
        os.write(with_number, b"refused\\n")
        os.close(with_number)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

def opened(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        refuse(arguments[0])

def synced(descriptor):
    refuse(os.readlink(f"/proc/self/fd/{descriptor}"))
    sync(descriptor)

if CALL == "open":
    sys.addaudithook(opened)
if CALL == "fsync":
    os.fsync = synced
"""
SMALL = 20_000  # bytes, less than a checkpoint has
CALLS = ("open", "fsync", "write")  # the last one by a limit of the system's own on the size of files
ENDS = ("budget", "SIGINT", "SIGTERM", "solved")
TARGETS = {"solved": 150}  # a mean return that comes soon, and not before the disk is full
LATENCY_MS, BUDGET = 1.0, 6000
OPTIONS = (
    "--workers",
    2,
    "--env-latency-ms",
    LATENCY_MS,
    "--max-env-steps",
    BUDGET,
    "--checkpoint-interval",
    0.3,
    "--eval-interval",
    500,
    "--eval-episodes",
    5,
)
FULL_WORDS = ("No space left on device", "File too large")


def disk_full_at_the_end(count: int, folder: Path, seed: int = 0, first: int = 0) -> Outcome:
    """Fill the disk at a random moment, for good; then the run comes to its end, by itself or by a signal.

    It says once that the last checkpoint cannot be saved and exits with 74, without replacing anybody. The checkpoint
    before is whole, and with room on the disk the run is resumed. Two runs side by side.

    Args:
        first: of the seed's runs, the one to begin with.
    """
    shared, indices = shared_memory_files(), range(first, first + count)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        trials = [
            *pool.map(
                lambda index: _fill(index, folder / f"run-{index}", shared, random.Random(f"{seed}/{index}")), indices
            )
        ]
    facts = Counter(CALLS[index % len(CALLS)] for index in indices)
    return Outcome.of(trials, f"{len(CALLS)} calls, {len(ENDS)} ends", facts)


def _fill(index: int, folder: Path, shared: set[Path], rng: random.Random) -> Trial:
    call, end, full = CALLS[index % len(CALLS)], ENDS[index % len(ENDS)], folder / "full"
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(FULL_DISK)
    variables = {"PYTHONPATH": str(folder), "FULL": str(full), "CALL": call}
    options = (*OPTIONS, "--target-return", TARGETS.get(end, 501), "--seed", index)
    with WatchedRun(folder, "Watched", *options, variables=variables) as program:
        fired = _reaches_save(program, rng.uniform(0, 0.5))
        _fill_disk(program, call, full)
        if end.startswith("SIG"):
            time.sleep(rng.uniform(0, 0.5))  # until the moment drawn
            program.process.send_signal(signal.Signals[end])
        began, code = time.monotonic(), program.wait(60)
        seconds = time.monotonic() - began if end.startswith("SIG") else 0.0
        loss = _lost(program, code, seconds, shared)
    full.unlink(missing_ok=True)
    loss = loss or _not_resumed(program.run_dir)
    where = f"run {index}, {call} refused, ended by {end}: {loss}; the output ended with:\n{end_of(program.text)}"
    return fired, loss and where


def _reaches_save(program: WatchedRun, more_seconds: float) -> bool:
    """Wait until a run has saved, and a little longer; False where it has ended."""
    latest = program.run_dir / "checkpoints" / "latest.json"
    while program.process.poll() is None and not latest.exists():
        time.sleep(0.002)
    time.sleep(more_seconds)  # until the moment drawn
    return program.process.poll() is None


def _fill_disk(program: WatchedRun, call: str, full: Path) -> None:
    full.touch()
    if call == "write":
        for process in program.everybody():  # later ones inherit it
            process.rlimit(resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))


def _lost(program: WatchedRun, code: int, seconds: float, shared: set[Path]) -> str:
    """What is wrong with the end of a run whose last checkpoint could not be saved; '' for nothing."""
    wrong: tuple[Callable[[], str], ...] = (
        lambda: "" if code == ExitCode.DISK else f"exit code {code}",
        lambda: "" if any(words in program.text for words in FULL_WORDS) else "a full disk is not told",
        lambda: "left a traceback" if "Traceback" in program.text else "",
        lambda: "; ".join(program.events("restarted")),
        lambda: f"the end took {seconds:.1f} s" if seconds > ENDS_SECONDS else "",
        lambda: "" if (program.run_dir / "summary.json").exists() else "left no summary",
        lambda: left(program, shared),
    )
    return next((loss for check in wrong if (loss := check())), "")


def _not_resumed(run_dir: Path) -> str:
    """Why a run is not resumed from the checkpoint before, now that there is room again."""
    try:
        if skipped := load_training(run_dir)[0].skipped:
            return f"damaged: {skipped}"
    except Exception as error:  # whatever it is, the run is lost
        return repr(error)
    code, output = run("resume", run_dir)
    return "" if code == 0 else f"resume: exit code {code}:\n{output}"
