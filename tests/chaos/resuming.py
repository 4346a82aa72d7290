"""Kills of whole runs, every process at once, as a power cut does; what `resume` makes of the directory they leave."""

import contextlib
import csv
import json
import random
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from a3c.checkpoint import load_training
from tests.chaos.outcome import Outcome
from tests.process.command import FOREVER, Program, run

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

OFTEN = ("--target-return", 501, "--eval-interval", 500, "--eval-episodes", 10, "--checkpoint-interval", 0.1)
SYNC = ("--mode", "sync", "--workers", 4, "--seed", 5, "--max-env-steps", 20_000)
EXACT = (  # what repeats itself bit for bit, each beside the environments that it goes on with
    SYNC,  # scalar environments, replayed
    (*SYNC, "--envs-per-worker", 4),  # Gymnasium's vector version, whose attributes are kept
    ("--workers", 1, "--seed", 6, "--max-env-steps", 15_000),
    (*SYNC, "--env", "Acrobot-v1", "--envs-per-worker", 2, "--max-env-steps", 10_000),  # has no vector version
)
INTERVAL = 0.05  # seconds between two checkpoints of a run that is killed again and again
SIDE_BY_SIDE = 2
SECOND_KILL, SECOND_SECONDS = 0.3, 3.0  # the share of resumes killed too, and after how long at most


# -- exactness --------------------------------------------------------------------------------------------------------


def sync_kill_points(count: int, folder: Path, seed: int = 0, settings: Sequence[Sequence[object]] = EXACT) -> Outcome:
    """Kill runs that repeat themselves at random moments, resume them: in the end they are what they would have been.

    Compared with a run of the same settings that nobody disturbed: parameters and moments, evaluations, totals, the
    best checkpoint's weights, and the statistics that are sums over all updates.

    Args:
        settings: options of the command, taken in turn.
    """
    rng = random.Random(seed)
    references: dict[int, dict[str, Any]] = {}
    trials = []
    for index in range(count):
        which = index % len(settings)
        arguments = (*OFTEN, *settings[which])
        if which not in references:
            references[which] = undisturbed(arguments, folder / f"reference-{which}")
        trials.append(_kill_and_resume(arguments, folder / f"run-{index}", references[which], rng))
    return Outcome.of(trials, f"{count} moments, {min(count, len(settings))} settings")


def undisturbed(arguments: Sequence[object], run_dir: Path) -> dict[str, Any]:
    """Run to the end; what came of it."""
    code, output = run(*arguments, "--run-dir", run_dir)
    assert code == 0, output
    return course(run_dir)


def course(run_dir: Path) -> dict[str, Any]:
    """All of a run's results that no clock is part of."""
    summary = json.loads((run_dir / "summary.json").read_bytes())
    evaluation = {name: value for name, value in summary["evaluation"].items() if name != "seconds"}
    names = (
        "status",
        "state_sha256",
        "env_steps",
        "updates",
        "episodes",
        "advantage_magnitude",
        "policy_loss_variance",
        "staleness",
    )
    return {
        **{name: summary[name] for name in names},
        "best evaluation": evaluation,
        "best weights": json.loads((run_dir / "checkpoints" / "best.json").read_bytes())["weights"],
        "evaluations": [{**row, "seconds": ""} for row in rows(run_dir / "evaluations.csv")],
        "staleness.csv": (run_dir / "staleness.csv").read_text(),
    }


def _kill_and_resume(arguments: Sequence[object], run_dir: Path, expected: dict[str, Any], rng: random.Random) -> Trial:
    at_row = rng.randrange(len(expected["evaluations"]) - 1)
    with Program(*arguments, "--run-dir", run_dir) as program:
        fired = _reaches(program, run_dir, at_row)
        time.sleep(rng.uniform(0, 0.05))  # until the moment drawn
        fired = kill_group(program) and fired
    if not fired:
        return False, ""
    where = f"{' '.join(map(str, arguments))}: killed after evaluation {at_row}"
    if rng.random() < SECOND_KILL:
        where += ", and during the resume"
        with Program("resume", run_dir) as program:
            time.sleep(rng.uniform(0, SECOND_SECONDS))  # until the moment drawn
            kill_group(program)
    code, output = run("resume", run_dir)
    if code != 0:
        return True, f"{where}: exit code {code}:\n{output}"
    found = course(run_dir)
    others = [name for name in expected if found[name] != expected[name]]
    return True, f"{where}: {others} are others" if others else ""


def _reaches(program: Program, run_dir: Path, at_row: int) -> bool:
    """Wait until a run has a checkpoint and so many evaluations; False where it ends before."""
    evaluations, checkpoint = run_dir / "evaluations.csv", run_dir / "checkpoints" / "latest.json"
    while program.process.poll() is None:
        if checkpoint.exists() and len(rows(evaluations)) > at_row:
            return True
        time.sleep(0.002)
    return False


# -- nothing announced is lost ----------------------------------------------------------------------------------------


def group_kills(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill runs that save all the time, resume them, kill them again: the last checkpoint announced is always there.

    Two runs side by side. Every start but their first resumes what the kill before has left. A kill takes about 1.4 s,
    nearly all of it the imports of the next start.
    """
    shares = [count // SIDE_BY_SIDE + (index < count % SIDE_BY_SIDE) for index in range(SIDE_BY_SIDE)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        chains = [
            pool.submit(_kill_again_and_again, share, folder / f"run-{index}", random.Random(seed * 2 + index))
            for index, share in enumerate(shares)
        ]
        trials, torn, ages = [], 0, [0.0]
        for chain in chains:
            for trial, was_torn, age in chain.result():
                trials.append(trial)
                torn += was_torn
                ages.append(age)
    facts = {"in the middle of a file": torn, "s of training lost at most": round(max(ages), 2)}
    return Outcome.of(trials, f"saving every {INTERVAL} s", facts)


def _kill_again_and_again(count: int, run_dir: Path, rng: random.Random) -> list[tuple[Trial, bool, float]]:
    """Each kill with what it has lost, whether it hit a file half written, and seconds since the checkpoint it left."""
    results, start = [], [*FOREVER, "--workers", 2, "--checkpoint-interval", INTERVAL, "--run-dir", run_dir]
    announced = 0
    for _ in range(count):
        with Program(*start) as program:
            began = _reaches_save(program, run_dir)
            time.sleep(rng.uniform(0, 2 * INTERVAL))  # until the moment drawn
            announced = max(announced, _announced(run_dir))
            fired, killed = kill_group(program), time.time()
        loss = _lost(run_dir, announced) if began else f"did not begin:\n{program.text}"
        torn = bool(list((run_dir / "checkpoints").glob(".*.tmp")))
        results.append(((fired or not began, loss), torn, killed - _saved(run_dir)))
        if loss:
            break
        start = ["resume", run_dir]
    return results


def _reaches_save(program: Program, run_dir: Path) -> bool:
    """Wait until a run has saved since it was started; False where it ends before."""
    checkpoint, started = run_dir / "checkpoints" / "latest.json", time.time()
    while program.process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime > started:
            return True
        time.sleep(0.002)
    return False


def _announced(run_dir: Path) -> int:
    """The env steps of the checkpoint that a user would see now."""
    return int(json.loads((run_dir / "checkpoints" / "latest.json").read_bytes())["env_steps"])


def _lost(run_dir: Path, announced: int) -> str:
    """What a kill has cost beyond the time since the last checkpoint; '' for nothing."""
    try:
        checkpoint, training = load_training(run_dir)
    except Exception as error:  # whatever it is, the run is lost
        return repr(error)
    env_steps, counted = checkpoint.manifest["env_steps"], int(training.tensors["counters"][1].sum())
    if checkpoint.skipped:
        return f"damaged: {checkpoint.skipped}"
    if env_steps < announced:
        return f"announced {announced} env steps, loaded {env_steps}"
    return "" if counted == env_steps else f"a manifest of {env_steps} env steps, tensors of {counted}"


def _saved(run_dir: Path) -> float:
    """When the newest checkpoint was written, a time.time()."""
    return (run_dir / "checkpoints" / "latest.json").stat().st_mtime


# -- what both need ---------------------------------------------------------------------------------------------------


def kill_group(program: Program) -> bool:
    """Kill everything that a command has started, at once; whether it was still running.

    Workers have process groups of their own, so each process is killed by itself. All are stopped before that, the
    parent first: else those that are left for a moment would react to the deaths of the others.
    """
    stopped: set[psutil.Process] = set()
    while others := set(program.everybody()) - stopped:
        for process in sorted(others, key=lambda process: process.pid != program.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        stopped |= others
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return program.wait() == -signal.SIGKILL


def rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none where there is no file."""
    return list(_rows(table)) if table.exists() else []


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with open(table, newline="") as file:
        yield from csv.DictReader(file)
