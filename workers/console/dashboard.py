"""Who shows a run: live frames on a terminal that can, plain lines everywhere else."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console

from workers.console.drawing import Frame, clean
from workers.console.panels import render
from workers.console.screen import Screen
from workers.console.text import event_line, plain_line, render_profile, render_summary
from workers.runs.records import Event, Status, Summary

PLAIN_INTERVAL = 2.0  # seconds between plain lines


class Dashboard:
    """Shows a run on a console; nothing that goes wrong here reaches the caller (`workers.console.screen`).

    Args:
        options: the run's, where they are not the defaults, as words of the command line.
    """

    def __init__(self, console: Console, live: bool, options: Sequence[str] = ()) -> None:
        self._screen, self._options = Screen(console, live), options
        self._next_line = 0.0  # elapsed seconds

    @property
    def terminal(self) -> str | None:
        """The path of the terminal on which live frames hide the cursor; None where there are none."""
        return self._screen.terminal

    def start(self) -> None:
        """Take the terminal; after `stop` it may be taken again."""
        self._screen.start()

    def stop(self) -> None:
        """Give the terminal back, cursor and streams included."""
        self._screen.stop()

    def update(self, status: Status) -> None:
        """Show the run as it is now, some times per second; plain lines choose their moments themselves."""
        if self._screen.is_live:
            self._screen.draw(lambda width, height: render(status, width, height))
        elif status.elapsed_seconds >= self._next_line and status.env_steps:
            self._next_line = status.elapsed_seconds + PLAIN_INTERVAL
            self._screen.print(lambda: plain_line(status))

    def event(self, event: Event) -> None:
        """Report an event at once; a live frame shows it with the next status."""
        if not self._screen.is_live:
            self._screen.print(lambda: event_line(event))

    def traceback(self, report: str) -> None:
        """Print what a process died of, above a live frame."""
        self._screen.print(lambda: Frame([[(clean(line), "red")] for line in report.splitlines()]))

    def finish(self, summary: Summary, run_dir: str, profile: bool = False) -> None:
        """Leave the last frame where it is and say how the run ended, and where its time went if that is asked for."""
        self.stop()
        self._screen.print(lambda: "")
        self._screen.print(lambda: render_summary(summary, run_dir, self._options))
        if profile:
            self._screen.print(lambda: render_profile(summary))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
