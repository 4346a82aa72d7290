"""The user's signals, as a list that a waiting supervisor is woken for."""

import signal
import threading
from multiprocessing.connection import Connection
from types import FrameType, TracebackType
from typing import Self

from workers.launch import context

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # which ask for an end


class Signals:
    """Collects the signals that ask for an end while it is entered; they do nothing else then.

    To be entered before the long imports begin: Python's own KeyboardInterrupt may come in one of the callbacks that
    run while modules are imported, and is lost there. A signal that was ignored when the program was started (`nohup`,
    a script's `&`) stays ignored. Outside the main thread, where train() may have been called, there are none.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._alarm, self._bell = context().Pipe(duplex=False)
        self._before: dict[int, object] = {}

    @property
    def alarm(self) -> "Connection[bytes, bytes]":
        """Readable once a signal has come; to be waited for together with other things."""
        return self._alarm

    def check(self) -> None:
        """To be called where nothing has been started yet that would have to be ended.

        Raises:
            KeyboardInterrupt, SystemExit: a signal has come.
        """
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.seen.append(number)
        self._bell.send_bytes(b"!")
