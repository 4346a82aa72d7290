"""The terminal under a view: live frames where it can, blocks of text above or instead of them, and never an error."""

import atexit
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.control import Control
from rich.live import Live

from workers.console.drawing import Frame
from workers.console.panels import render
from workers.console.text import Line, PlainView, clean
from workers.runs.records import Event, Status

SHOW_CURSOR = b"\x1b[?25h"
SMALLEST = ConsoleDimensions(20, 5)  # a terminal below this gets plain lines
READ_SECONDS, READS = 0.02, 50  # within which a terminal has read what was written to it; attempts
_terminals: set[int] = set()  # the descriptors of those on which live frames were drawn


def console_for(dashboard: str) -> tuple[Console, bool]:
    """The console on standard output, and whether to draw live on it."""
    live = dashboard == "on" or (dashboard == "auto" and sys.stdout.isatty())
    return Console(force_terminal=dashboard == "on" or None, _environ=console_environment(os.environ)), live


def console_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a console, without a size that no terminal has: then it asks the terminal itself."""
    sizes = re.compile(r"0*[1-9][0-9]{0,3}|0*10000")
    return {name: text for name, text in variables.items() if name not in ("COLUMNS", "LINES") or sizes.fullmatch(text)}


def outlast_interrupts() -> None:
    """Show the cursor as the last thing that a process does which a Ctrl-C has ended.

    With each Ctrl-C a terminal discards what it has not read yet: another one, typed while the program was about to
    end, may have taken the code that shows the cursor.
    """
    typed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: typed.append(number))
    for _ in range(READS if _terminals else 0):
        typed.clear()
        _show_cursors()
        time.sleep(READ_SECONDS)
        if not typed:
            break


def _show_cursors() -> None:
    """On every terminal on which live frames were drawn; past rich, which may be in the middle of one."""
    for descriptor in _terminals:
        with suppress(OSError):  # it may be gone
            os.write(descriptor, SHOW_CURSOR)


class Screen:
    """Draws on a console for as long as that works; what is printed appears above the live frame or instead of it.

    No error of drawing reaches the caller: training continues without its picture.
    """

    def __init__(self, console: Console, live: bool) -> None:
        width, height = console.size
        able = console.is_terminal and not console.is_dumb_terminal
        self._console = console
        self._wants_live = live and able and width >= SMALLEST.width and height >= SMALLEST.height
        self._live: Live | None = None
        self._drawn_on: ConsoleDimensions | None = console.size  # None: the last frame may be anywhere
        self._suspension: Any = None  # the handler of a suspension, where ours gives the cursor back before it

    @property
    def is_live(self) -> bool:
        """Whether frames are drawn; if not, a view prints plain lines."""
        return self._live is not None

    @property
    def width(self) -> int:
        """Cells of a line."""
        return self._console.width

    @property
    def terminal(self) -> str | None:
        """The path of the terminal on which frames are drawn; None where there are no frames or it is no terminal."""
        try:
            return os.ttyname(self._console.file.fileno()) if self.is_live else None
        except (OSError, AttributeError):  # drawn into a pipe or a file
            return None

    def start(self) -> None:
        """Take the terminal; after `stop` it may be taken again."""
        if self._wants_live and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._suspension = _suspension()
            if self._suspension is not None:
                signal.signal(signal.SIGTSTP, self._suspend)
            with suppress(OSError, AttributeError):  # show the cursor however the process ends
                descriptor = self._console.file.fileno()
                if os.isatty(descriptor):
                    _terminals.add(descriptor)
                    atexit.unregister(_show_cursors)
                    atexit.register(_show_cursors)
            self._attempt(self._live.start)

    def stop(self) -> None:
        """Give the terminal back, cursor and streams included; the last frame stays where it is."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(Exception):
                live.stop()
            if self._suspension is not None:
                signal.signal(signal.SIGTSTP, self._suspension)

    def draw(self, frame: Callable[[int, int], RenderableType]) -> None:
        """Replace the live frame by what `frame` makes of a width and a height."""
        if (live := self._live) is not None:
            self._attempt(lambda: self._draw(live, frame))

    def print(self, block: Callable[[], RenderableType]) -> None:
        """Print what `block` makes, above a live frame if there is one; a string becomes a line as it is."""
        self._attempt(lambda: self._print(block()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call it; where it fails, report that once and continue without live frames."""
        try:
            action()
        except Exception as error:  # whatever is wrong with a picture, training continues
            self.stop()
            self._wants_live = False
            reason = clean(f"{type(error).__name__}: {error}")
            self._print(f"the dashboard failed ({reason}); plain lines from here on")

    def _draw(self, live: Live, frame: Callable[[int, int], RenderableType]) -> None:
        with suppress(OSError, AttributeError):  # no terminal
            if os.tcgetpgrp(self._console.file.fileno()) != os.getpgrp():
                return  # a shell has resumed the program in the background: the terminal is not ours to draw on
        size = self._console.size
        if size != self._drawn_on:  # the terminal has moved the old frame, or a shell has written below it
            self._drawn_on = size
            self._console.control(Control.home(), Control.clear(), Control.show_cursor(False))
        # One row less, so that the command typed stays in sight and an echoed ^C scrolls nothing.
        live.update(frame(size.width, size.height - 1), refresh=True)

    def _suspend(self, number: int, frame: object) -> None:
        """Give the cursor back, then really stop; after SIGCONT the next frame begins afresh."""
        with suppress(OSError):  # past rich, which this may have interrupted within a frame
            os.write(self._console.file.fileno(), SHOW_CURSOR + b"\n")
        if callable(self._suspension):
            self._suspension(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, self._suspend)
        self._drawn_on = None

    def _print(self, block: RenderableType) -> None:
        if self._console.quiet:
            return
        try:
            lines = Frame([[(block, "")]]) if isinstance(block, str) else block
            self._console.print(lines, soft_wrap=True, end="")
        except SystemExit:  # rich ends the program when the reader of a pipe has gone; training continues
            if not self._console.quiet:
                raise
        except OSError:
            self._console.quiet = True


class Dashboard(Screen, PlainView):
    """Shows a run on a console: live frames where it can, else plain lines.

    Args:
        options: the run's, where they are not the defaults, as arguments of the command line.
    """

    def __init__(self, console: Console, live: bool, options: Sequence[str] = ()):
        Screen.__init__(self, console, live)
        PlainView.__init__(self, None, options)

    def update(self, status: Status) -> None:
        """Draw the run as it is now; plain lines choose their moments themselves."""
        if self.is_live:
            self.draw(lambda width, height: render(status, width, height))
        else:
            super().update(status)

    def event(self, event: Event) -> None:
        """Print an event at once; a live frame shows it with the next status."""
        if not self.is_live:
            super().event(event)

    def show(self, lines: Callable[[], Sequence[Line]]) -> None:
        """Print lines, above a live frame if there is one."""
        self.print(lambda: Frame(lines()))


def _suspension() -> Any:
    """What stops this program when it is suspended; None where nothing does, or nothing can be put before it."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGTSTP)
    return handler if handler is signal.SIG_DFL or callable(handler) else None
