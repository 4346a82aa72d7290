"""`tune`: from an environment's id to a setting with which it is learned, as a command and as a preset."""

import os
import signal
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from a3c.config import Config, ConfigError
from a3c.files import json_bytes, write_durably
from workers import ExitCode
from workers.console.drawing import Cropped, Frame
from workers.console.screen import Screen, console_for
from workers.console.text import clean
from workers.extras import require
from workers.processes.preflight import describe_environment
from workers.runs.directory import folder_name, lock_directory
from workers.runs.program import changed_options, command
from workers.training import checked_path
from workers.tuning.space import searched
from workers.tuning.trials import FIRST_SEED

if TYPE_CHECKING:
    from workers.tuning.search import Plan, Search
    from workers.tuning.trials import Outcome

PACKAGES = ("optuna",)  # the extra `tune`
ROWS = 12  # of the live table
PRESET = "preset.json"


def tune(
    typed: dict[str, Any],
    trials: int,
    jobs: int | None,
    seeds: int,
    confirm: int,
    tune_dir: str | Path | None,
    dashboard: str,
    shown: str,
) -> int:
    """Search until there are so many trials, confirm the best setting, write its preset; the exit code.

    Args:
        typed: options that every run has.
        jobs: trials side by side; default: as many as there are cores for.
        seeds: runs of each trial.
        confirm: runs of the best setting on fresh seeds; as many without it.
        shown: the command that resumes the search.
    """
    require("tune", "tune", PACKAGES)
    config, target = _checked(typed)
    _, path = checked_path("tune_dir", tune_dir or f"runs/tune-{folder_name(config.env)}", dashboard)
    path.mkdir(parents=True, exist_ok=True)
    from workers.tuning.search import Plan, Search, best_options, confirmed, open_study

    jobs = jobs or max(1, (os.cpu_count() or 1) // config.workers)
    plan = Plan(typed, target, config.max_env_steps, seeds, confirm, trials, jobs)
    with lock_directory(path, f"tune_dir: '{path}'"), Screen(*console_for(dashboard)) as screen:
        search, signals = Search(open_study(path, plan), plan, path), list[int]()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: _interrupt(signals, number))
        try:
            search.run(lambda now, line: _show(screen, now, line))
            if (options := best_options(search.study)) is None:
                raise ConfigError(f"tune: no trial was finished; see the logs in {path / 'runs'}")
            outcomes = confirmed(plan, options, path, lambda line: _say(screen, line))
        except KeyboardInterrupt:
            screen.stop()
            kept = f"{len(search.ended())} of {trials} trials, in {clean(str(path))}"
            print(f"\ninterrupted\n  kept    {kept}\n  resume  {shown}")
            return 128 + signals[0]
        screen.stop()
        _report(screen, plan, options, outcomes, path)
    return ExitCode.FINISHED


def _checked(typed: dict[str, Any]) -> tuple[Config, float | None]:
    """The configuration of what is typed, and the target; ConfigError where that is no search."""
    if unwanted := {"seed", "preset"} & set(typed):
        raise ConfigError(f"{min(unwanted)}: is the search's own; leave it out")
    config = Config.from_options({**typed, "preset": "none"})
    config.check_belonging(typed)
    environment = describe_environment(config)
    if not config.evaluation.eval_episodes:
        raise ConfigError("eval_episodes: a search needs evaluations")
    return config, environment.target(config.evaluation.target_return)


def _interrupt(signals: list[int], number: int) -> None:
    signals.append(number)
    raise KeyboardInterrupt


def _show(screen: Screen, search: "Search", line: str) -> None:
    _say(screen, line)
    screen.draw(lambda width, height: Cropped(_table(search, ROWS), width, height))


def _say(screen: Screen, line: str) -> None:
    if line:
        screen.print(lambda: Frame([[(clean(line), "")]]))


def _table(search: "Search", rows: int) -> Table:
    """The best trials so far, and those under way."""
    ended, names = search.ended(), searched(search.plan.typed)
    best = sorted((one for one in ended if one.value is not None), key=lambda one: -one.value)
    table = Table(title=f"{len(ended)} of {search.plan.trials} trials", box=None, title_justify="left")
    for name in ("trial", "score", "solved", *(name.replace("_", "\n") for name in names)):
        table.add_column(name, justify="right")
    for one in search.running:
        state = f"run {len(one.outcomes) + 1}/{search.plan.seeds}"
        table.add_row(
            str(one.trial.number), "...", state, *(_cell(one.trial.params.get(name)) for name in names), style="dim"
        )
    for one in best[: rows - len(search.running)]:
        outcomes = one.user_attrs.get("outcomes", [])
        solved = f"{sum(outcome['status'] == 'solved' for outcome in outcomes)} of {len(outcomes)}"
        table.add_row(str(one.number), f"{one.value:.4g}", solved, *(_cell(one.params.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _report(
    screen: Screen, plan: "Plan", options: Mapping[str, Any], outcomes: Mapping[str, list["Outcome"]], path: Path
) -> None:
    """Print what the search was worth, and write the preset."""
    config = Config.from_options({**plan.typed, "preset": "none", **options})
    tuned, untuned = (_summary(plan, outcomes[name]) for name in ("tuned", "untuned"))
    about = {
        "about": f"found by tune in {plan.trials} trials; without it: {untuned}",
        "figure": tuned,
        "seeds": f"tuned on {FIRST_SEED} to {FIRST_SEED + plan.seeds - 1}, measured on 0 to {plan.confirmations - 1}",
    }
    fixed = {name: value for name, value in plan.typed.items() if name not in ("env", "target_return", "eval_episodes")}
    preset = {config.env: {**about, "options": {**fixed, **options}}}
    write_durably(path / PRESET, json_bytes(preset))
    words = ["--preset", "none", *(word for word in changed_options(config) if word not in ("--preset", "none"))]
    is_better = _worth(plan, outcomes["tuned"]) > _worth(plan, outcomes["untuned"])
    lines = [
        f"on fresh seeds, 0 to {plan.confirmations - 1}:",
        f"  this setting   {tuned}",
        f"  without it     {untuned}",
        *([] if is_better else ["  it is not better than what is used without it"]),
        f"  run it         {command(*words)}",
        f"  as a preset    {path / PRESET}",
    ]
    screen.print(lambda: Frame([[], *([(clean(line), "")] for line in lines)]))


def _worth(plan: "Plan", outcomes: list["Outcome"]) -> float:
    return sum(outcome.score(plan.target, plan.budget) for outcome in outcomes)


def _summary(plan: "Plan", outcomes: list["Outcome"]) -> str:
    solved = [outcome for outcome in outcomes if outcome.is_solved]
    means = [outcome.mean for outcome in outcomes if outcome.mean is not None]
    text = f"{len(solved)} of {len(outcomes)} solved" if plan.target is not None else f"{len(outcomes)} runs"
    if solved:
        steps, seconds = (statistics.median(getattr(one, name) for one in solved) for name in ("env_steps", "seconds"))
        text += f", median {steps:,.0f} env steps and {seconds:.1f} s"
    return text + (f", last mean return {min(means):.4g} to {max(means):.4g}" if means else "")
