"""The product's first minute: from the prompt to a verified solution on disk, console on."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Count, Figure, Limit, Row
from benchmarks.program import TERMINAL, TRAIN, Program, run_directory

IMPORT = (sys.executable, "-c", "import torch, gymnasium")
SEEDS_NEEDED = 20
LIMIT_SECONDS = 300.0


def plan(size: Size) -> list[Parameters]:
    """A trial per seed."""
    seeds = 1 if size.quick else size.seeds
    return [{"arguments": ["--workers", "4"], "terminal": list(TERMINAL), "seed": seed} for seed in range(seeds)]


def import_seconds() -> float:
    """Wall time of the bare imports, as a whole process."""
    with Program(IMPORT) as program:
        return program.succeed(LIMIT_SECONDS)


def measure(parameters: Parameters) -> Values:
    """The bare imports, then the run."""
    imports = import_seconds()
    terminal = (parameters["terminal"][0], parameters["terminal"][1])
    with run_directory() as run_dir:
        command = (*TRAIN, *parameters["arguments"], "--seed", str(parameters["seed"]), "--run-dir", str(run_dir))
        with Program(command, terminal) as program:
            exit_seconds = program.wait(LIMIT_SECONDS)
            if not (run_dir / "summary.json").exists():
                raise program.failure(f"ended with exit code {program.process.returncode} and without a summary")
        summary = json.loads((run_dir / "summary.json").read_text())
        best = verified_seconds(run_dir / "checkpoints" / "best.json", program.started_ns)
    return {
        "import_seconds": round(imports, 4),
        "solved": summary["status"] == "solved" and best is not None,
        "best_seconds": best,
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


def prepare() -> None:
    """Fill the file cache, so that the first trial is like the others."""
    import_seconds()


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Ratios are of neighbours in time; an unsolved run counts as one that never got there."""
    values = [trial.values for trial in trials]

    def samples(name: str, divisor: str | None = None) -> tuple[float, ...]:
        return tuple(_reached(value, name) / (value[divisor] if divisor else 1) for value in values)

    return [
        Count("solved with the default settings, seeds", tuple(value["solved"] for value in values), SEEDS_NEEDED),
        Figure("prompt to verified `best` on disk / bare `import torch, gymnasium`", samples("best_seconds",
               "import_seconds"), "x", Limit(2.0), Limit(1.5)),
        Figure("env steps until solved", samples("solved_env_steps"), "", Limit(40_000), Limit(15_000)),
        Figure("prompt to verified `best` on disk", samples("best_seconds"), "s"),
        Figure("prompt to prompt (process exit)", samples("exit_seconds"), "s"),
        Figure("process exit / bare import", samples("exit_seconds", "import_seconds"), "x"),
        Figure("training, first env step to last", samples("train_seconds"), "s"),
        Figure("bare import", tuple(value["import_seconds"] for value in values), "s"),
    ]  # fmt: skip


def _reached(value: dict[str, Any], name: str) -> float:
    return float(value[name]) if value["solved"] else math.inf


BENCHMARK = Benchmark(
    "solve",
    "`run_a3c.py --workers 4` with the default settings and the live console in a terminal of 120 x 40, a run per "
    "seed, each right after a process that only imports torch and gymnasium. Seconds count from just before the "
    "process starts until `checkpoints/best.json`, with its verified evaluation, has been renamed into place, and "
    "until the process has ended.",
    plan,
    measure,
    rows,
    prepare,
)
