"""The live view of a study on a terminal that can show one; a line per finished run everywhere else."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil, inf
from statistics import fmean, median
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from workers.comparison.results import Comparison, Run
from workers.comparison.tables import render_comparison
from workers.comparison.text import env_steps_or_more, shortened
from workers.console.drawing import Frame
from workers.console.screen import Screen
from workers.console.text import clean, duration, number, plural, to_ascii
from workers.runs.records import Event, Status

URGENT = ("crashed", "hung", "unsaved", "rolled-back", "interrupted")  # the other events come by the dozen per second
GAP = 2  # cells between columns
MESSAGES = 5  # that are kept


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """The whole study at one moment."""

    env_id: str
    study_dir: str
    target_return: float | None
    planned: int  # runs of the whole study
    runs: Mapping[str, tuple[Run, ...]]  # finished, by arm
    elapsed_seconds: float  # since the command was typed
    remaining_seconds: float | None = None  # estimated; None before this command has finished a run
    current: tuple[str, int] | None = None  # arm and seed of the run that is being made
    training: Status | None = None  # of that run; None until its first report
    messages: tuple[str, ...] = ()  # the last ones, newest first

    @property
    def done(self) -> int:
        """Finished runs of all arms."""
        return sum(map(len, self.runs.values()))


@dataclass(frozen=True, slots=True)
class Cropped:
    """A renderable in at most so many lines of so many cells, in plain ASCII on a console that knows no more."""

    block: RenderableType
    width: int
    height: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inside = options.update(width=self.width, no_wrap=True, overflow="ellipsis")
        for line in console.render_lines(self.block, inside, pad=False)[: self.height]:
            for text, style, _ in line:
                yield Segment(to_ascii(text) if options.ascii_only else text, style)
            yield Segment.line()


def render_study(status: StudyStatus, width: int, height: int) -> RenderableType:
    """The study at one moment, in at most `height` lines of at most `width` cells."""
    title = f"{clean(status.env_id)}  {duration(status.elapsed_seconds)}  {clean(status.study_dir)}"
    left = f", about {clock(status.remaining_seconds)} left" if status.remaining_seconds else ""
    progress = Table.grid(padding=(0, 1), expand=True)
    progress.add_column(ratio=1)
    progress.add_column(no_wrap=True)
    bar = ProgressBar(total=max(status.planned, 1), completed=status.done)
    progress.add_row(bar, Text(f"{status.done} of {plural(status.planned, 'run')}{left}"))
    last = [Text(clean(message), "dim") for message in status.messages[: max(height - 4 - len(status.runs), 1)]]
    return Cropped(Group(Text(title, "bold"), progress, _current(status), *last, _table(status, width)), width, height)


def clock(seconds: float) -> str:
    """0:00:40, 1:02:03."""
    return str(timedelta(seconds=ceil(seconds)))


def _current(status: StudyStatus) -> Text:
    if status.current is None:
        return Text("done" if status.done >= status.planned else "starting", "yellow")
    name, now = f"{clean(status.current[0])} seed {status.current[1]}", status.training
    if now is None:
        return Text(f"{name}: starting", "yellow")
    steps = f"{now.env_steps:,} of {now.max_env_steps:,} env steps, {number(now.steps_per_second, 0)}/s"
    greedy = number(now.evaluations[-1].mean if now.evaluations else None)
    return Text(f"{name}: {now.phase.replace('_', ' ')}, {steps}, greedy {greedy}", "yellow")


def _table(status: StudyStatus, width: int) -> Table:
    """A row per arm; figures give way to names that tell arms apart."""
    columns, longest = _columns(status), max((cell_len(clean(name)) for name in status.runs), default=0)
    cells = {title: GAP + max(map(len, [title, *figures])) for title, figures in columns.items()}
    while len(columns) > 2 and longest > width - sum(cells[title] for title in columns):
        columns.popitem()
    names = shortened(list(status.runs), max(width - sum(cells[title] for title in columns), 8))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("arm", no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for arm, name, *figures in zip(status.runs, names, *columns.values(), strict=True):
        style = "bold" if status.current and status.current[0] == arm else ""
        table.add_row(*(Text(cell, style) for cell in (name, *figures)))
    return table


def _columns(status: StudyStatus) -> dict[str, list[str]]:
    """The figures of every arm by their titles, the most important ones first."""
    every = [[run.summary for run in runs] for runs in status.runs.values()]
    columns = {"runs": [f"{len(runs)}/{status.planned // len(every)}" for runs in every]}
    if status.target_return is None:
        best = [_median([run.evaluation.mean for run in runs if run.evaluation]) for runs in every]
        columns["median best return"] = [number(middle) for middle in best]
    else:
        steps = [_median([run.solved_env_steps for run in runs]) for runs in every]
        seconds = [_median([run.solved_seconds for run in runs]) for runs in every]
        budgets = [max((run.max_env_steps for run in runs), default=0) for runs in every]
        columns["solved"] = [str(sum(run.solved_env_steps is not None for run in runs)) for runs in every]
        columns["median env steps"] = list(map(env_steps_or_more, steps, budgets))
        columns["median seconds"] = [number(None if middle == inf else middle, 2) for middle in seconds]
    columns["env steps/s"] = [number(_median([run.steps_per_second for run in runs]), 0) for runs in every]
    return columns


def _median(values: Sequence[float | None]) -> float | None:
    """A run that never reached the target, None, takes longer than any other."""
    return median(inf if value is None else value for value in values) if values else None


def outcome(run: Run) -> str:
    """How a run ended, in one line."""
    summary, name = run.summary, f"{clean(run.arm)} seed {run.seed}"
    if summary.status == "solved":
        steps, seconds = summary.solved_env_steps, summary.solved_seconds
        return f"{name}: solved after {steps:,} env steps, {seconds:.1f} s of training"
    if summary.status == "budget_exhausted":
        verdict = "finished" if summary.target_return is None else "not solved within"
        best = number(summary.evaluation.mean if summary.evaluation else None)
        return f"{name}: {verdict} {summary.max_env_steps:,} env steps, best mean {best}"
    return f"{name}: {clean(summary.status)} after {summary.env_steps:,} env steps: {clean(summary.reason)}"


class StudyView(Screen):
    """Shows a study, and of its current run what a `Dashboard` would; no failure of the console reaches the caller.

    Args:
        status: of the study as it begins, with the runs that are finished already.
        clock: seconds since any moment.
    """

    def __init__(
        self, console: Console, live: bool, status: StudyStatus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, live)
        self._status, self._clock = status, clock
        self._started = self._run_started = clock() - status.elapsed_seconds
        self._seconds: list[float] = []  # of each run made from here on

    def begin(self, arm: str, seed: int) -> None:
        """A run is about to start."""
        self._run_started = self._clock()
        self._show(current=(arm, seed), training=None)

    def update(self, status: Status) -> None:
        """Show the current run as it is now."""
        self._show(training=status)

    def event(self, event: Event) -> None:
        """Report what needs attention."""
        if event.kind in URGENT and self._status.current:
            arm, seed = self._status.current
            self.report(f"{arm} seed {seed}: {event.kind}: {event.message}")

    def traceback(self, report: str) -> None:
        """Print what a process died of, above a live frame."""
        self.print(lambda: Frame([[(clean(line), "red")] for line in report.splitlines()]))

    def finished(self, run: Run) -> None:
        """The current run has ended and counts."""
        self._seconds.append(self._clock() - self._run_started)
        runs = {**self._status.runs, run.arm: (*self._status.runs[run.arm], run)}
        status = self._show(runs=runs, current=None, training=None)
        planned, left = str(status.planned), status.planned - status.done
        rest = f" ({plural(left, 'run')} left, about {clock(status.remaining_seconds or 0.0)})" if left else ""
        self.report(outcome(run), f"[{status.done:>{len(planned)}}/{planned}] {outcome(run)}{rest}")

    def report(self, message: str, line: str | None = None) -> None:
        """Show a message in the live frame; without one, print it, or `line` in its place."""
        if not self.is_live:
            self.print_line(line or message)
        self._show(messages=(message, *self._status.messages)[:MESSAGES])

    def print_line(self, line: str) -> None:
        """Print a line that stays: above the live frame, or among the others."""
        self.print(lambda: clean(line))

    def show_comparison(self, comparison: Comparison, findings: Sequence[str], lines: Sequence[str]) -> None:
        """Leave the last frame where it is and print what was found, then `lines` as they are."""
        self.stop()
        self.print(lambda: "")
        self.print(lambda: render_comparison(comparison, findings, self.width))
        self.print(lambda: Frame([[(clean(line), "")] for line in ["", *lines]]))

    def _show(self, **changes: Any) -> StudyStatus:
        now, status = self._clock(), replace(self._status, **changes)
        spent = now - self._run_started if status.current else 0.0
        left = max(fmean(self._seconds) * (status.planned - status.done) - spent, 0.0) if self._seconds else None
        self._status = replace(status, elapsed_seconds=now - self._started, remaining_seconds=left)
        self.draw(lambda width, height: render_study(self._status, width, height))
        return self._status
