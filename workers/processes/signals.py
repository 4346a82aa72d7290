"""The user's signals, as a list that a waiting supervisor is woken for."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from workers.processes.start import TERMINAL_SIGNALS, context


class Signals:
    """Collects the signals that ask for an end, or for a checkpoint, while it is entered; they do nothing else then.

    To be entered before the long imports begin: Python's own KeyboardInterrupt may come in one of the callbacks that
    run while modules are imported, and is lost there; so until `check` it is raised as the next one is looked for. A
    signal that was ignored when the program was started (`nohup`, a script's `&`) stays ignored. Outside the main
    thread, where train() may have been called, there are none.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []  # which asked for an end
        self.saves = 0  # how often a checkpoint has been asked for: by SIGUSR1, a scheduler's warning
        self.suspending: Callable[[int], None] = lambda number: None  # passes SIGSTOP and SIGCONT on to the children
        self._alarm, self._sender = context().Pipe(duplex=False)
        self._before: dict[int, Any] = {}

    @property
    def alarm(self) -> Any:
        """Readable once a signal has come; to be waited for together with other things."""
        return self._alarm

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise what `check` raises at the next import: those of a start take seconds, and this finds no module."""
        self._raise_if_seen()

    def check(self) -> None:
        """Let the imports from here on go undisturbed: what has been started by then has to be ended.

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
            for number in TERMINAL_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
            if sys.platform != "win32":
                if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:  # else the user's program has its own use for it
                    self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._on_save)
                if signal.getsignal(signal.SIGTSTP) not in (signal.SIG_IGN, None):
                    self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._on_suspend)
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.seen.append(number)
        self._sender.send_bytes(b"!")

    def _on_save(self, _number: int, _frame: FrameType | None) -> None:
        self.saves += 1
        self._sender.send_bytes(b"!")

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
