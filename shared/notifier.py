"""Waking a process that waits for shared memory to change."""

import contextlib
import socket


class Notifier:
    """A hint that shared memory has changed; what has, the woken process reads there.

    So one notification too many or too few does no harm, and a process that dies while it notifies or waits leaves
    nothing half said: unlike a lock or a message, a notifier has no state that could keep others waiting.
    """

    def __init__(self) -> None:
        self._listener, self._sender = socket.socketpair()
        self._sender.setblocking(False)

    def notify(self) -> None:
        """Wake the process that waits, or that will wait next."""
        with contextlib.suppress(BlockingIOError):  # full of notifications that nobody has read
            self._sender.send(b"!")

    def wait(self, seconds: float) -> None:
        """Until there is a notification since the last wait, for `seconds` at most."""
        self._listener.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            self._listener.recv(4096)
