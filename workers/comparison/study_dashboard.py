"""Who shows a study: live frames on a terminal that can, a line per finished run everywhere else."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from rich.console import Console

from workers.comparison.medians import median_curve, median_curves
from workers.comparison.progress import ArmProgress, StudyStatus
from workers.comparison.results import Comparison, Run
from workers.comparison.tables import render_comparison
from workers.comparison.view import clock_words, render_study
from workers.console.drawing import Frame, clean, number, plural
from workers.console.screen import Screen
from workers.runs.records import Event, Status

# Events worth a line of their own: the others come by the dozen per second.
URGENT = ("crashed", "hung", "unsaved", "rolled-back", "interrupted")


class StudyView:
    """Shows a study on a console, and each of its runs as a `Dashboard` would be told of it.

    Nothing that goes wrong here reaches the caller (`workers.console.screen`).

    Args:
        study: as it begins, with the runs that an earlier session has left.
        clock: seconds from anywhere on.
    """

    def __init__(
        self, console: Console, live: bool, study: StudyStatus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen = Screen(console, live)
        self._study, self._clock = study, clock
        self._started = clock() - study.elapsed_seconds
        self._begun = self._started  # of the run that goes on
        self._seconds: dict[str, list[float]] = {arm.name: [] for arm in study.arms}  # of each run of this session
        self._curves = median_curves(study.arms)  # drawn five times per second, changed by a finished run alone

    @property
    def terminal(self) -> str | None:
        """The path of the terminal on which live frames hide the cursor; None where there are none."""
        return self._screen.terminal

    def start(self) -> None:
        """Take the terminal; after `stop` it may be taken again."""
        self._screen.start()
        self._draw()

    def stop(self) -> None:
        """Give the terminal back; the last frame stays where it is."""
        self._screen.stop()

    # -- what the study tells -------------------------------------------------------------------------------------

    def begin(self, arm: str, seed: int) -> None:
        """A run is about to start."""
        self._begun = self._clock()
        self._study = replace(self._study, current_arm=arm, current_seed=seed, current=None)
        self._draw()

    def finished(self, run: Run) -> None:
        """The run that was going on has ended and counts."""
        self._screen.attempt(lambda: self._take(run))
        self._draw()

    def say(self, message: str) -> None:
        """Anything else: at the bottom of the facts, or as a line."""
        self._study = replace(self._study, message=message)
        if not self._screen.is_live:
            self.note(message)
        self._draw()

    def note(self, line: str) -> None:
        """A line that stays: above the live frame, or among the others."""
        self._screen.print(lambda: clean(line))

    def show_comparison(self, comparison: Comparison, findings: Sequence[str], lines: Sequence[str]) -> None:
        """Leave the last frame where it is and print what has been found, then `lines` as they are."""
        self.stop()
        self._screen.print(lambda: "")
        self._screen.print(lambda: render_comparison(comparison, findings, self._screen.width))
        self._screen.print(lambda: Frame([[(clean(line), "")] for line in ["", *lines]]))

    # -- what each run tells --------------------------------------------------------------------------------------

    def update(self, status: Status) -> None:
        """Show the run that goes on as it is now."""
        self._study = replace(self._study, current=status)
        self._draw()

    def event(self, event: Event) -> None:
        """Report what needs attention."""
        if event.kind in URGENT:
            self.say(f"{self._study.current_arm} seed {self._study.current_seed}: {event.kind}: {event.message}")

    def traceback(self, report: str) -> None:
        """Print what a process died of, above a live frame."""
        self._screen.print(lambda: Frame([[(clean(line), "red")] for line in report.splitlines()]))

    # -- keeping ----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        if self._screen.is_live:
            self._screen.draw(lambda width, height: render_study(self._now(), width, height, self._curves))

    def _now(self) -> StudyStatus:
        now, study = self._clock(), self._study
        spent = now - self._begun if study.current_arm is not None else 0.0
        left = remaining_seconds(study, self._seconds, spent)
        return replace(study, elapsed_seconds=now - self._started, remaining_seconds=left)

    def _take(self, run: Run) -> None:
        self._seconds[run.arm].append(self._clock() - self._begun)
        arms = tuple(_with(arm, run) if arm.name == run.arm else arm for arm in self._study.arms)
        self._study = replace(self._study, arms=arms, current_arm=None, current_seed=None, current=None)
        self._curves |= {arm.name: median_curve(arm.runs) for arm in arms if arm.name == run.arm}
        words = run_words(run)
        self._study = replace(self._study, message=words)
        if not self._screen.is_live:
            self._screen.print(lambda: f"{_counter(self._study)} {words}{_outlook(self._now())}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def remaining_seconds(study: StudyStatus, seconds: dict[str, list[float]], spent: float = 0.0) -> float | None:
    """What the runs to come will take if they take as long as those of their arm did, or else as all did.

    Args:
        seconds: of each run of this session, by arm: an earlier one may have had another machine.
        spent: on the run that goes on.
    """
    known = [second for runs in seconds.values() for second in runs]
    left = study.runs_planned - study.runs_done
    if not known or not left:
        return None if left else 0.0
    usual = {arm.name: _mean(seconds.get(arm.name) or known) for arm in study.arms}
    begun = min(spent, usual.get(study.current_arm or "", 0.0))
    return sum(usual[arm.name] * (arm.planned - len(arm.runs)) for arm in study.arms) - begun


def run_words(run: Run) -> str:
    """How a run ended, in one line."""
    summary, name = run.summary, f"{clean(run.arm)} seed {run.seed}"
    best = f"best mean {number(summary.evaluation.mean if summary.evaluation else None)}"
    if summary.status == "solved":
        steps = summary.env_steps if summary.solved_env_steps is None else summary.solved_env_steps
        seconds = summary.train_seconds if summary.solved_seconds is None else summary.solved_seconds
        return f"{name}: solved after {steps:,} env steps, {seconds:.1f} s of training"
    if summary.status == "budget_exhausted":
        verdict = "finished" if summary.target_return is None else "not solved within"
        return f"{name}: {verdict} {summary.max_env_steps:,} env steps, {best}"
    return f"{name}: {clean(summary.status)} after {summary.env_steps:,} env steps: {clean(summary.reason)}"


def _counter(study: StudyStatus) -> str:
    planned = str(study.runs_planned)
    return f"[{study.runs_done:>{len(planned)}}/{planned}]"


def _outlook(study: StudyStatus) -> str:
    left = study.runs_planned - study.runs_done
    return f" ({plural(left, 'run')} left, about {clock_words(study.remaining_seconds)})" if left else ""


def _with(arm: ArmProgress, run: Run) -> ArmProgress:
    return replace(arm, runs=tuple(sorted((*arm.runs, run), key=lambda one: one.seed)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
