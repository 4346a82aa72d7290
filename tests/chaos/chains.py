"""Chains of signals and resumes of runs that repeat themselves bit for bit: each ends as the undisturbed run did."""

import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.outcome import Outcome
from tests.chaos.resuming import SIDE_BY_SIDE, course, kill_group, rows, undisturbed
from tests.chaos.trees import end_of
from tests.process.command import Program, run
from workers import ExitCode

Trial = tuple[bool, str]  # whether the fault fired, and what was lost

# Evaluations are due much faster than they can be made, so that workers wait for a free place in their queue.
BUSY = (
    "--target-return",
    501,
    "--eval-interval",
    300,
    "--eval-episodes",
    10,
    "--checkpoint-interval",
    0.1,
    "--max-env-steps",
    40_000,
)
SYNC_2, SYNC_3 = ("--mode", "sync", "--workers", 2, "--seed", 5), ("--mode", "sync", "--workers", 3, "--seed", 7)
ALONE = ("--workers", 1, "--seed", 6)
SETTINGS = tuple(
    (*BUSY, *setting, annealed) for annealed in ("--anneal", "--no-anneal") for setting in (SYNC_2, ALONE, SYNC_3)
)
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOST_LINKS = 4
EARLY_SHARE, EARLY_SECONDS = 0.3, (0.3, 2.0)  # of resumes, those hit while they start, and when
LAST_ROW = 0.9  # of all evaluations: later signals might find a run that has ended
ENDS_SECONDS = 10.0  # beside another chain; what is promised of an idle machine is tried by `tree-kills`


class Link(NamedTuple):
    """What has ended one command of a chain."""

    number: signal.Signals
    moment: str  # in words
    fired: bool  # it ended the command, which had not ended by itself
    loss: str  # such as an exit code that is not the signal's


def chains(
    count: int, folder: Path, seed: int = 0, first: int = 0, settings: Sequence[Sequence[object]] = SETTINGS
) -> Outcome:
    """End runs by SIGINT, SIGTERM or SIGKILL of everybody, at random moments, and resume them, twice to four times.

    In the end parameters and moments, totals, statistics, every evaluation and the best policy are those of a run with
    the same settings that nobody disturbed. Two chains side by side.

    Args:
        first: of the seed's chains, the one to begin with.
        settings: options of the command, taken in turn.
    """
    indices, used = range(first, first + count), range(min(count, len(settings)))
    which = {index: index % len(settings) for index in indices}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        references = {
            number: pool.submit(undisturbed, settings[number], folder / f"reference-{number}")
            for number in sorted(set(which.values()))
        }
        expected = {number: reference.result() for number, reference in references.items()}
        results = [
            pool.submit(
                _chain,
                settings[which[index]],
                folder / f"run-{index}",
                expected[which[index]],
                random.Random(f"{seed}/{index}"),
            )
            for index in indices
        ]
        trials, signals = list[Trial](), Counter[str]()
        for index, result in zip(indices, results, strict=True):
            links, loss = result.result()
            signals.update(link.number.name for link in links if link.fired)
            trials.append((sum(link.fired for link in links) > 1, loss and f"chain {index}, {loss}"))
    return Outcome.of(trials, f"{len(used)} settings", dict(signals))


def _chain(
    arguments: Sequence[object], run_dir: Path, expected: dict[str, Any], rng: random.Random
) -> tuple[list[Link], str]:
    """Start a run, end and resume it again and again; the links of the chain, and what was lost."""
    links, command = list[Link](), [*arguments, "--run-dir", run_dir]
    for remaining in range(rng.randint(2, MOST_LINKS), 0, -1):
        with Program(*command) as program:
            links.append(_end(program, run_dir, rng, len(expected["evaluations"]), remaining, resumed=bool(links)))
        if not links[-1].fired or links[-1].loss:
            break
        command = ["resume", run_dir]
    where = f"{' '.join(map(str, arguments))}: {'; '.join(f'{link.number.name} {link.moment}' for link in links)}"
    if links[-1].loss:
        return links, f"{where}: {links[-1].loss}"
    code, output = run("resume", run_dir)
    loss = f"exit code {code}:\n{end_of(output)}" if code != 0 else _differences(expected, course(run_dir))
    return links, loss and f"{where}: {loss}"


def _end(program: Program, run_dir: Path, rng: random.Random, all_rows: int, remaining: int, resumed: bool) -> Link:
    """Signal a command at a random moment, and wait for its end."""
    number, moment = rng.choice(NUMBERS), _wait(program, run_dir, rng, all_rows, remaining, resumed)
    if number == signal.SIGKILL:
        return Link(number, moment, kill_group(program), "")
    began = time.monotonic()
    program.process.send_signal(number)
    code, seconds = program.wait(60), time.monotonic() - began
    if code not in (128 + number, ExitCode.FINISHED):
        return Link(number, moment, True, f"exit code {code}:\n{end_of(program.text)}")
    late = f"the end took {seconds:.1f} s" if seconds > ENDS_SECONDS else ""
    return Link(number, moment, code == 128 + number, late)


def _wait(program: Program, run_dir: Path, rng: random.Random, all_rows: int, remaining: int, resumed: bool) -> str:
    """Wait for a moment while a command starts, or after one of the evaluations to come; it, in words.

    The evaluations are shared among the links that remain. A first command has to have saved: there is nothing to
    resume before.
    """
    if resumed and rng.random() < EARLY_SHARE:
        seconds = rng.uniform(*EARLY_SECONDS)
        time.sleep(seconds)  # until the moment drawn
        return f"{seconds:.2f} s after the start"
    present = len(rows(run_dir / "evaluations.csv"))
    at_row = present + rng.randint(1, max(1, int((LAST_ROW * all_rows - present) / remaining)))
    latest = run_dir / "checkpoints" / "latest.json"
    while program.process.poll() is None and not (latest.exists() and len(rows(run_dir / "evaluations.csv")) >= at_row):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))  # until the moment drawn
    return f"after {at_row} evaluations"


def _differences(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """What is not as it should be, in words; of evaluations the first row and how many there are."""
    names = [name for name in expected if found[name] != expected[name]]
    if "evaluations" in names:
        wanted, others = expected["evaluations"], found["evaluations"]
        at, pair = next(
            (at, pair) for at, pair in enumerate(itertools.zip_longest(wanted, others)) if pair[0] != pair[1]
        )
        steps = [row and f"{row['env_steps']} env steps, seed {row['seed']}, mean {row['mean']}" for row in pair]
        names.append(f"row {at} of {len(wanted)} should be ({steps[0]}), is ({steps[1]}) of {len(others)}")
    return f"differ: {', '.join(names)}" if names else ""
