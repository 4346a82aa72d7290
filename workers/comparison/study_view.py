"""The live view of a study on a terminal that can show one; a line per finished run everywhere else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil, inf, isfinite
from statistics import fmean, median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.comparison.results import Run
from workers.comparison.text import env_steps_or_more, shortened
from workers.console.drawing import Cropped, Frame
from workers.console.screen import Screen
from workers.console.text import clean, duration, number, plural
from workers.runs.records import Event, Status

URGENT = ("crashed", "hung", "unsaved", "rolled-back", "interrupted")  # the other events come by the dozen per second


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
    current: tuple[str, int] | None = None  # arm and seed of the run in progress
    training: Status | None = None  # of that run; None until its first report
    messages: tuple[str, ...] = ()  # the last ones, newest first

    @property
    def done(self) -> int:
        """Finished runs of all arms."""
        return sum(map(len, self.runs.values()))


def render_study(status: StudyStatus, width: int, height: int) -> RenderableType:
    """The study at one moment, in at most `height` lines of at most `width` cells."""
    title = f"{clean(status.env_id)}  {duration(status.elapsed_seconds)}  {clean(status.study_dir)}"
    left = f", about {clock(status.remaining_seconds)} left" if status.remaining_seconds else ""
    progress = Table.grid(padding=(0, 1), expand=True)
    progress.add_column(ratio=1)
    bar = ProgressBar(total=max(status.planned, 1), completed=status.done)
    progress.add_row(bar, Text(f"{status.done} of {plural(status.planned, 'run')}{left}", no_wrap=True))
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
    mean = number(now.evaluations[-1].mean if now.evaluations else None)
    return Text(f"{name}: {now.phase.replace('_', ' ')}, {steps}, {now.eval_actions} {mean}", "yellow")


def _table(status: StudyStatus, width: int) -> Table:
    """A row per arm."""
    has_target, names = status.target_return is not None, shortened(list(status.runs), max(width - 32, 8))
    table = Table("arm", box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("runs", "solved", "median steps") if has_target else ("runs", "median best return"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, (arm, runs) in zip(names, status.runs.items(), strict=True):
        ends = [run.summary for run in runs]
        figures = [f"{len(runs)}/{status.planned // len(status.runs)}"]
        if has_target:  # a run that never reached it took longer than any other
            steps = [inf if end.solved_env_steps is None else end.solved_env_steps for end in ends]
            budget = max((end.max_env_steps for end in ends), default=0)
            figures += [f"{sum(map(isfinite, steps))}", env_steps_or_more(median(steps) if steps else None, budget)]
        else:
            best = [end.evaluation.mean for end in ends if end.evaluation]
            figures += [number(median(best) if best else None)]
        style = "bold" if status.current and status.current[0] == arm else ""
        table.add_row(*(Text(cell, style, no_wrap=True) for cell in (name, *figures)))
    return table


def outcome(run: Run) -> str:
    """How a run ended, in one line."""
    end, name = run.summary, f"{clean(run.arm)} seed {run.seed}"
    if end.status == "solved":
        return f"{name}: solved after {end.solved_env_steps:,} env steps, {end.solved_seconds:.1f} s of training"
    if end.status == "budget_exhausted":
        verdict = "finished" if end.target_return is None else "not solved within"
        best = number(end.evaluation.mean if end.evaluation else None)
        return f"{name}: {verdict} {end.max_env_steps:,} env steps, best mean {best}"
    return f"{name}: {clean(end.status)} after {end.env_steps:,} env steps: {clean(end.reason)}"


class StudyView(Screen):
    """Shows a study, and of its current run what a `Dashboard` would; no failure of the console reaches the caller."""

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
        """Print a crash report above a live frame."""
        self.print(lambda: Frame([[(clean(line), "red")] for line in report.splitlines()]))

    def finished(self, run: Run) -> None:
        """The current run has ended and counts."""
        self._seconds.append(self._clock() - self._run_started)
        runs = {**self._status.runs, run.arm: (*self._status.runs[run.arm], run)}
        status = self._show(runs=runs, current=None, training=None)
        left = status.planned - status.done
        rest = f" ({plural(left, 'run')} left, about {clock(status.remaining_seconds or 0.0)})" if left else ""
        count = f"[{status.done:>{len(str(status.planned))}}/{status.planned}]"
        self.report(outcome(run), f"{count} {outcome(run)}{rest}")

    def report(self, message: str, line: str | None = None) -> None:
        """Show a message in the live frame; without one, print it, or `line` in its place."""
        if not self.is_live:
            self.print_line(line or message)
        self._show(messages=(message, *self._status.messages)[:5])

    def print_line(self, line: str) -> None:
        """Print a line that stays: above the live frame, or among the others."""
        self.print(lambda: clean(line))

    def _show(self, **changes: Any) -> StudyStatus:
        now, status = self._clock(), replace(self._status, **changes)
        spent = now - self._run_started if status.current else 0.0
        left = max(fmean(self._seconds) * (status.planned - status.done) - spent, 0.0) if self._seconds else None
        self._status = replace(status, elapsed_seconds=now - self._started, remaining_seconds=left)
        self.draw(lambda width, height: render_study(self._status, width, height))
        return self._status
