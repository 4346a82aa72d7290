"""Made-up runs of a study, for the tests of what is computed and drawn from them."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from a3c import Config
from a3c.files import json_bytes
from workers.comparison.results import LogRow, Run
from workers.comparison.study import Study, StudyDirectory, open_study_directory
from workers.runs.directory import open_table
from workers.runs.program import provenance
from workers.runs.records import Evaluation, Faults, Races, Staleness, Summary

BUDGET = 20_000


def sample_runs(arms: dict[str, float] | None = None, seeds: int = 10) -> list[Run]:
    """Runs of each arm, by its median env steps to the target; those beyond the budget never get there."""
    arms = {"async": 8_000.0, "sync": 12_000.0, "locked": 9_000.0} if arms is None else arms
    rng = np.random.default_rng(0)
    return [
        sample_run(arm, seed, median * math.exp(0.4 * rng.standard_normal()))
        for arm, median in arms.items()
        for seed in range(seeds)
    ]


def sample_run(arm: str, seed: int, env_steps: float) -> Run:
    """A run that gets to the target after so many env steps, at 20,000 env steps/s."""
    solved = env_steps <= BUDGET
    last = min(int(env_steps), BUDGET)
    points = [*range(0, last, 1000), last]
    evaluations = [sample_evaluation(x, 20 + 480 * (x / env_steps) ** 2) for x in points]
    if solved:
        evaluations.append(sample_evaluation(last, 490.0, verification=True))
    pushes = (last // 48) or 1
    counts = (pushes // 10, pushes // 5, pushes // 2, pushes // 5) if arm != "sync" else (pushes,)
    summary = Summary(
        status="solved" if solved else "budget_exhausted",
        env_id="CartPole-v1",
        mode=arm if arm in ("async", "sync", "locked") else "async",
        workers=4,
        seed=seed,
        env_steps=last + 480,
        max_env_steps=BUDGET,
        updates=sum(counts),
        episodes=100,
        wall_seconds=last / 20_000 + 0.5,
        train_seconds=last / 20_000 + 0.05,
        steps_per_second=20_000.0 + 100 * seed,
        solved_env_steps=last if solved else None,
        solved_seconds=last / 20_000 if solved else None,
        target_return=475.0,
        evaluation=max(evaluations, key=lambda evaluation: evaluation.mean),
        staleness=Staleness(1.8, 2.0, 3.0, len(counts) - 1),
        races=Races(sum(counts) // 50 if arm == "async" else 0, sum(counts) // 80 if arm != "sync" else 0),
        cpu_seconds=last / 12_000,
        profile=(),
        advantage_magnitude=4.0 + 0.1 * seed,
        policy_loss_variance=0.5 + 0.01 * seed,
        worker_restarts=0,
        faults=Faults(),
        state_sha256="0" * 64,
        checkpoint="checkpoints/best.json",
        reason="",
    )
    return Run(arm, seed, f"runs/{arm}-seed-{seed}", summary, tuple(evaluations), counts)


def sample_log(env_steps: int, magnitude: float) -> tuple[LogRow, ...]:
    """A row per 1,000 env steps, with an advantage that falls from `magnitude` to half of it."""
    return tuple(
        LogRow(x // 48, x, math.nan if x == 1000 else x / 50, magnitude * (1 - x / env_steps / 2))
        for x in range(1000, env_steps + 1, 1000)
    )


def sample_evaluation(env_steps: int, mean: float, verification: bool = False) -> Evaluation:
    """One evaluation of ten episodes."""
    return Evaluation(
        env_steps, env_steps // 48, env_steps / 20_000, 10, mean, 5.0, mean - 9, mean + 9, 7, verification
    )


def write_run(path: Path, run: Run, config: Config, made_with: dict[str, Any] | None = None) -> None:
    """The files of a finished run, as its processes leave them; made by this program unless said otherwise."""
    path.mkdir(parents=True)
    content = {"options": config.to_options(), "environment": {}, **provenance(), **(made_with or {})}
    (path / "config.json").write_bytes(json_bytes(content))
    table = open_table(path / "evaluations.csv", [field.name for field in dataclasses.fields(Evaluation)])
    for evaluation in run.evaluations:
        table.write(dataclasses.asdict(evaluation))
    table.close()
    lines = [f"{staleness},{pushes}\n" for staleness, pushes in enumerate(run.staleness)]
    (path / "staleness.csv").write_text("".join(["staleness,pushes\n", *lines]))
    (path / "summary.json").write_bytes(json_bytes(dataclasses.asdict(run.summary)))


@contextmanager
def open_finished(path: Path, study: Study, env_steps: float = 8_000.0, **made_with: Any) -> Iterator[StudyDirectory]:
    """A study's directory with all of its runs finished."""
    with open_study_directory(path, study, "the first command") as directory:
        for arm, seed in study.schedule():
            write_run(directory.run_path(arm, seed), sample_run(arm.name, seed, env_steps), arm.run(seed), made_with)
        yield directory


def write_study(path: Path, study: Study, env_steps: float = 8_000.0, **made_with: Any) -> None:
    """Leave a study's directory with all of its runs finished."""
    with open_finished(path, study, env_steps, **made_with):
        pass
