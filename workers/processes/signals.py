"""The user's signals, as a list that a waiting supervisor is woken for."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType, TracebackType
from typing import Self

from workers.processes.start import context

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # which ask for an end
SAVE, SUSPEND = "SIGUSR1", "SIGTSTP"  # a scheduler's warning, which asks for a checkpoint; a terminal's Ctrl-Z


class Signals:
    """Collects the signals that ask for an end, or for a checkpoint, while it is entered; they do nothing else then.

    To be entered before the long imports begin: Python's own KeyboardInterrupt may come in one of the callbacks that
    run while modules are imported, and is lost there; so until `check` it is raised as the next one is looked for. A
    signal that was ignored when the program was started (`nohup`, a script's `&`) stays ignored. Outside the main
    thread, where train() may have been called, there are none.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.saves = 0  # how often a checkpoint has been asked for
        self.suspending: Callable[[int], None] = lambda number: None  # hands SIGSTOP and SIGCONT on to the children
        self._alarm, self._notifier = context().Pipe(duplex=False)
        self._before: dict[int, object] = {}

    @property
    def alarm(self) -> "Connection[bytes, bytes]":
        """Readable once a signal has come; to be waited for together with other things."""
        return self._alarm

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise what `check` raises at the next import: those of a start take seconds, and this finds no module."""
        self._raise_if_seen()

    def check(self) -> None:
        """To be called where nothing has been started yet that would have to be ended; imports go undisturbed after it.

        Raises:
            KeyboardInterrupt, SystemExit: a signal has come.
        """
        with suppress(ValueError):
            sys.meta_path.remove(self)
        self._raise_if_seen()

    def _raise_if_seen(self) -> None:
        if self.seen:
            raise KeyboardInterrupt if self.seen[0] == signal.SIGINT else SystemExit(128 + self.seen[0])

    def acknowledge(self) -> None:
        """Make the alarm unreadable again."""
        self._alarm.recv_bytes()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            listened = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._on_signal) for number in listened}
            self._listen(SAVE, self._on_save, only_default=True)  # else the user's program has its own use for it
            self._listen(SUSPEND, self._on_suspend, only_default=False)
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _listen(self, name: str, handler: Callable[[int, FrameType | None], None], only_default: bool) -> None:
        number = getattr(signal, name, None)
        if number is None:  # Windows
            return
        now = signal.getsignal(number)
        if now is signal.SIG_DFL or (callable(now) and not only_default):
            self._before[number] = signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.seen.append(number)
        self._ring()

    def _on_save(self, _number: int, _frame: FrameType | None) -> None:
        self.saves += 1
        self._ring()

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:
        """Suspend the children too, which are in groups of their own; then this process, as would have happened."""
        self.suspending(signal.SIGSTOP)
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            installed = signal.signal(number, signal.SIG_DFL)  # this, or what calls it
            signal.raise_signal(number)
            signal.signal(number, installed)
        self.suspending(signal.SIGCONT)

    def _ring(self) -> None:
        self._notifier.send_bytes(b"!")
