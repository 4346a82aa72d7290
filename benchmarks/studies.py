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

from a3c.config import ON_POLICY, VALUE_BASED
from benchmarks.machine import ROOT

RUNS = Path("benchmarks") / ".runs" / "studies"  # below the checkout, as it is told in the results
TABLES = ROOT / "benchmarks" / "studies"
FIGURES = ROOT / "docs" / "figures"
KEPT = ("study.json", "runs.csv", "comparison.json", "lost_updates.json")
# Nothing stops early where the target is above what the environment pays, so that runs are of one length.
WHOLE_BUDGET = "--target-return 501"
# Many workers that wait for their environments, so that a gradient is as many updates old as there are others; and one
# worker that acts with old parameters on purpose.
STALE = "--workers 16 --env-latency-ms 2"
# A critic is judged on held-out episodes at each evaluation.
JUDGED = (
    "--env LunarLander-v3 --critic-episodes 10 --max-env-steps 100000 --eval-interval 20000 --eval-episodes 20 "
    "--seeds 5"
)
LAG = "--forced-staleness 0 2 8 32 128 --workers 1"
FORCED = f"{LAG} --max-env-steps 100000"
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
    "family": (f"--objective {' '.join((*ON_POLICY, *VALUE_BASED))} --seeds 10", ("time_to_target",)),
    "family-lunar-lander": ("--env LunarLander-v3 --objective a2c ppo v-trace natural --seeds 10", ()),
    "variance": (
        "--objective reinforce a2c --baseline no yes --gae-lambda 1 0.95 0.5 0 --n-steps 5 --entropy-coef 0 --seeds 5",
        ("gradient_variance",),
    ),
    "variance-entropy": ("--objective a2c --entropy-coef 0 0.01 --seeds 5", ("gradient_variance",)),
    "critic": (f"--objective a2c --critic tied separate {JUDGED}", ()),
    "critic-steps": (f"--objective a2c --critic separate --critic-steps 1 4 {JUDGED}", ()),
    "critic-rate": (f"--objective a2c --critic separate --critic-learning-rate 1e-3 3e-4 3e-3 {JUDGED}", ()),
    "critic-decay": (f"--objective a2c --critic separate --critic-weight-decay 0 0.3 {JUDGED}", ()),
    "critic-memory": (f"--objective a2c --critic separate --critic-memory 0 0.5 {JUDGED}", ()),
    "critic-slow": (f"--objective a2c --slow-critic 1 0.1 0.01 {JUDGED}", ()),
    "critic-clip": (f"--objective ppo --value-clip 1e9 0.1 {JUDGED}", ()),
    "staleness-v-trace": (f"--objective a2c --correction none v-trace {STALE} --seeds 20", ("time_to_target",)),
    "staleness-decoupled": (f"--objective ppo --correction none decoupled {STALE} --seeds 20", ()),
    "forced-v-trace": (f"--objective a2c --correction none v-trace {FORCED} --seeds 10", ()),
    "forced-v-trace-slow": (f"--objective a2c --correction none v-trace --learning-rate 1e-3 {FORCED} --seeds 10", ()),
    "forced-decoupled": (f"--objective ppo --correction none decoupled {FORCED} --seeds 10", ()),
    "forced-fresh": (f"--objective a2c --correction none --max-staleness 0 --stale recompute {FORCED} --seeds 10", ()),
    "forced-lunar-lander": (
        "--env LunarLander-v3 --objective ppo --correction none decoupled "
        f"{LAG} --max-env-steps 300000 --envs-per-worker 16 --seeds 2",
        (),
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
        if (source / name).exists():  # what a single worker loses is not counted
            shutil.copyfile(source / name, target / f"{prefix}{name}")


if __name__ == "__main__":
    sys.exit(main())
