"""The product's first minute: from the prompt to a verified solution on disk, console on."""

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Count, Figure, Limit, Row
from benchmarks.program import TERMINAL, TRAIN, Program, run_directory

IMPORT = (sys.executable, "-c", "import torch, gymnasium")
ARGUMENTS = ["--workers", "4"]
SEEDS_NEEDED = 50
LIMIT_SECONDS = 300.0


def plan(size: Size) -> list[Parameters]:
    """A trial per seed."""
    seeds = 1 if size.quick else size.seeds
    return [{"arguments": ARGUMENTS, "terminal": list(TERMINAL), "seed": seed} for seed in range(seeds)]


def measure(parameters: Parameters) -> Values:
    """The bare imports, then the run."""
    imports = import_seconds()
    columns, lines = parameters["terminal"]
    run = measure_run(parameters["arguments"], parameters["seed"], (columns, lines))
    return {"import_seconds": round(imports, 4), **run}


def import_seconds() -> float:
    """Wall time of the bare imports, as a whole process."""
    with Program(IMPORT) as program:
        return program.succeed(LIMIT_SECONDS)


def measure_run(arguments: Sequence[str], seed: int, terminal: tuple[int, int] | None) -> Values:
    """One training from its start to its end.

    Args:
        terminal: columns and lines of the terminal with the live console; None goes without both.

    Returns:
        best_seconds: from just before the process starts until the verified checkpoint is in place, else None.
        solution_seconds: from the first env step until the program says so, else None.
        exit_seconds: from just before the process starts until it has ended.
    """
    with run_directory() as run_dir:
        shown = ("--dashboard", "on" if terminal else "off", "--run-dir", str(run_dir))
        with Program((*TRAIN, *arguments, "--seed", str(seed), *shown), terminal) as program:
            exit_seconds = program.wait(LIMIT_SECONDS)
            if not (run_dir / "summary.json").exists():
                raise program.failure(f"ended with exit code {program.process.returncode} and without a summary")
        summary = json.loads((run_dir / "summary.json").read_text())
        best = verified_seconds(run_dir / "checkpoints" / "best.json", program.started_ns)
        return {
            "solved": summary["status"] == "solved" and best is not None,
            "best_seconds": best,
            "solution_seconds": None if best is None else solution_seconds(run_dir),
            "exit_seconds": round(exit_seconds, 4),
            **{name: summary[name] for name in ("status", "solved_env_steps", "train_seconds", "env_steps", "updates")},
        }


def verified_seconds(manifest: Path, started_ns: int) -> float | None:
    """When a verified checkpoint was in place, in seconds after `started_ns`; None where there is none.

    The file's change time, not its modification time: the former is set when the finished, synced file is renamed into
    place, the latter already when it is written under its temporary name.
    """
    if not manifest.exists():
        return None
    evaluation = json.loads(manifest.read_text())["evaluation"]
    if not evaluation or evaluation["verification"] is not True:
        return None
    return round((manifest.stat().st_ctime_ns - started_ns) / 1e9, 4)


def solution_seconds(run_dir: Path) -> float:
    """From the first env step of any worker until the verified checkpoint is in place, both on the program's clock.

    A row of metrics has the seconds since the command was typed and those since the first step; so their difference is
    the moment of that step, in the seconds that the events are told in.
    """
    rows = csv.DictReader((run_dir / "metrics.csv").read_text().splitlines())
    # Of a row's two times the former is read first; a row from before the first step has no more than the former.
    first_step = max(float(row["elapsed_seconds"]) - float(row["train_seconds"]) for row in rows)
    events = map(json.loads, (run_dir / "events.jsonl").read_text().splitlines())
    saved = max(event["seconds"] for event in events if event["message"] == "checkpoints/best.json")
    return round(float(saved) - first_step, 4)


def prepare() -> None:
    """Fill the file cache, so that the first trial is like the others."""
    import_seconds()


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Ratios are of neighbours in time; an unsolved run counts as one that never got there."""
    values = [trial.values for trial in trials]
    imports = tuple(float(value["import_seconds"]) for value in values)

    def over_imports(name: str) -> tuple[float, ...]:
        return tuple(seconds / bare for seconds, bare in zip(reached(values, name), imports, strict=True))

    return [
        Count("solved with the default settings, seeds", tuple(value["solved"] for value in values), SEEDS_NEEDED),
        Figure(
            "prompt to verified `best` on disk / bare `import torch, gymnasium`",
            over_imports("best_seconds"),
            "x",
            Limit(1.7),
            Limit(1.3),
        ),
        Figure(
            "env steps until solved", reached(values, "solved_env_steps"), "", Limit(20_000), Limit(8_000), SEEDS_NEEDED
        ),
        Figure("prompt to verified `best` on disk", reached(values, "best_seconds"), "s"),
        Figure("prompt to prompt (process exit)", reached(values, "exit_seconds"), "s"),
        Figure("process exit / bare import", over_imports("exit_seconds"), "x"),
        Figure("first env step to verified `best` on disk", reached(values, "solution_seconds"), "s"),
        Figure("bare import", imports, "s"),
    ]


def reached(values: Sequence[Values], name: str) -> tuple[float, ...]:
    """A quantity of each run; infinite where it did not solve."""
    return tuple(float(value[name]) if value["solved"] else math.inf for value in values)


BENCHMARK = Benchmark(
    "solve",
    "`run_a3c.py --workers 4` with the default settings and the live console in a terminal of 120 x 40, a run per "
    "seed, each right after a process that only imports torch and gymnasium. Seconds count from just before the "
    "process starts until `checkpoints/best.json`, with its verified evaluation, has been renamed into place, and "
    "until the process has ended; from the first env step on, until the program itself tells of that checkpoint.",
    plan,
    measure,
    rows,
    prepare,
)
