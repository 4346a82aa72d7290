"""Who shows a run: live frames on a terminal that can, plain lines everywhere else."""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.control import Control
from rich.live import Live

from workers.drawing import Frame, Line, clean
from workers.panels import render
from workers.status import Event, Status, Summary
from workers.words import event_line, plain_line, render_summary

SMALLEST = ConsoleDimensions(20, 5)  # a terminal below this gets plain lines
PLAIN_INTERVAL = 2.0  # seconds between plain lines


class Dashboard:
    """Shows a run on a console: live frames on a terminal that can, plain lines everywhere else.

    Nothing that goes wrong here reaches the caller: the training is worth more than its picture.
    """

    def __init__(self, console: Console, live: bool) -> None:
        width, height = console.size
        able = console.is_terminal and not console.is_dumb_terminal
        self._console = console
        self._wants_live = live and able and width >= SMALLEST.width and height >= SMALLEST.height
        self._live: Live | None = None
        self._size = console.size
        self._next_line = 0.0  # elapsed seconds

    def start(self) -> None:
        """Take the terminal; after `stop` it may be taken again."""
        if self._wants_live and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._attempt(self._live.start)

    def update(self, status: Status) -> None:
        """Show the run as it is now, some times per second; plain lines choose their moments themselves."""
        if (live := self._live) is not None:
            self._attempt(lambda: self._draw(live, status))
        elif status.elapsed_seconds >= self._next_line and status.env_steps:
            self._next_line = status.elapsed_seconds + PLAIN_INTERVAL
            self._attempt(lambda: self._print_line(plain_line(status)))

    def event(self, event: Event) -> None:
        """Report an event at once; a live frame shows it with the next status."""
        if self._live is None:
            self._attempt(lambda: self._print_line(event_line(event)))

    def traceback(self, report: str) -> None:
        """Print what a process died of, above a live frame."""
        lines: list[Line] = [[(clean(line), "red")] for line in report.splitlines()]
        self._attempt(lambda: self._print(Frame(lines)))

    def finish(self, summary: Summary, run_dir: str) -> None:
        """Leave the last frame where it is and say how the run ended."""
        self.stop()
        self._print_line("")
        self._attempt(lambda: self._print(render_summary(summary, run_dir)))

    def stop(self) -> None:
        """Give the terminal back, cursor and streams included."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(Exception):
                live.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _draw(self, live: Live, status: Status) -> None:
        size = self._console.size
        if size != self._size:  # the terminal has moved the old frame, nobody knows where to
            self._size = size
            self._console.control(Control.home(), Control.clear())
        # One row less, so that the command typed stays in sight and an echoed ^C scrolls nothing.
        live.update(render(status, size.width, size.height - 1), refresh=True)

    def _attempt(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:  # whatever is wrong with a picture, the training goes on
            self.stop()
            self._wants_live = False
            self._print_line(
                f"the dashboard failed ({clean(f'{type(error).__name__}: {error}')}); plain lines from here on"
            )

    def _print_line(self, text: str) -> None:
        self._print(Frame([[(text, "")]]))

    def _print(self, block: RenderableType) -> None:
        if self._console.quiet:
            return
        try:
            self._console.print(block, soft_wrap=True, end="")
        except SystemExit:  # rich ends the program when the reader of a pipe has gone; the training goes on
            if not self._console.quiet:
                raise
        except OSError:
            self._console.quiet = True
