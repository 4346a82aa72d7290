"""A run in words: a line per moment, a line per event, and the summary that a person would paste."""

import shlex
from os.path import join

from rich.console import RenderableType

from workers.drawing import Frame, Line, clean, number, plural
from workers.panels import PHASES, target_words
from workers.status import Evaluation, Event, Status, Summary


def plain_line(status: Status) -> str:
    """The run at one moment in one line, for logs and pipes."""
    last, best = status.evaluations[-1:], status.best
    evaluation = f"last evaluation {number(last[0].mean)}" if last else "no evaluation yet"
    return (
        f"{status.elapsed_seconds:6.1f} s  env steps {status.env_steps:,}  {number(status.steps_per_second, 0)}/s  "
        f"mean return {number(status.mean_return)}  {evaluation} "
        f"(best {number(best.mean if best else None)}, target {target_words(status)})"
    )


def event_line(event: Event) -> str:
    return f"{event.seconds:6.1f} s  {clean(event.kind)}: {clean(event.message)}"


def render_summary(summary: Summary, run_dir: str, command: str = "python run_a3c.py") -> RenderableType:
    """How the run ended, as a block to paste; `command` is how the user starts the program."""
    style = PHASES.get(summary.status, "bold yellow")
    facts = [(name, text) for name, text in _summary_facts(summary, run_dir) if text]
    lines: list[Line] = [[(_headline(summary), style)], []]
    lines += [[(f"  {name:<12}", "dim"), (text, "")] for name, text in facts]
    if commands := _next_commands(summary, run_dir, command):
        lines += [[], [("  next", "dim")], *([(f"  {text}", "bold")] for text in commands)]
    return Frame(lines)


def _headline(summary: Summary) -> str:
    env_id, seconds = clean(summary.env_id), f"{summary.wall_seconds:.1f} s"
    if summary.status == "solved":
        steps = summary.env_steps if summary.solved_env_steps is None else summary.solved_env_steps
        training = summary.train_seconds if summary.solved_seconds is None else summary.solved_seconds
        return f"{env_id} solved after {steps:,} env steps and {training:.1f} s of training, {seconds} in all"
    if summary.status == "budget_exhausted":
        spent = f"the budget of {summary.max_env_steps:,} env steps is spent"
        if summary.target_return is None:
            return f"{env_id} finished: {spent}"
        best = number(summary.evaluation.mean if summary.evaluation else None)
        return f"{env_id} not solved: {spent}; best mean {best} of {summary.target_return:,.6g}"
    return f"{env_id} {clean(summary.status)} after {summary.env_steps:,} env steps, {seconds}: {clean(summary.reason)}"


def _summary_facts(summary: Summary, run_dir: str) -> list[tuple[str, str]]:
    target = "" if summary.target_return is None else f", target {summary.target_return:,.6g}"
    restarts = f", {plural(summary.worker_restarts, 'worker restart')}" if summary.worker_restarts else ""
    speed = (
        f"{summary.env_steps:,} env steps in {summary.train_seconds:.1f} s ({number(summary.steps_per_second, 0)}/s)"
    )
    lag, races = summary.staleness, summary.races
    met = f"{races.overlapped_pushes:,} pushes overlapped, {races.torn_pulls:,} pulls torn"
    return [
        ("evaluation", _evaluation_words(summary.evaluation)),
        ("training", f"{speed}, {plural(summary.updates, 'update')}, {plural(summary.episodes, 'episode')}"),
        ("setting", f"{summary.mode}, {plural(summary.workers, 'worker')}, seed {summary.seed}{target}{restarts}"),
        (
            "staleness",
            f"mean {number(lag.mean)}, p50 {number(lag.p50)}, p95 {number(lag.p95)}, max {lag.max:,}; {met}"
            if lag
            else "",
        ),
        ("checkpoint", clean(join(run_dir, summary.checkpoint)) if summary.checkpoint else "none"),
        ("logs", clean(join(run_dir, "logs")) if summary.status == "failed" else ""),
    ]


def _evaluation_words(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "none"
    mean, lowest, highest = number(evaluation.mean), number(evaluation.min, 0), number(evaluation.max, 0)
    spread = f"± {number(evaluation.std)} (min {lowest}, max {highest})"
    return f"{mean} {spread} over {plural(evaluation.episodes, 'episode')}, seed {evaluation.seed}"


def _next_commands(summary: Summary, run_dir: str, command: str) -> list[str]:
    where = shlex.quote(clean(run_dir))
    commands = [f"{command} play {where}", f"{command} evaluate {where} --episodes 100 --seed 7"]
    if summary.status == "budget_exhausted" and summary.target_return is not None:
        again = f"{command} --env {shlex.quote(summary.env_id)} --mode {summary.mode} --workers {summary.workers}"
        commands = [
            f"{again} --max-env-steps {float(f'{2 * summary.max_env_steps:.1e}'):.0f}",
            f"{again} --seed {summary.seed + 1}",
            *commands,
        ]
    return commands if summary.checkpoint else commands[:-2]
