"""A run as text: figures, a line per moment and per event, and the summary. Imports no rich."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import floor
from typing import Self, TextIO

from shared import PHASES
from workers.runs.program import program
from workers.runs.records import Evaluation, Event, Faults, Status, Summary

Line = list[tuple[str, str]]  # (text, rich style)
UNKNOWN = "–"  # noqa: RUF001 - a dash as thin as nothing
ASCII = str.maketrans("━╸─│└┤╌◆●○■✗↻▁▂▃▄▅▆▇█▓▒░–·…•×", "=>-|`+-**o.x@__..--=#%+:-,.*x") | {ord("±"): "+-"}  # noqa: RUF001
ASCII |= {0x2800 + bits: ":" if bits & 0x1B and bits & 0xE4 else "'" if bits & 0x1B else "." for bits in range(1, 256)}
STYLES = {"solved": "bold green", "failed": "bold red", "training": "cyan", "verifying": "magenta"}
FAULTS = {  # what is counted, and what became of it
    "worker_restarts": ("worker restart", ""),
    "monitor_restarts": ("monitor restart", ""),
    "observations": ("rollout", " dropped for an observation"),
    "rewards": ("rollout", " dropped for a reward"),
    "gradients": ("gradient", " refused"),
    "stale_gradients": ("gradient", " too stale"),
    "rollbacks": ("rollback", ""),
    "failed_saves": ("save", " failed"),
    "failed_evaluations": ("evaluation", " failed"),
    "checkpointer_restarts": ("checkpointer restart", ""),
}
PLAIN_INTERVAL = 2.0  # seconds between plain lines
PROFILE_COLUMNS = 6  # side by side in 80 columns


class PlainView:
    """Shows a run as lines of plain text; once its output fails it is silent.

    Args:
        options: the run's, where they are not the defaults, as arguments of the command line.
    """

    @property
    def terminal(self) -> str | None:
        """The path of the terminal on which live frames hide the cursor."""
        return None

    def __init__(self, file: TextIO | None, options: Sequence[str] = ()):
        self._file, self._options = file, options
        self._next_line = 0.0  # elapsed seconds

    def update(self, status: Status) -> None:
        """Show the run as it is now; called several times a second, it prints a line every two seconds."""
        if status.elapsed_seconds >= self._next_line and status.env_steps:
            self._next_line = status.elapsed_seconds + PLAIN_INTERVAL
            self.show(lambda: [[(plain_line(status), "")]])

    def event(self, event: Event) -> None:
        """Print an event at once."""
        self.show(lambda: [[(event_line(event), "")]])

    def traceback(self, report: str) -> None:
        """Print a crash report."""
        self.show(lambda: [[(clean(line), "red")] for line in report.splitlines()])

    def finish(self, summary: Summary, run_dir: str, profile: bool = False) -> None:
        """Say how the run ended, and on request where its time went."""
        self.stop()
        self.show(lambda: [[], *summary_lines(summary, run_dir, self._options)])
        if profile:
            self.show(lambda: profile_lines(summary))

    def show(self, lines: Callable[[], Sequence[Line]]) -> None:
        """Print lines."""
        if self._file is None:
            return
        text = "".join("".join(part for part, _ in line) + "\n" for line in lines())
        unicode = (self._file.encoding or "utf-8").lower().startswith("utf")
        try:
            print(text if unicode else to_ascii(text), end="", file=self._file, flush=True)
        except (OSError, ValueError) as error:
            if isinstance(error, BrokenPipeError):  # also of Python's own flush at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            self._file = None

    def start(self) -> None:
        """Take the terminal; after `stop` it may be taken again."""

    def stop(self) -> None:
        """Give the terminal back."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def to_ascii(text: str) -> str:
    return text.translate(ASCII).encode("ascii", "replace").decode()


def clean(text: str) -> str:
    """Text from elsewhere on one line, without codes that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.{digits}f}" if abs(value) < (1e6 if digits else 1e10) else f"{value:.3g}"


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def mean(evaluation: Evaluation | None) -> str:
    return number(evaluation.mean if evaluation else None)


def target(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.6g}"


def duration(seconds: float) -> str:
    if not seconds >= 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(floor(seconds) // 60, 60)
    return f"{f'{hours}:' * bool(hours)}{minutes:02}:{floor(seconds) % 60:02}"


def plural(many: int, name: str) -> str:
    return f"{many:,} {name}{'s' * (many != 1)}"


def fault_texts(faults: Faults) -> list[str]:
    """What was survived, in full and as a sum; empty where nothing went wrong."""
    counts = asdict(faults).items()
    parts = [f"{plural(many, FAULTS[name][0])}{FAULTS[name][1]}" for name, many in counts if many]
    return [", ".join(parts), plural(sum(many for _, many in counts), "fault")] if parts else []


def plain_line(status: Status) -> str:
    """The run at one moment in one line, for logs and pipes."""
    latest = status.latest
    evaluation = f"last evaluation {mean(latest)} at {latest.env_steps:,}" if latest else "no evaluation yet"
    faults = "".join(f"  {text}" for text in fault_texts(status.faults)[-1:])
    return (
        f"{status.elapsed_seconds:6.1f} s  env steps {status.env_steps:,}  {number(status.steps_per_second, 0)}/s  "
        f"mean return {number(status.mean_return)}  {evaluation} "
        f"(best {mean(status.best_shown)}, target {target(status.target_return)}){faults}"
    )


def event_line(event: Event) -> str:
    return f"{event.seconds:6.1f} s  {clean(event.kind)}: {clean(event.message)}"


def summary_lines(
    summary: Summary, run_dir: str, options: Sequence[str] = (), command: str | None = None
) -> list[Line]:
    """How the run ended, as a block to paste.

    Args:
        options: the run's, where they are not the defaults, as arguments of the command line.
        command: how the user starts the program; default: as it was started.
    """
    evaluation, races = summary.evaluation, summary.races
    goal = "" if summary.target_return is None else f", target {target(summary.target_return)}"
    rate = number(summary.steps_per_second, 0)
    speed = f"{summary.env_steps:,} env steps in {summary.train_seconds:.1f} s ({rate}/s)"
    result, origin, staleness = "none", "", ""
    if evaluation is not None:
        extremes = f"min {number(evaluation.min, 0)}, max {number(evaluation.max, 0)}"
        spread, episodes = number(evaluation.std), plural(evaluation.episodes, "episode")
        result = f"{mean(evaluation)} ± {spread} ({extremes}) over {episodes}"
        origin = f"at {evaluation.env_steps:,} of {summary.env_steps:,} env steps, seed {evaluation.seed}"
    if (lag := summary.staleness) is not None:
        staleness = (
            f"mean {number(lag.mean)}, p50 {number(lag.p50)}, p95 {number(lag.p95)}, max {lag.max:,}; "
            f"{races.overlapped_pushes:,} pushes overlapped, {races.torn_pulls:,} pulls torn"
        )
    rows = [
        ("evaluation", result),
        ("", origin),
        ("training", f"{speed}, {plural(summary.updates, 'update')}, {plural(summary.episodes, 'episode')}"),
        ("setting", f"{summary.mode}, {plural(summary.workers, 'worker')}, seed {summary.seed}{goal}"),
        ("faults", "".join(fault_texts(summary.faults)[:1])),
        ("staleness", staleness),
        ("checkpoint", clean(os.path.join(run_dir, summary.checkpoint)) if summary.checkpoint else "none"),
        ("logs", clean(os.path.join(run_dir, "logs")) if summary.status == "failed" else ""),
    ]
    lines: list[Line] = [[(_headline(summary), STYLES.get(summary.status, "bold yellow"))], []]
    lines += [[(f"  {name:<12}", "dim"), (text, "")] for name, text in rows if text]
    if commands := _next_commands(summary, run_dir, options, command or program()):
        lines += [[], [("  next", "dim")], *([(f"  {text}", "bold")] for text in commands)]
    return lines


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
        return f"{env_id} not solved: {spent}; best mean {mean(summary.evaluation)} of {target(summary.target_return)}"
    return f"{env_id} {clean(summary.status)} after {summary.env_steps:,} env steps, {seconds}: {clean(summary.reason)}"


def _next_commands(summary: Summary, run_dir: str, options: Sequence[str], command: str) -> list[str]:
    path = shlex.quote(clean(run_dir))
    there = options.index("--cluster") if "--cluster" in options else len(options)
    resume = " ".join([command, "resume", path, *map(shlex.quote, options[there : there + 2])])
    missed = summary.status == "budget_exhausted" and summary.target_return is not None
    commands = []
    if summary.checkpoint and summary.status in ("interrupted", "failed"):
        commands += [resume]
    if summary.checkpoint and missed:
        commands += [f"{resume} --max-env-steps {float(f'{2 * summary.max_env_steps:.1e}'):.0f}"]
    if missed:  # the same with another seed
        place = options.index("--seed") if "--seed" in options else len(options)
        again = [*options[:place], *options[place + 2 :], "--seed", str(summary.seed + 1)]
        commands += [f"{command} {shlex.join(again)}"]
    if summary.checkpoint and summary.updates:  # else it has learned nothing yet
        commands += [f"{command} play {path}", f"{command} evaluate {path} --episodes 100 --seed 7"]
    return commands


def profile_lines(summary: Summary) -> list[Line]:
    """Where each worker's time went: a row per phase in per cent of its wall-clock time, what is left as `other`."""
    total = {name: sum(row[name] for row in summary.profile) for name in (*PHASES, "cpu", "wall")}
    columns = [("all", total), *((f"worker {index}", row) for index, row in enumerate(summary.profile))]
    lines: list[Line] = [[], [("  profile: where each worker's time went", "dim")]]
    for first in range(0, len(columns), PROFILE_COLUMNS):
        labels, rows = zip(*columns[first : first + PROFILE_COLUMNS], strict=True)
        table = {"": labels, **{f"{name} s": [f"{row[name.lower()]:.2f}" for row in rows] for name in ("wall", "CPU")}}
        for name in (*(phase for phase in PHASES if phase != "network" or total[phase]), "other"):
            spent = [row.get(name, row["wall"] - sum(row[phase] for phase in PHASES)) for row in rows]
            shares = [100 * part / row["wall"] if row["wall"] else None for part, row in zip(spent, rows, strict=True)]
            table[f"{name} %"] = [number(share) for share in shares]
        lines += [[]] * bool(first)
        lines += [[(f"  {label:<10}{''.join(f'{cell:>11}' for cell in cells)}", "")] for label, cells in table.items()]
    return lines
