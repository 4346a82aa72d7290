"""Waking a process that waits for something in shared memory."""

import contextlib
import socket


class Notifier:
    """A hint that shared memory has changed; what has, the woken process sees there for itself.

    So a notification too many or too few does no harm, and a process that dies while it rings or listens leaves nothing
    half said: unlike a lock, a barrier or a message, a notifier cannot be left in a state that keeps others waiting.
    """

    def __init__(self) -> None:
        self._listener, self._sender = socket.socketpair()
        self._sender.setblocking(False)

    def notify(self) -> None:
        """Wake whoever waits; where nobody has listened for long, that has been rung for already."""
        with contextlib.suppress(BlockingIOError):
            self._sender.send(b"!")

    def wait(self, seconds: float) -> None:
        """Until the notifier has been rung since the last wait, for `seconds` at most."""
        self._listener.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            self._listener.recv(4096)
