"""Evaluations that fail, hang, die or are slow while the run trains: it saves meanwhile as ever, and it finishes."""

import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.environments import CLOSE, MAKE, RESET, STEP
from tests.chaos.outcome import Outcome
from tests.chaos.resuming import SIDE_BY_SIDE
from tests.chaos.supervision import WatchedRun
from tests.chaos.trees import end_of, left
from tests.process.conftest import shared_memory_files

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

FAULTS = (  # such that the first ones differ most
    *(f"monitor {place} {kind}" for kind, place in (("raise", RESET), ("hang", STEP), ("slow", STEP), ("die", RESET))),
    *(f"everybody {CLOSE} {kind}" for kind in ("raise", "hang", "slow")),
    *(f"monitor {place} {kind}" for place in (MAKE, CLOSE) for kind in ("raise", "hang", "slow", "die")),
    *(f"monitor {STEP} {kind}" for kind in ("nan", "float", "raise", "die")),
    *(f"monitor {RESET} {kind}" for kind in ("hang", "slow")),
)
TOLD = {"raise": "licence", "float": "has left its numbers"}  # what the user reads of an evaluation that fails
MODES = (("--workers", 2), ("--mode", "sync", "--workers", 2), ("--workers", 1))
LATENCY_MS, INTERVAL, SLACK = 1.0, 0.5, 2.0  # of a step; between two checkpoints and more on a busy machine, in seconds
STEPS_PER_SECOND = 1000 / LATENCY_MS  # of one worker, at most
TRAINING_SECONDS = 5  # at least
OPTIONS = (
    "--env-latency-ms",
    LATENCY_MS,
    "--checkpoint-interval",
    INTERVAL,
    "--keep-checkpoints",
    1000,
    "--eval-interval",
    2000,
    "--eval-episodes",
    3,
    "--eval-share",
    0.5,
    "--max-episode-steps",
    100,
    "--heartbeat-timeout",
    2,
    "--target-return",
    501,
)
FINISH_SECONDS = 120.0  # from the start to the end of a run


def evaluation_faults(
    count: int, folder: Path, seed: int = 0, first: int = 0, faults: Sequence[str] = FAULTS
) -> Outcome:
    """Run with environments that have a fault where policies are evaluated, each in several modes, two side by side.

    The run spends its budget and ends with 0, whatever becomes of its evaluations. No two checkpoints are farther apart
    than their interval and two seconds: steps wait a millisecond, so that env steps tell the time between two.
    """
    shared, indices = shared_memory_files(), range(first, first + count)
    chosen = {index: faults[index % len(faults)] for index in indices}
    modes = {index: MODES[(index + index // len(faults)) % len(MODES)] for index in indices}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        trials = [
            *pool.map(
                lambda index: _evaluate_badly(
                    chosen[index], (*modes[index], "--seed", seed), folder / f"run-{index}", shared
                ),
                indices,
            )
        ]
    described = [
        (fired, loss and f"run {index}, {chosen[index]}, {' '.join(map(str, modes[index]))}: {loss}")
        for index, (fired, loss) in zip(indices, trials, strict=True)
    ]
    return Outcome.of(described, f"{len(FAULTS)} faults", Counter(fault.split(" ")[2] for fault in chosen.values()))


def _evaluate_badly(fault: str, mode: Sequence[object], folder: Path, shared: set[Path]) -> Trial:
    workers = int(str(mode[mode.index("--workers") + 1]))
    budget = int(workers * STEPS_PER_SECOND * TRAINING_SECONDS)
    arguments = (*OPTIONS, *mode, "--max-env-steps", budget)
    with WatchedRun(folder, "Faulty", *arguments, variables={"FAULTY": fault}) as run:
        try:
            code = run.wait(FINISH_SECONDS)
        except subprocess.TimeoutExpired:
            loss = f"did not finish within {FINISH_SECONDS} s"
        else:
            loss = f"exit code {code}" if code != 0 else _lost(run, workers, fault, shared)
        return bool(run.told("fired")), loss and f"{loss}; the output ended with:\n{end_of(run.text)}"


def _lost(run: WatchedRun, workers: int, fault: str, shared: set[Path]) -> str:
    """What a run that has ended with 0 lacks; '' for nothing."""
    if (status := run.summary()["status"]) != "budget_exhausted":
        return f"the run is {status}"
    most = workers * STEPS_PER_SECOND * (INTERVAL + SLACK)
    saved = sorted(
        int(json.loads(path.read_bytes())["env_steps"])
        for path in (run.run_dir / "checkpoints").glob("latest-*[0-9].json")
    )
    for before, after in itertools.pairwise([0, *saved]):
        if after - before > most:
            return f"no checkpoint between {before} and {after} env steps"
    _, phase, kind = fault.split(" ")[:3]
    logs = "".join(log.read_text() for log in (run.run_dir / "logs").iterdir())
    words = TOLD.get(kind, "")
    if words not in (logs if phase == "close" else run.text):  # what close() raises costs nothing
        return f"'{words}' is not told"
    return left(run, shared)
