"""The searches behind the settings: random candidates first, then fresh seeds for the best of them.

    python -m benchmarks.tuning.search explore --minutes 10                # 8 seeds a candidate
    python -m benchmarks.tuning.search confirm --best 6                    # 32 other seeds for the best candidates
    python -m benchmarks.tuning.search explore --mode sync --minutes 10    # the same for another mode
    python -m benchmarks.tuning.search explore --objective env-steps       # for `--preset sample-efficient`
    python -m benchmarks.tuning.search decide --objective env-steps        # 96 more seeds for the best confirmed
    python -m benchmarks.tuning.search show

By default a trial is an ordinary run of four workers on CartPole-v1, one at a time, on an otherwise idle machine, and
its seconds count. With `--objective env-steps` its env steps count, of one worker or of several in `sync`: they do not
depend on the machine or on what else it does. The seeds lie far from those of the published benchmarks (0 to 49), so
that no setting is chosen on a seed it is reported on.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.figures import quantile
from benchmarks.tuning import serial
from workers import train
from workers.processes.start import context, start_forkserver
from workers.runs.records import Summary

Options = dict[str, Any]
Trial = dict[str, Any]  # its seed, and the env steps or seconds until solved, None where it was not

RESULTS = Path(__file__).parent / "results"
SEEDS = {"explore": range(50_000, 50_008), "confirm": range(60_000, 60_032), "decide": range(61_000, 61_096)}
EARLIER = {"confirm": "explore", "decide": "confirm"}  # the stage whose best a stage runs again
ENV_STEPS_BUDGET = 8_000
ENV_STEPS_FIXED = {"eval_interval": 25, "anneal": False}  # so that a trial's budget, far below a run's, changes nothing
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
ENV_STEPS_CHOICES: dict[str, list[Any]] = {
    "workers": [*9 * [1], 2, 4],  # several: `sync`, whose trials cost ten times as long
    "envs_per_worker": [1, 2, 4, 8],
    "n_steps": [8, 12, 16, 24, 32, 48, 64, 96],
    "learning_rate": [1.5e-3, 2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3, 1.1e-2, 1.6e-2],
    "gamma": [0.95, 0.97, 0.98, 0.99],
    "gae_lambda": [0.9, 0.95, 0.98, 1.0],
    "entropy_coef": [0.0, 0.001, 0.01, 0.03],
    "value_coef": [0.1, 0.25, 0.5, 1.0, 2.0],
    "value_scale": [10.0, 20.0, 50.0],
    "normalize_advantages": [False, True],
    "max_grad_norm": [0.25, 0.5, 1.0, 5.0],
    "adam_beta1": [0.0, 0.5, 0.9],
    "adam_beta2": [0.9, 0.99, 0.999],
    "epsilon": [1e-8, 1e-5],
    "hidden_sizes": [[64], [128], [256], [512], [64, 64], [128, 128], [256, 256]],
}
DEFAULTS: Options = {  # what `async` was found to like best, from which the search of the others starts
    "envs_per_worker": 1,
    "n_steps": 48,
    "learning_rate": 4e-3,
    "gamma": 0.97,
    "gae_lambda": 0.98,
    "entropy_coef": 0.01,
    "value_coef": 0.5,
    "value_scale": 20.0,
    "normalize_advantages": False,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.0,
    "adam_beta2": 0.999,
    "epsilon": 1e-5,
}
FIRST: dict[str, Options] = {
    "async": {  # the best of an earlier search with simulated, constant staleness
        "envs_per_worker": 1,
        "n_steps": 32,
        "learning_rate": 2.8e-3,
        "gamma": 0.97,
        "gae_lambda": 0.98,
        "entropy_coef": 0.0,
        "value_coef": 0.25,
        "value_scale": 50.0,
        "normalize_advantages": False,
        "max_grad_norm": 0.5,
        "adam_beta1": 0.0,
        "adam_beta2": 0.999,
        "epsilon": 1e-8,
    },
    "locked": DEFAULTS,
    "sync": DEFAULTS,
    "env-steps": {"workers": 1, **DEFAULTS, "hidden_sizes": [128, 128]},
}


@dataclass(frozen=True, slots=True)
class Search:
    """What a search draws from, where it begins, and what it minimises: the mean of a trial's `measure`."""

    name: str  # of what it starts from and of its files
    trial: Callable[[Options, int], Trial]  # a candidate with one seed
    measure: str  # seconds or env_steps
    unsolved: float  # counts for a trial that was not solved
    hopeless: float  # a candidate whose mean over three or more seeds will be above is given up
    choices: dict[str, list[Any]]

    def of(self, trial: Trial) -> float:
        """What a trial counts for."""
        return float(self.unsolved if trial[self.measure] is None else trial[self.measure])

    def score(self, trials: list[Trial]) -> float:
        """Means, not medians: a setting that fails now and then is not a good one."""
        return statistics.mean(map(self.of, trials))

    def path(self, stage: str) -> Path:
        return RESULTS / (f"{stage}.jsonl" if self.name == "async" else f"{stage}-{self.name}.jsonl")

    def ranked(self, *stages: str) -> list[dict[str, Any]]:
        """The settings that are in all of these stages, each with its trials there, best first."""
        found = [
            {json.dumps(record["options"]): record["trials"] for record in records(self.path(stage))}
            for stage in stages
        ]
        shared = [options for options in found[0] if all(options in stage for stage in found)]
        joined = [
            {"options": json.loads(options), "trials": [trial for stage in found for trial in stage[options]]}
            for options in shared
        ]
        return sorted(joined, key=lambda record: self.score(record["trials"]))


def main() -> None:
    """Run one stage, or show what the stages have found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*SEEDS, "show"))
    parser.add_argument("--objective", choices=("seconds", "env-steps"), default="seconds")
    parser.add_argument("--mode", choices=("async", "locked", "sync"), default="async", help="of `seconds`")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--best", type=int, default=6)
    options = parser.parse_args()
    search = seconds_search(options.mode) if options.objective == "seconds" else env_steps_search()
    if options.stage == "explore":
        explore(search, options.minutes)
    elif options.stage != "show":
        repeat(search, options.stage, options.best)
    for stages in (("explore",), ("confirm",), ("decide",), ("confirm", "decide")):
        show(search, *stages)


def seconds_search(mode: str) -> Search:
    """Seconds of training; a spent budget takes about twenty, twice."""
    return Search(mode, partial(timed_trial, mode), "seconds", unsolved=20.0, hopeless=3.0, choices=CHOICES)


def env_steps_search() -> Search:
    """Env steps; those of an unsolved run count twice."""
    return Search(
        "env-steps",
        counted_trial,
        "env_steps",
        unsolved=2 * ENV_STEPS_BUDGET,
        hopeless=2_700,
        choices=ENV_STEPS_CHOICES,
    )


def explore(search: Search, minutes: float) -> None:
    """Candidates at random: the first setting with one to four values changed, or all drawn anew."""
    rng, end = np.random.default_rng(), time.monotonic() + 60 * minutes
    known = {json.dumps(record["options"]) for record in records(search.path("explore"))}
    for candidate in itertools.chain([FIRST[search.name]], iter(lambda: drawn(search, rng), None)):
        if time.monotonic() > end:
            return
        if json.dumps(candidate) not in known:
            known.add(json.dumps(candidate))
            store(search, "explore", candidate)


def drawn(search: Search, rng: np.random.Generator) -> Options:
    """A candidate near one of the best so far, or anywhere."""
    choices, best = search.choices, [record["options"] for record in search.ranked("explore")[:5]]
    if not best or rng.random() < 0.3:
        return {name: values[rng.integers(len(values))] for name, values in choices.items()}
    candidate = dict(best[rng.integers(len(best))])
    for name in rng.choice(list(choices), size=rng.integers(1, 4), replace=False):
        candidate[name] = choices[name][rng.integers(len(choices[name]))]
    return candidate


def repeat(search: Search, stage: str, best: int) -> None:
    """The best candidates again, on seeds on which they were not chosen; the first setting beside them."""
    known = {json.dumps(record["options"]) for record in records(search.path(stage))}
    found = [record["options"] for record in search.ranked(EARLIER[stage])[:best]]
    for candidate in [FIRST[search.name], *found]:
        if json.dumps(candidate) not in known:
            known.add(json.dumps(candidate))
            store(search, stage, candidate)


def store(search: Search, stage: str, options: Options) -> None:
    """Run a candidate on every seed of a stage and append the outcome; gives a hopeless one up early."""
    trials: list[Trial] = []
    for seed in SEEDS[stage]:
        trials.append(search.trial(options, seed))
        if stage == "explore" and sum(map(search.of, trials)) > search.hopeless * max(3, len(trials)):
            break
    with open(search.path(stage), "a") as file:
        file.write(json.dumps({"options": options, "trials": trials}) + "\n")


def timed_trial(mode: str, options: Options, seed: int) -> Trial:
    """One run of four workers: when it was solved, or that it was not."""
    summary = run(mode=mode, workers=4, seed=seed, **options)
    seconds = summary.train_seconds if summary.status == "solved" else None
    return {"seed": seed, "env_steps": summary.solved_env_steps, "seconds": seconds}


def counted_trial(options: Options, seed: int) -> Trial:
    """One run that repeats itself: after how many env steps it was solved, or that it was not."""
    options = {**options, **ENV_STEPS_FIXED, "seed": seed, "max_env_steps": ENV_STEPS_BUDGET}
    if options["workers"] == 1:
        env_steps = trial_process().submit(serial.env_steps_until_solved, options).result()
    else:
        env_steps = run(mode="sync", **options).solved_env_steps
    return {"seed": seed, "env_steps": env_steps}


def run(**options: Any) -> Summary:
    """A whole run, of which nothing is kept or shown."""
    with tempfile.TemporaryDirectory() as folder, open("/dev/null", "w") as silence, redirect_stdout(silence):
        summary: Summary = train(run_dir=Path(folder) / "run", dashboard="off", **options)
    return summary


@cache
def trial_process() -> ProcessPoolExecutor:
    """One process for all serial trials, started as a run's are: with one thread each for torch and BLAS."""
    start_forkserver()
    return ProcessPoolExecutor(1, context(), initializer=torch.set_num_threads, initargs=(1,))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(search: Search, *stages: str) -> None:
    """The best candidates of one stage or of several together: what is minimised, env steps until solved, options."""
    found = search.ranked(*stages)
    print(
        f"{search.name}, {' + '.join(stages)}: {len(found)} candidates; {search.measure}: mean | median; "
        "env steps: median | p75 | p90 | solved | options"
    )
    for record in found[:10]:
        trials = record["trials"]
        steps = [math.inf if trial["env_steps"] is None else trial["env_steps"] for trial in trials]
        p50, p75, p90 = (quantile(steps, fraction) for fraction in (0.5, 0.75, 0.9))
        print(
            f"{search.score(trials):,.2f} {statistics.median(map(search.of, trials)):,.2f} "
            f"{p50:,.0f} {p75:,.0f} {p90:,.0f} "
            f"{len(steps) - steps.count(math.inf)}/{len(steps)} {record['options']}"
        )


if __name__ == "__main__":
    main()
