"""The gallery: what the default command reaches on the environments that people bring. `make gallery`.

Each run is `run_a3c.py --env ID --seed S`, nothing else but the target, from the prompt to its end, one at a time. Runs
that are there already are not made again; docs/gallery.md and README's table are written from all of them. With
`--beside`, ours and stable-baselines3's PPO and A2C with the settings of its zoo (benchmarks/peers/zoo.json) run right
after one another, each until it has solved the environment or spent its budget.
"""

import argparse
import json
import math
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
from benchmarks.peer_environment import python_of
from benchmarks.stable_baselines3 import DRIVER, ENVIRONMENT, PEER, prepare

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "gallery.jsonl", ROOT / "docs" / "gallery.md"
README, BEGIN, END = ROOT / "README.md", "<!-- gallery -->", "<!-- /gallery -->"
PICTURES = ROOT / "docs" / "figures" / "gallery"  # by benchmarks.gallery_pictures
ZOO = ROOT / "benchmarks" / "peers" / "zoo.json"
PAIRED = range(3)  # seeds of `--beside`
PEERS = {"ppo": "PPO", "a2c": "A2C"}


MISSED = (
    "Not in the table, for no setting was found: BipedalWalker-v3 at 300 (seed 1000: the defaults end at 211 after 1 M",
    "env steps; with `--workers 2 --envs-per-worker 16 --entropy-coef 0.001 --max-env-steps 4000000` at 259, standard",
    "deviation 1.8, after 7 minutes with `--vector envpool`; PPO's usual settings at 252), and Ant-v5 above 3485 (seed",
    "1000: 761 after 1 M with `--noise-correlation 0 --entropy-coef 0`, 258 with Walker2d's preset).",
)


class Row(NamedTuple):
    """An environment, the mean return that is wanted, and what a published policy reaches there."""

    env: str
    target: float
    others: str
    to_the_end: bool = False  # whether all of the budget is used, and the best policy judged
    seeds: int = 5
    first: int = 0  # the first seed: those before it were looked at


ROWS = (
    Row("Acrobot-v1", -100, "zoo A2C -83, PPO -74 after 0.5 to 1 M steps", seeds=10),
    Row("MountainCar-v0", -110, "zoo A2C -111, PPO -110 after 1 M"),
    Row("MountainCarContinuous-v0", 90, "zoo A2C 91, PPO 88"),
    Row("Pendulum-v1", -200, "zoo A2C -163 after 1 M, PPO -172 after 100 k"),
    Row("LunarLander-v3", 200, "zoo A2C 156, PPO 242 after 1 M", seeds=10),
    Row("LunarLanderContinuous-v3", 200, "zoo A2C 84 after 5 M, PPO 271 after 1 M"),
    Row("BipedalWalker-v3", 300, "zoo A2C 300, PPO 288 after 5 M"),
    Row("Hopper-v5", 1253, "after 1 M: Tianshou's A2C 1253, PPO 2410", True),
    Row("HalfCheetah-v5", 1830, "after 1 M: Tianshou's A2C 1830, PPO 5819", True),
    Row("Walker2d-v5", 1092, "after 1 M: Tianshou's A2C 1092, PPO 3479", True),
    Row("Ant-v5", 3485, "after 1 M: Tianshou's A2C 3485, PPO 1327", True),
    Row("minigrid:MiniGrid-DoorKey-5x5-v0", 0.95, "zoo PPO 0.964 after 100 k"),
    Row("FrozenLake-v1", 0.70, ""),
    Row("Taxi-v4", 8, "the best policy's mean is about 7.9"),
    Row("ALE/Pong-v5", 18, "zoo A2C 17.3, PPO 21.0 after 10 M agent steps", seeds=3, first=1),
    Row("a3c.masked:CartPoleNoVel", 475, "zoo recurrent PPO 500 after 100 k"),
    Row("minigrid:MiniGrid-MemoryS7-v0", 0.9, "", seeds=3),
)


def main() -> int:
    """Make the runs that are missing, then the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", default=[row.env for row in ROWS], help="these rows alone")
    parser.add_argument("--preset", nargs="*", default=["auto", "none"], help="with these presets")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the run directories there")
    parser.add_argument("--beside", action="store_true", help="beside stable-baselines3, in an environment of its own")
    options = parser.parse_args()
    rows = [row for row in ROWS if row.env in options.env]
    if options.beside:
        prepare()
        zoo = json.loads(ZOO.read_text())
        wanted = [(row, "auto", seed, side) for row in rows for seed in PAIRED for side in ("beside", *PEERS)]
        wanted = [one for one in wanted if one[0].env in zoo["ppo"]]
    else:
        pairs = [(row, preset) for preset in options.preset for row in rows if preset == "auto" or has_preset(row)]
        wanted = [(row, preset, seed, "ours") for row, preset in pairs for seed in seeds_of(row, preset)]
    for row, preset, seed, side in wanted:
        if not any(identity(run) == (row.env, preset, seed, side) for run in runs()):
            keep(
                row,
                preset,
                seed,
                side,
                peer(row, side, seed) if side in PEERS else measured(row, preset, seed, options.keep),
            )
    made = runs()
    PAGE.write_text(page(made), encoding="utf-8")
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text("\n".join([f"{before}{BEGIN}", *short(made), f"{END}{after}"]), encoding="utf-8")
    return 0


def has_preset(row: Row) -> bool:
    return resolved("auto", row.env)[0] != "none"


def seeds_of(row: Row, preset: str) -> range:
    return range(row.first, row.first + (row.seeds if preset == "auto" else min(row.seeds, 5)))


def runs() -> list[dict[str, Any]]:
    """All that have been made."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def identity(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["env"], run["preset"], run["seed"], run.get("side", "ours")


def keep(row: Row, preset: str, seed: int, side: str, result: dict[str, Any]) -> None:
    about = {"env": row.env, "preset": preset, "seed": seed, "side": side, "target": row.target}
    run = {**about, **result, "conditions": conditions()}
    with RESULTS.open("a") as file:
        file.write(json.dumps(run) + "\n")
    print(run, flush=True)


def measured(row: Row, preset: str, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """One run of ours, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run" if keep is None else keep / f"{name_of(row).replace('/', '-')}-{preset}-{seed}"
        words = ["--env", row.env, "--preset", preset, "--seed", str(seed)]
        words += ["--target-return", "1e9" if row.to_the_end else str(row.target)]
        began = time.monotonic()
        command = [sys.executable, "run_a3c.py", *words, "--run-dir", str(run_dir), "--dashboard", "off"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ, check=False)
        seconds = time.monotonic() - began
        summary = json.loads((run_dir / "summary.json").read_text())
    evaluation = summary.get("evaluation") or summary.get("best") or {}
    kept = {name: summary.get(name) for name in ("status", "env_steps", "solved_env_steps", "updates", "cpu_seconds")}
    return {**kept, "seconds": round(seconds, 2), "return": evaluation.get("mean")}


def peer(row: Row, algorithm: str, seed: int) -> dict[str, Any]:
    """One run of stable-baselines3, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        words = ["--algorithm", algorithm, "--env", row.env, f"--target={row.target}", "--seed", str(seed)]
        began = time.monotonic()
        command = [str(python_of(ENVIRONMENT)), str(DRIVER), *words, "--output", str(output)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        result = {**json.loads(output.read_text()), "seconds": round(time.monotonic() - began, 2)}
    solved = {"status": "solved", "solved_env_steps": result["env_steps"]} if result["solved"] else {"status": "budget"}
    return {**result, **solved}


def page(made: list[dict[str, Any]]) -> str:
    """docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "What the command reaches with `--env` and `--target-return`, without another option: solved means that the",
        "mean of 100 greedy episodes has reached the target, and again with fresh seeds. Median, smallest to largest,",
        "of the runs that were solved, on seeds from 0 on, on which nothing was tuned; seconds are of the whole",
        "command, imports included. The rows of MuJoCo are runs of 1,000,000 env steps, made on a busy machine: the",
        "return is of the policy that a run keeps, its best, and so many are above the bar. `make gallery`",
        "makes it; every run is in",
        "[benchmarks/results/gallery.jsonl](../benchmarks/results/gallery.jsonl), with the machine. What others reach",
        "is as they publish it, not measured here.",
        "",
        "| environment | target | preset | solved | env steps | seconds | returns | others |",
        "|---|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in ROWS:
        for preset in ("auto", "none"):
            if own := chosen(made, row, "ours", preset):
                lines.append(f"| {name_of(row)} {cells(row, preset, own)} {returns(own)} | {row.others} |")
    return "\n".join([*lines, "", *MISSED, "", *beside(made), "", *pictures(), ""])


def short(made: list[dict[str, Any]]) -> list[str]:
    """README's table."""
    lines = ["| environment | solved at | seeds solved | env steps, median (all) | seconds from the prompt |"]
    lines.append("|---|---:|---:|---:|---:|")
    for row in ROWS:
        if own := chosen(made, row, "ours"):
            target, _, *others = cells(row, "auto", own).strip("| ").split(" | ")
            lines.append(f"| {name_of(row)} | {' | '.join([target, *others])} |")
    return lines


def chosen(made: list[dict[str, Any]], row: Row, side: str, preset: str = "auto") -> list[dict[str, Any]]:
    return [run for run in made if identity(run) == (row.env, preset, run["seed"], side)]


def name_of(row: Row) -> str:
    return row.env.partition(":")[2] or row.env


def reached(run: dict[str, Any]) -> bool:
    """Whether a run is solved; of one that uses all of its budget, whether its best policy is above the bar."""
    return bool(run["status"] == "solved" or (run.get("return") or -math.inf) > run["target"])


def cells(row: Row, preset: str, own: list[dict[str, Any]]) -> str:
    good = [run for run in own if (reached(run) if row.to_the_end else run["status"] == "solved")]
    name = "none" if resolved(preset, row.env)[0] == "none" else "its own"
    steps = spread([run["solved_env_steps"] or run["env_steps"] for run in good])
    seconds = spread([run["seconds"] for run in good])
    return f"| {row.target:g} | {name} | {len(good)} of {len(own)} | {steps} | {seconds} |"


def returns(own: list[dict[str, Any]]) -> str:
    found = [run["return"] for run in own if run["return"] is not None]
    return f"{min(found):.4g} to {max(found):.4g}" if found else ""


def pictures() -> list[str]:
    """The strips that there are."""
    lines = ["## Pictures", "", "Greedy episodes of policies trained with seed 0, from the first step to the last."]
    for row in ROWS:
        if (PICTURES / (file := f"{name_of(row)}.png")).exists():
            lines += [
                "",
                f"**{name_of(row)}**: `run_a3c.py --env {row.env}`",
                "",
                f"![{name_of(row)}](figures/gallery/{file})",
            ]
    return lines


def beside(made: list[dict[str, Any]]) -> list[str]:
    """Ours and stable-baselines3, where both have run with the same seeds right after one another."""
    lines = [
        "## Beside stable-baselines3",
        "",
        f"{PEER} with the settings and the budget of its zoo ([zoo.json](../benchmarks/peers/zoo.json)), in the same",
        "session, each side after the other with the same seed: seconds of the whole process, median (smallest to",
        "largest) of all runs; of the peers without the time of their evaluations, which would favour ours. A peer",
        "has solved with the first 100 greedy episodes that reach the target; ours has to do so twice. What is",
        "unsolved when its budget is spent counts with the time until then, in the ratio too.",
        "`python -m benchmarks.gallery --beside`.",
        "",
        "| environment | ours: solved, seconds | PPO | A2C | PPO / ours | A2C / ours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = [(row, [chosen(made, row, side) for side in ("beside", *PEERS)]) for row in ROWS]
    for row, sides in rows:
        if all(sides):
            ours = {run["seed"]: working(run) for run in sides[0]}
            ratios = [[working(run) / ours[run["seed"]] for run in own if run["seed"] in ours] for own in sides[1:]]
            told = [f"{sum(r['status'] == 'solved' for r in own)} of {len(own)}, {timed(own)}" for own in sides]
            lines.append(
                f"| {name_of(row)} | {' | '.join([*told, *(f'{statistics.median(r):.1f}' for r in ratios)])} |"
            )
    return lines


def working(run: dict[str, Any]) -> float:
    """Seconds of a run, of a peer's without its evaluations."""
    return float(run["seconds"] - run.get("evaluation_seconds", 0.0))


def timed(own: list[dict[str, Any]]) -> str:
    return spread([working(run) for run in own])


def spread(values: list[float]) -> str:
    if not values:
        return ""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{number:,.0f}" if max(values) > 1000 else f"{number:.1f}" for number in numbers)
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    sys.exit(main())
