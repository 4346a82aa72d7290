"""The gallery: what the default command reaches on the environments that people bring. `make gallery`.

Each run is `run_a3c.py --env ID --seed S`, nothing else but the target, from the prompt to its end, one at a time. Runs
that are there already are not made again; docs/gallery.md is written from all of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from a3c.presets import resolved
from benchmarks.machine import conditions

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "gallery.jsonl", ROOT / "docs" / "gallery.md"
SEEDS = range(5)  # of each row; where 10 of 10 are wanted, twice as many
TEN = ("Acrobot-v1", "LunarLander-v3")


class Row(NamedTuple):
    """An environment, the mean return that counts as solved, and what a published policy reaches there."""

    env: str
    target: float
    others: str


ROWS = (
    Row("Acrobot-v1", -100, "zoo A2C -83, PPO -74 after 0.5 to 1 M steps"),
    Row("MountainCar-v0", -110, "zoo A2C -111, PPO -110 after 1 M"),
    Row("MountainCarContinuous-v0", 90, "zoo A2C 91, PPO 88"),
    Row("Pendulum-v1", -200, "zoo A2C -163 after 1 M, PPO -172 after 100 k"),
    Row("LunarLander-v3", 200, "zoo A2C 156, PPO 242 after 1 M"),
    Row("LunarLanderContinuous-v3", 200, "zoo A2C 84 after 5 M, PPO 271 after 1 M"),
    Row("minigrid:MiniGrid-DoorKey-5x5-v0", 0.95, "zoo PPO 0.964 after 100 k"),
    Row("FrozenLake-v1", 0.70, ""),
    Row("Taxi-v4", 8, "the best policy's mean is about 7.9"),
)


def main() -> int:
    """Make the runs that are missing, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="+", default=[row.env for row in ROWS], help="these rows alone")
    parser.add_argument("--preset", nargs="+", default=["auto", "none"], help="with these presets")
    options = parser.parse_args()
    for preset in options.preset:
        for row in ROWS:
            if row.env not in options.env or (preset == "none" and resolved("auto", row.env)[0] == "none"):
                continue
            for seed in range((1 + (row.env in TEN and preset == "auto")) * len(SEEDS)):
                if not any((run["env"], run["preset"], run["seed"]) == (row.env, preset, seed) for run in runs()):
                    keep(measured(row, preset, seed))
    PAGE.write_text(page(runs()), encoding="utf-8")
    return 0


def runs() -> list[dict[str, Any]]:
    """All that have been made."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def keep(run: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(run) + "\n")
    print(run, flush=True)


def measured(row: Row, preset: str, seed: int) -> dict[str, Any]:
    """One run, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = ["--env", row.env, "--preset", preset, "--target-return", str(row.target), "--seed", str(seed)]
        began = time.monotonic()
        command = [sys.executable, "run_a3c.py", *words, "--run-dir", str(run_dir), "--dashboard", "off"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ, check=False)
        seconds = time.monotonic() - began
        summary = json.loads((run_dir / "summary.json").read_text())
    evaluation = summary.get("evaluation") or summary.get("best") or {}
    kept = {name: summary.get(name) for name in ("status", "env_steps", "solved_env_steps", "updates")}
    return {
        "env": row.env,
        "preset": preset,
        "seed": seed,
        "target": row.target,
        **kept,
        "seconds": round(seconds, 2),
        "return": evaluation.get("mean"),
        "conditions": conditions(),
    }


def page(made: list[dict[str, Any]]) -> str:
    """docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "What the command reaches with `--env` and `--target-return`, without another option: solved means that the",
        "mean of 100 greedy episodes has reached the target, and again with fresh seeds. Median, smallest to largest,",
        "of the runs that were solved, on seeds from 0 on, on which nothing was tuned; seconds are of the whole",
        "command, imports included. `make gallery` makes it; every run is in",
        "[benchmarks/results/gallery.jsonl](../benchmarks/results/gallery.jsonl), with the machine. What others reach",
        "is as they publish it, not measured here.",
        "",
        "| environment | target | preset | solved | env steps | seconds | returns | others |",
        "|---|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in ROWS:
        for preset in ("auto", "none"):
            own = [run for run in made if (run["env"], run["preset"]) == (row.env, preset)]
            if own:
                lines.append(f"| {row.env.partition(':')[2] or row.env} {cells(row, preset, own)}")
    return "\n".join([*lines, ""])


def cells(row: Row, preset: str, own: list[dict[str, Any]]) -> str:
    solved = [run for run in own if run["status"] == "solved"]
    name = "none" if resolved(preset, row.env)[0] == "none" else "its own"
    steps, seconds = (spread([run[name] for run in solved]) for name in ("solved_env_steps", "seconds"))
    returns = [run["return"] for run in own if run["return"] is not None]
    found = f"{min(returns):.4g} to {max(returns):.4g}" if returns else ""
    return f"| {row.target:g} | {name} | {len(solved)} of {len(own)} | {steps} | {seconds} | {found} | {row.others} |"


def spread(values: list[float]) -> str:
    if not values:
        return ""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{number:,.0f}" if max(values) > 1000 else f"{number:.1f}" for number in numbers)
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    sys.exit(main())
