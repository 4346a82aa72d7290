"""The tutorial's recipe at its best: a random search over what the recipe leaves open.

    python -m benchmarks.tutorial.search --minutes 5
    python -m benchmarks.tutorial.search --minutes 0        # show what was found

The recipe fixes the network, five steps per rollout, gamma, the critic's squared error, the entropy bonus and A2C. It
says nothing of the learning rate, the optimizer, clipping, the critic's weight, or how many environments there are.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from workers import train
from workers.runs.records import Summary

RESULTS = Path(__file__).parent / "results" / "search.jsonl"
SEEDS, BUDGET = range(70_000, 70_004), 40_000
CHOICES: dict[str, list[Any]] = {
    "workers": [1, 2, 4],
    "envs_per_worker": [1, 2, 4, 8],
    "learning_rate": [7e-4, 1e-3, 2e-3, 4e-3, 8e-3],
    "optimizer": ["adam", "adam", "rmsprop"],
    "adam_beta1": [0.0, 0.9],
    "max_grad_norm": [0.5, 2.0, 10.0],
    "value_coef": [0.01, 0.1, 1.0],
    "anneal": [False, True],
}


def main() -> None:
    """Search for some minutes, then show the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    rng, end = np.random.default_rng(), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        candidate = drawn(rng)
        if any(record["options"] == candidate for record in records()):
            continue  # it would repeat itself bit for bit
        trials = [trial(candidate, seed) for seed in SEEDS]
        with open(RESULTS, "a") as file:
            file.write(json.dumps({"options": candidate, "env_steps": trials}) + "\n")
    found = sorted(records(), key=score)
    print(f"{len(found)} candidates; median env steps | solved | options")
    for record in found[:10]:
        solved = sum(steps is not None for steps in record["env_steps"])
        print(f"{score(record):,.0f} {solved}/{len(SEEDS)} {record['options']}")


def drawn(rng: np.random.Generator) -> dict[str, Any]:
    """A candidate near one of the best so far, or anywhere."""
    best = [record["options"] for record in sorted(records(), key=score)[:5]]
    if not best or rng.random() < 0.5:
        return {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
    candidate = dict(best[rng.integers(len(best))])
    for name in rng.choice(list(CHOICES), size=rng.integers(1, 3), replace=False):
        candidate[name] = CHOICES[name][rng.integers(len(CHOICES[name]))]
    return candidate


def trial(options: dict[str, Any], seed: int) -> int | None:
    """Env steps until one run was solved; None where the budget was not enough."""
    with tempfile.TemporaryDirectory() as folder, open("/dev/null", "w") as silence, redirect_stdout(silence):
        settings = {"preset": "a2c-tutorial", "log_interval": 0, **options, "seed": seed, "max_env_steps": BUDGET}
        summary: Summary = train(run_dir=Path(folder) / "run", dashboard="off", **settings)
    return summary.solved_env_steps


def score(record: dict[str, Any]) -> float:
    """Median env steps, a run that was not solved counted as twice the budget; then their mean."""
    steps = [2 * BUDGET if steps is None else steps for steps in record["env_steps"]]
    return statistics.median(steps) + statistics.mean(steps) / 1e3


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


if __name__ == "__main__":
    main()
