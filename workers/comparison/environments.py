"""A study over several environments: one study of each, since returns of different environments are not comparable.

What is compared is compared within each environment, with its own preset, target and time limit; a table of all stands
at the end.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from a3c.config import ConfigError
from a3c.files import write_durably
from workers.comparison.results import Comparison
from workers.comparison.run_study import describe_environments, run
from workers.comparison.study import Study, plan
from workers.comparison.text import UNKNOWN, env_steps_or_more, number, probability
from workers.console.drawing import Frame
from workers.console.text import Line, clean
from workers.runs.directory import folder_name

TABLE = "environments.csv"
OWN = ("environment", "arm", "target", "solved", "env steps, median", "seconds, median", "best return")
COLUMNS = (*OWN, "fewer env steps", "sooner")  # the last two: probabilities, beside the environment's first arm


def run_each(
    options: Mapping[str, Sequence[Any]],
    seeds: int,
    tuned: bool,
    study_dir: Path | None,
    dashboard: str,
    command: str,
    any_version: bool,
    cluster: str | None = None,
) -> int:
    """A study of each value of `env`; all are planned, and their environments made, before anything runs."""
    environments = [str(env) for env in options["env"]]
    if repeated := [env for env in environments if environments.count(env) > 1]:
        raise ConfigError(f"env: the value {repeated[0]} is given twice")
    studies = {env: plan({**options, "env": [env]}, seeds, tuned) for env in environments}
    described = {env: describe_environments(study) for env, study in studies.items()}
    folder = default_path(studies) if study_dir is None else study_dir
    comparisons: list[Comparison] = []
    for env, study in studies.items():
        path = folder / folder_name(env)[:80]
        comparison, code = run(study, path, dashboard, command, any_version, described[env], cluster)
        if comparison is None:
            return code
        comparisons.append(comparison)
    rows = [row for comparison in comparisons for row in rows_of(comparison)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_durably(folder / TABLE, text.getvalue().encode())
    lines: list[Line] = [[], *([(clean(line), "")] for line in (*table(rows), "", str(folder / TABLE)))]
    Console().print(Frame(lines), soft_wrap=True, end="")
    return 0


def default_path(studies: Mapping[str, Study]) -> Path:
    """The same studies have the same directory, so that the same command resumes them."""
    digest = sha256("".join(study.default_path().name for study in studies.values()).encode()).hexdigest()[:8]
    return Path("runs") / f"compare-{len(studies)}-environments-{digest}"


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each arm of an environment: how it did, and its chances beside the first."""
    beside = {contrast.arm: contrast for contrast in comparison.contrasts}
    target = UNKNOWN if comparison.target_return is None else f"{comparison.target_return:g}"
    rows = []
    for arm in comparison.arms:
        steps = env_steps_or_more(arm.env_steps.median.value, comparison.max_env_steps)
        own = (
            f"{arm.solved_runs} of {arm.runs}",
            steps,
            number(arm.seconds.median.value),
            number(arm.best_return.value),
        )
        contrast = beside.get(arm.name)
        chances = (contrast.fewer_env_steps, contrast.sooner) if contrast else ()
        told = [f"{probability(c.value)} ({probability(c.low)} to {probability(c.high)})" for c in chances]
        rows.append((comparison.env_id, arm.name, target, *own, *(told or ["", ""])))
    return rows


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows under their titles; arms are held against the first of their own environment alone."""
    cells = [COLUMNS, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    note = (
        "Probabilities (95 % interval) are beside the first arm of the same environment: environments are not compared."
    )
    return [*lines, "", note]
