"""The search behind the settings of each mode: random candidates first, then fresh seeds for the best of them.

    python -m benchmarks.tuning.search explore --minutes 10               # 8 seeds a candidate
    python -m benchmarks.tuning.search confirm --best 6                   # 32 other seeds for the best candidates
    python -m benchmarks.tuning.search explore --mode sync --minutes 10   # the same for another mode
    python -m benchmarks.tuning.search show

Every trial is an ordinary run of four workers on CartPole-v1, one at a time, on an otherwise idle machine. The seeds
lie far from those of the published benchmarks (0 to 19), so that no setting is chosen on a seed it is reported on.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from workers import train

RESULTS = Path(__file__).parent / "results"
EXPLORE_SEEDS, CONFIRM_SEEDS = range(50_000, 50_008), range(60_000, 60_032)
UNSOLVED_SECONDS = 20.0  # about what a spent budget takes, twice
CHOICES: dict[str, list[Any]] = {  # n_steps 12 and 24, and the two highest learning rates, came with `sync`
    "envs_per_worker": [1, 2, 4],
    "n_steps": [12, 16, 24, 32, 48],
    "learning_rate": [1.5e-3, 2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3],
    "gamma": [0.97, 0.98, 0.99],
    "gae_lambda": [0.95, 0.98, 1.0],
    "entropy_coef": [0.0, 0.001, 0.01],
    "value_coef": [0.25, 0.5, 1.0],
    "value_scale": [20.0, 50.0],
    "normalize_advantages": [False, True],
    "max_grad_norm": [0.5, 1.0, 5.0],
    "adam_beta1": [0.0, 0.5, 0.9],
    "adam_beta2": [0.99, 0.999],
    "epsilon": [1e-8, 1e-5],
}
DEFAULTS: dict[str, Any] = {  # what `async` was found to like best, from which the search of the others starts
    "envs_per_worker": 1, "n_steps": 48, "learning_rate": 4e-3, "gamma": 0.97, "gae_lambda": 0.98,
    "entropy_coef": 0.01, "value_coef": 0.5, "value_scale": 20.0, "normalize_advantages": False, "max_grad_norm": 1.0,
    "adam_beta1": 0.0, "adam_beta2": 0.999, "epsilon": 1e-5,
}  # fmt: skip
FIRST: dict[str, dict[str, Any]] = {
    "async": {  # the best of an earlier search with simulated, constant staleness
        "envs_per_worker": 1, "n_steps": 32, "learning_rate": 2.8e-3, "gamma": 0.97, "gae_lambda": 0.98,
        "entropy_coef": 0.0, "value_coef": 0.25, "value_scale": 50.0, "normalize_advantages": False,
        "max_grad_norm": 0.5, "adam_beta1": 0.0, "adam_beta2": 0.999, "epsilon": 1e-8,
    },
    "locked": DEFAULTS,
    "sync": DEFAULTS,
}  # fmt: skip


def main() -> None:
    """Run one stage, or show what the stages have found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("explore", "confirm", "show"))
    parser.add_argument("--mode", choices=("async", "locked", "sync"), default="async")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--best", type=int, default=6)
    options = parser.parse_args()
    if options.stage == "explore":
        explore(options.mode, options.minutes)
    elif options.stage == "confirm":
        confirm(options.mode, options.best)
    for stage in ("explore", "confirm"):
        show(stage, options.mode)


def explore(mode: str, minutes: float) -> None:
    """Candidates at random: the first setting with one to four values changed, or all drawn anew."""
    rng, end = np.random.default_rng(), time.monotonic() + 60 * minutes
    known = {json.dumps(record["options"]) for record in records("explore", mode)}
    for candidate in itertools.chain([FIRST[mode]], iter(lambda: drawn(mode, rng), None)):
        if time.monotonic() > end:
            return
        if json.dumps(candidate) not in known:
            known.add(json.dumps(candidate))
            store("explore", mode, candidate, EXPLORE_SEEDS)


def drawn(mode: str, rng: np.random.Generator) -> dict[str, Any]:
    """A candidate near one of the best so far, or anywhere."""
    best = [record["options"] for record in ranked(records("explore", mode))[:5]]
    if not best or rng.random() < 0.3:
        return {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
    candidate = dict(best[rng.integers(len(best))])
    for name in rng.choice(list(CHOICES), size=rng.integers(1, 4), replace=False):
        candidate[name] = CHOICES[name][rng.integers(len(CHOICES[name]))]
    return candidate


def confirm(mode: str, best: int) -> None:
    """The best candidates again, on seeds on which they were not chosen; the first setting beside them."""
    known = {json.dumps(record["options"]) for record in records("confirm", mode)}
    for candidate in [FIRST[mode], *(record["options"] for record in ranked(records("explore", mode))[:best])]:
        if json.dumps(candidate) not in known:
            known.add(json.dumps(candidate))
            store("confirm", mode, candidate, CONFIRM_SEEDS)


def store(stage: str, mode: str, options: dict[str, Any], seeds: Iterable[int]) -> None:
    """Run a candidate on every seed and append the outcome; gives a hopeless one up early."""
    trials: list[dict[str, Any]] = []
    for seed in seeds:
        trials.append(trial(mode, options, seed))
        if stage == "explore" and len(trials) >= 3 and score(trials) > 3.0:
            break
    record = {"options": options, "trials": trials}
    with open(path_of(stage, mode), "a") as file:
        file.write(json.dumps(record) + "\n")


def trial(mode: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """One run: when it was solved, or that it was not."""
    with tempfile.TemporaryDirectory() as folder, open("/dev/null", "w") as silence, redirect_stdout(silence):
        summary = train(run_dir=Path(folder) / "run", dashboard="off", seed=seed, mode=mode, workers=4, **options)
    return {"seed": seed, "env_steps": summary.solved_env_steps, "seconds": summary.train_seconds
            if summary.status == "solved" else None}  # fmt: skip


def score(trials: list[dict[str, Any]]) -> float:
    """Mean seconds of training until solved and verified."""
    return statistics.mean(trial["seconds"] or UNSOLVED_SECONDS for trial in trials)


def ranked(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda record: score(record["trials"]))


def path_of(stage: str, mode: str) -> Path:
    return RESULTS / (f"{stage}.jsonl" if mode == "async" else f"{stage}-{mode}.jsonl")


def records(stage: str, mode: str) -> list[dict[str, Any]]:
    path = path_of(stage, mode)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(stage: str, mode: str) -> None:
    """The best candidates of a stage: seconds and env steps until solved, and what they change."""
    found = ranked(records(stage, mode))
    print(f"{mode}, {stage}: {len(found)} candidates; mean s | median s | env steps: median | p90 | solved | options")
    for record in found[:10]:
        trials = record["trials"]
        steps = sorted(trial["env_steps"] or 10**6 for trial in trials)
        seconds = statistics.median(trial["seconds"] or UNSOLVED_SECONDS for trial in trials)
        solved = sum(trial["seconds"] is not None for trial in trials)
        print(f"{score(trials):.2f} {seconds:.2f} {statistics.median(steps):.0f} {np.quantile(steps, 0.9):.0f} "
              f"{solved}/{len(trials)} {record['options']}")  # fmt: skip


if __name__ == "__main__":
    main()
