"""From the prompt to a solved CartPole-v1, beside stable-baselines3's A2C and PPO with the settings of its zoo."""

import json
import math
from collections.abc import Callable, Sequence

from benchmarks.benchmark import Benchmark, Parameters, Size, Trial, Values
from benchmarks.figures import Figure, Row, at_least
from benchmarks.machine import ROOT
from benchmarks.peer_environment import ensure, python_of, same
from benchmarks.program import TERMINAL, Program, run_directory
from benchmarks.solve import ARGUMENTS, measure_run, reached

DRIVER = ROOT / "benchmarks" / "peers" / "sb3.py"
PEER, ENVIRONMENT = "stable-baselines3==2.9.2", "stable-baselines3"
BOX2D = "box2d==2.3.10"
PEERS = {"a2c": "A2C", "ppo": "PPO"}
MAX_ENV_STEPS = 100_000  # the zoo's budget of PPO, over which it anneals; A2C's longer one changes nothing before
THREADS = 1  # no slower than the default of one per core, and faster for A2C (README.md)
SEEDS = 20
LIMIT_SECONDS = 300.0


def plan(size: Size) -> list[Parameters]:
    """A trial per seed."""
    seeds = 1 if size.quick else min(size.seeds, SEEDS)
    shared = {
        "arguments": ARGUMENTS,
        "terminal": list(TERMINAL),
        "peer": PEER,
        "max_env_steps": MAX_ENV_STEPS,
        "threads": THREADS,
    }
    return [{**shared, "seed": seed} for seed in range(seeds)]


def prepare() -> None:
    """The peer's environment, torch first and by its exact version, with the simulators of the gallery."""
    ensure(ENVIRONMENT, ((same("torch"),), (PEER, same("gymnasium"), same("numpy"), BOX2D)))


def measure(parameters: Parameters) -> Values:
    """All three with one seed, beginning with another one each time, so that a drift of the machine cancels out."""
    columns, lines = parameters["terminal"]
    sides: list[tuple[str, Callable[[], Values]]] = [
        ("ours", lambda: measure_run(parameters["arguments"], parameters["seed"], (columns, lines))),
        ("a2c", lambda: measure_peer("a2c", parameters)),
        ("ppo", lambda: measure_peer("ppo", parameters)),
    ]
    first = parameters["seed"] % len(sides)
    return {name: side() for name, side in (*sides[first:], *sides[:first])}


def measure_peer(algorithm: str, parameters: Parameters) -> Values:
    """One run of the peer; `exit_seconds` are of its whole process."""
    options = {
        "algorithm": algorithm,
        "seed": parameters["seed"],
        "threads": parameters["threads"],
        "max-env-steps": parameters["max_env_steps"],
    }
    with run_directory() as output:
        command = [str(python_of(ENVIRONMENT)), str(DRIVER), *(f"--{name}={value}" for name, value in options.items())]
        with Program([*command, f"--output={output}"]) as program:
            exit_seconds = program.succeed(LIMIT_SECONDS)
        return {**json.loads(output.read_text()), "exit_seconds": round(exit_seconds, 4)}


def rows(trials: Sequence[Trial]) -> list[Row]:
    """Ratios of runs with one seed, and what they are made of.

    A peer that has not solved when its budget is spent counts in a ratio with the time it took until then, which is
    less than it would have needed; a run of ours that has not solved counts as one that never gets there.
    """
    ours = [trial.values["ours"] for trial in trials]
    theirs = {peer: [trial.values[peer] for trial in trials] for peer in PEERS}

    def ratios(peer: str, name: str, without: str | None = None) -> tuple[float, ...]:
        seconds = (value[name] - (value[without] if without else 0.0) for value in theirs[peer])
        return tuple(their / our for their, our in zip(seconds, reached(ours, name), strict=True))

    def steps(peer: str) -> tuple[float, ...]:
        return tuple(float(value["env_steps"]) if value["solved"] else math.inf for value in theirs[peer])

    found: list[Row] = [
        Figure("whole process, A2C / ours", ratios("a2c", "exit_seconds"), "x", at_least(1.7), at_least(2.5)),
        Figure(
            "first env step to solution, A2C / ours", ratios("a2c", "solution_seconds"), "x", at_least(3), at_least(8)
        ),
        Figure(
            "first env step to solution, PPO / ours", ratios("ppo", "solution_seconds"), "x", at_least(8), at_least(20)
        ),
        Figure("whole process, PPO / ours", ratios("ppo", "exit_seconds"), "x"),
    ]
    for peer, name in PEERS.items():
        found.append(
            Figure(
                f"first env step to solution, {name} without the time of its evaluations / ours",
                ratios(peer, "solution_seconds", "evaluation_seconds"),
                "x",
            )
        )
    for peer, name in PEERS.items():
        found += [
            Figure(f"{name}: whole process", tuple(value["exit_seconds"] for value in theirs[peer]), "s"),
            Figure(
                f"{name}: first env step to solution", tuple(value["solution_seconds"] for value in theirs[peer]), "s"
            ),
            Figure(f"{name}: of that, evaluations", tuple(value["evaluation_seconds"] for value in theirs[peer]), "s"),
            Figure(f"{name}: env steps until solved", steps(peer)),
        ]
    return [
        *found,
        Figure("ours: whole process", reached(ours, "exit_seconds"), "s"),
        Figure("ours: first env step to verified `best` on disk", reached(ours, "solution_seconds"), "s"),
        Figure("ours: env steps until solved", reached(ours, "solved_env_steps")),
    ]


BENCHMARK = Benchmark(
    "stable-baselines3",
    f"`run_a3c.py --workers 4` as in `solve`, and {PEER}'s A2C and PPO with the settings of its zoo "
    "(`benchmarks/peers/sb3.py`), all three with one seed, right after one another, beginning with another one each "
    f"time; {THREADS} thread for the peer, no slower than its default. The whole process is what a user waits for, "
    "from prompt to prompt. The peer has solved when 100 greedy episodes reach 475 for the first time, and it may stop "
    "there; ours has to reach it again with 100 fresh episodes and to have written the policy to the disk. The peer "
    "evaluates when its training promises something, 5 episodes first, then 100 at once; rows without the time of its "
    f"evaluations show what they cost it. A peer unsolved after {MAX_ENV_STEPS:,} env steps counts in the ratios with "
    "the time it took until then, which favours it.",
    plan,
    measure,
    rows,
    prepare,
)
