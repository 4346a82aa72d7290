"""The published studies: what each compares, and the command that makes it again.

    python -m benchmarks.studies                    all that are not there yet (about three quarters of an hour)
    python -m benchmarks.studies async-vs-sync      one of them; what is there is kept, what is missing is made
    python -m benchmarks.studies --list             their commands

Each is an ordinary `run_a3c.py compare`; its tables go to benchmarks/studies/NAME, its figures to docs/figures.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT

RUNS = Path("benchmarks") / ".runs" / "studies"  # below the checkout, as it is told in the results
TABLES = ROOT / "benchmarks" / "studies"
FIGURES = ROOT / "docs" / "figures"
KEPT = ("study.json", "runs.csv", "comparison.json", "lost_updates.json")
# Nothing stops early where the target is above what the environment pays, so that runs are of one length.
WHOLE_BUDGET = "--target-return 501"
STUDIES: dict[str, tuple[str, tuple[str, ...]]] = {  # the options of `compare`, and the figures that are published
    "async-vs-sync": ("--modes async sync --workers 4 --seeds 30", ("learning_curves", "staleness")),
    "async-vs-locked": ("--modes async locked --workers 4 --seeds 30", ("learning_curves",)),
    "tuned": ("--modes async sync locked --workers 4 --seeds 30 --tuned", ("learning_curves",)),
    "scaling": ("--modes async sync --workers 1 2 4 8 --seeds 20", ("throughput",)),
    "scaling-latency": (
        "--modes async sync --workers 1 2 4 8 16 --env-latency-ms 2 --seeds 6 --max-env-steps 100000",
        ("throughput",),
    ),
    "workers-64": (
        "--modes async sync --workers 64 --env-latency-ms 10 --seeds 4 --max-env-steps 200000",
        ("learning_curves", "staleness"),
    ),
    "entropy": (
        f"--preset a2c-tutorial --entropy-coef 0.01 0 --max-env-steps 60000 {WHOLE_BUDGET} --seeds 20",
        ("learning_curves", "advantage_curves", "advantage"),
    ),
    "tutorial": (
        f"--preset a2c-tutorial --workers 1 2 --envs-per-worker 1 8 --max-env-steps 60000 {WHOLE_BUDGET} --seeds 10",
        ("learning_curves",),
    ),
}


def main() -> int:
    """Make the studies that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*STUDIES, []], metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--list", action="store_true", help="print the commands and do nothing")
    options = parser.parse_args()
    for name in options.names or STUDIES:
        print(f"{name}: python run_a3c.py compare {STUDIES[name][0]}", flush=True)
        if not options.list and (code := make(name)):
            return code
    return 0


def make(name: str) -> int:
    """Make one study and publish its tables and figures; the exit code of `compare`."""
    options, figures = STUDIES[name]
    command = [sys.executable, "run_a3c.py", "compare", *shlex.split(options), "--study-dir", str(RUNS / name)]
    if code := subprocess.run(command, cwd=ROOT).returncode:
        return code
    made = ROOT / RUNS / name
    publish(made, TABLES / name, KEPT)
    for figure in figures:
        publish(made / "figures", FIGURES, (f"{figure}.svg",), f"{name}-")
    return 0


def publish(source: Path, target: Path, names: tuple[str, ...], prefix: str = "") -> None:
    """Copy files of a finished study into version control."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, target / f"{prefix}{name}")


if __name__ == "__main__":
    sys.exit(main())
