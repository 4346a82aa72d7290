"""A run in words: a line per moment, a line per event, and the summary that a person would paste."""

import shlex
from collections.abc import Sequence
from dataclasses import astuple
from os.path import join

from rich.console import RenderableType

from shared import PHASES
from workers.console.drawing import UNKNOWN, Frame, Line, clean, number, plural
from workers.runs.invocation import program
from workers.runs.records import Evaluation, Event, Faults, Status, Summary

STATUS_STYLES = {"solved": "bold green", "failed": "bold red", "training": "cyan", "verifying": "magenta"}
PROFILE_COLUMNS = 6  # side by side in 80 columns


def plain_line(status: Status) -> str:
    """The run at one moment in one line, for logs and pipes."""
    last, best = status.evaluations[-1:], best_shown(status)
    evaluation = f"last evaluation {number(last[0].mean)} {age_words(last[0])}" if last else "no evaluation yet"
    faults = "".join(f"  {words}" for words in fault_words(status.faults)[-1:])
    return (
        f"{status.elapsed_seconds:6.1f} s  env steps {status.env_steps:,}  {number(status.steps_per_second, 0)}/s  "
        f"mean return {number(status.mean_return)}  {evaluation} "
        f"(best {number(best.mean if best else None)}, target {target_words(status)}){faults}"
    )


def best_shown(status: Status) -> Evaluation | None:
    """The best evaluation, never one below the latest: that may be of a policy about to be verified, or to be saved."""
    last, best = status.evaluations[-1:], status.best
    return last[0] if last and (best is None or last[0].mean > best.mean) else best


def age_words(evaluation: Evaluation) -> str:
    """How far training had come when the evaluated policy was copied: by now it has gone on."""
    return f"at {evaluation.env_steps:,}"


def target_words(status: Status) -> str:
    return UNKNOWN if status.target_return is None else f"{status.target_return:,.6g}"


def fault_words(faults: Faults) -> list[str]:
    """What was survived, from the fullest words to the shortest; nothing where nothing went wrong."""
    dropped = faults.rewards + faults.observations
    causes = _listed([(faults.rewards, "reward", ""), (faults.observations, "observation", "")])
    restarts = [
        (faults.worker_restarts, "worker restart", ""),
        (faults.monitor_restarts, "monitor restart", ""),
        (faults.checkpointer_restarts, "checkpointer restart", ""),
    ]
    others = [
        (dropped, "rollout", f" dropped ({causes})"),
        (faults.gradients, "gradient", " refused"),
        (faults.rollbacks, "rollback", ""),
        (faults.failed_saves, "save", " failed"),
        (faults.failed_evaluations, "evaluation", " failed"),
    ]
    restarted = sum(many for many, _, _ in restarts)
    short = [(restarted, "restart", ""), *((many, name, "") for many, name, _ in others)]
    total: int = sum(astuple(faults))
    return [_listed([*restarts, *others]), _listed(short), plural(total, "fault")] if total else []


def _listed(facts: Sequence[tuple[int, str, str]]) -> str:
    """How many of each name, and what became of them, without those of which there are none."""
    return ", ".join(f"{plural(many, name)}{fate}" for many, name, fate in facts if many)


def event_line(event: Event) -> str:
    return f"{event.seconds:6.1f} s  {clean(event.kind)}: {clean(event.message)}"


def render_summary(
    summary: Summary, run_dir: str, options: Sequence[str] = (), command: str | None = None
) -> RenderableType:
    """How the run ended, as a block to paste.

    Args:
        options: the run's, where they are not the defaults, as words of the command line.
        command: how the user starts the program; default: as it was started.
    """
    style = STATUS_STYLES.get(summary.status, "bold yellow")
    facts = [(name, text) for name, text in _summary_facts(summary, run_dir) if text]
    lines: list[Line] = [[(_headline(summary), style)], []]
    lines += [[(f"  {name:<12}", "dim"), (text, "")] for name, text in facts]
    if commands := _next_commands(summary, run_dir, options, command or program()):
        lines += [[], [("  next", "dim")], *([(f"  {text}", "bold")] for text in commands)]
    return Frame(lines)


def render_profile(summary: Summary) -> RenderableType:
    """Where each worker's time went: a row per phase in per cent of its wall-clock time, what is left as `other`.

    As many workers stand side by side as a terminal of 80 columns holds; the others follow below.
    """
    everybody = {name: sum(row[name] for row in summary.profile) for name in (*PHASES, "cpu", "wall")}
    columns = [("all", everybody), *((f"worker {index}", row) for index, row in enumerate(summary.profile))]
    lines: list[Line] = [[], [("  profile: where each worker's time went", "dim")]]
    for first in range(0, len(columns), PROFILE_COLUMNS):
        lines += [*([[]] if first else []), *_profile_lines(columns[first : first + PROFILE_COLUMNS])]
    return Frame(lines)


def _profile_lines(columns: Sequence[tuple[str, dict[str, float]]]) -> list[Line]:
    def line(label: str, cells: Sequence[str], style: str = "") -> Line:
        return [(f"  {label:<10}" + "".join(f"{cell:>11}" for cell in cells), style)]

    spent = [row | {"other": row["wall"] - sum(row[name] for name in PHASES)} for _, row in columns]
    shares = {
        name: [f"{100 * row[name] / row['wall']:.1f}" if row["wall"] else UNKNOWN for row in spent]
        for name in (*PHASES, "other")
    }
    return [
        line("", [label for label, _ in columns], "dim"),
        line("wall s", [f"{row['wall']:.2f}" for row in spent]),
        line("CPU s", [f"{row['cpu']:.2f}" for row in spent]),
        *(line(f"{name} %", cells) for name, cells in shares.items()),
    ]


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
    speed = (
        f"{summary.env_steps:,} env steps in {summary.train_seconds:.1f} s ({number(summary.steps_per_second, 0)}/s)"
    )
    lag, races = summary.staleness, summary.races
    met = f"{races.overlapped_pushes:,} pushes overlapped, {races.torn_pulls:,} pulls torn"
    return [
        ("evaluation", _evaluation_words(summary.evaluation)),
        ("", _origin_words(summary)),
        ("training", f"{speed}, {plural(summary.updates, 'update')}, {plural(summary.episodes, 'episode')}"),
        ("setting", f"{summary.mode}, {plural(summary.workers, 'worker')}, seed {summary.seed}{target}"),
        ("faults", "".join(fault_words(summary.faults)[:1])),
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
    return f"{mean} {spread} over {plural(evaluation.episodes, 'episode')}"


def _origin_words(summary: Summary) -> str:
    """Which policy was evaluated, and how to evaluate it again."""
    if (evaluation := summary.evaluation) is None:
        return ""
    return f"at {evaluation.env_steps:,} of {summary.env_steps:,} env steps, seed {evaluation.seed}"


def _next_commands(summary: Summary, run_dir: str, options: Sequence[str], command: str) -> list[str]:
    where = shlex.quote(clean(run_dir))
    missed = summary.status == "budget_exhausted" and summary.target_return is not None
    commands = []
    if summary.checkpoint and summary.status in ("interrupted", "failed"):
        commands += [f"{command} resume {where}"]
    if summary.checkpoint and missed:
        commands += [f"{command} resume {where} --max-env-steps {float(f'{2 * summary.max_env_steps:.1e}'):.0f}"]
    if missed:
        commands += [f"{command} {shlex.join(_with_seed(options, summary.seed + 1))}"]
    if summary.checkpoint and summary.updates:  # else it has learned nothing yet
        commands += [f"{command} play {where}", f"{command} evaluate {where} --episodes 100 --seed 7"]
    return commands


def _with_seed(options: Sequence[str], seed: int) -> list[str]:
    """The options of a run with another seed."""
    words = list(options)
    if "--seed" in words:
        place = words.index("--seed")
        del words[place : place + 2]
    return [*words, "--seed", str(seed)]
