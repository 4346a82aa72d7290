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
    run while modules are imported, and is lost there; so until `check` the next import raises it. A signal that was
    ignored when the program was started (`nohup`, a script's `&`) stays ignored. Outside the main thread, where
    train() may have been called, there are none.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []  # which asked for an end
        self.saves = 0  # how often a checkpoint has been asked for: by SIGUSR1, a scheduler's warning
        self.suspending: Callable[[int], None] = lambda number: None  # passes SIGSTOP and SIGCONT on to the children
        # The alarm is readable once a signal has come; to be waited for together with other things.
        self.alarm, self._sender = context().Pipe(duplex=False)
        self._before: dict[int, Any] = {}

    def find_spec(self, *_: object) -> None:
        """Raise what `check` raises, as a finder of modules that finds none: a start's imports take seconds."""
        if self.seen:
            raise KeyboardInterrupt if self.seen[0] == signal.SIGINT else SystemExit(128 + self.seen[0])

    def check(self) -> None:
        """Let the imports from here on go undisturbed: what has been started by then has to be ended.

        Raises:
            KeyboardInterrupt, SystemExit: a signal has come.
        """
        with suppress(ValueError):
            sys.meta_path.remove(self)
        self.find_spec()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers: dict[int, Any] = dict.fromkeys((*TERMINAL_SIGNALS, signal.SIGUSR1), self._on_signal)
            for number, handler in (handlers | {signal.SIGTSTP: self._on_suspend}).items():
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None) and (number != signal.SIGUSR1 or before is signal.SIG_DFL):
                    self._before[number] = signal.signal(number, handler)  # another SIGUSR1 is the user's program's
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        was_importing = self in sys.meta_path
        with suppress(ValueError):
            sys.meta_path.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if was_importing and isinstance(error, ImportError):  # as which C code passes on what `find_spec` has raised
            self.find_spec()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.saves += 1
        else:
            self.seen.append(number)
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
