"""waitress, with refusals as JSON, a limit of time for each request, and an end that comes when it is asked for."""

import json
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import Error

from workers.serving.requests import BODY_LIMIT

HEADER_LIMIT = 2**15  # bytes
REQUEST_SECONDS = 30.0  # in which a request has to arrive
IDLE_SECONDS = 60  # after which a connection without a request is closed
LINGER_SECONDS = 5.0  # that a client has to finish what it is sending when we close
LOOK_SECONDS = 1.0  # between two looks at which of these are over
OWN = 2  # sockets that waitress counts as connections: the one that listens, and the one that wakes it
BACKLOG = 1024  # connections that wait until they are accepted


class RequestTimeoutError(Error):  # type: ignore[misc]
    code = 408


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request as it arrives."""

    def __init__(self, adjustments: Adjustments):
        super().__init__(adjustments)
        self.begun = time.time()

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if self.error:
            self.expect_continue = False  # it gets its answer now; waitress would ask for the body of it first
        return consumed

    def parse_header(self, header: bytes) -> None:
        try:
            super().parse_header(header)
        except ValueError:  # a Content-Length of thousands of digits, a URL that is none
            raise ParsingError("Invalid header") from None
        if not self.command:
            raise ParsingError("Invalid request line")


class Refusal(ErrorTask):  # type: ignore[misc]
    """The answer to what never reaches the application, after which the connection is closed."""

    def execute(self) -> None:
        error = self.request.error
        status = HTTPStatus(400 if error.code == 501 else error.code)  # a coding that is not supported is the client's
        body = json.dumps({"error": _reason(error)}).encode()
        self.status = f"{status} {status.phrase}"
        self.response_headers += [("Content-Type", "application/json"), ("Connection", "close")]
        self.content_length = len(body)
        self.close_on_finish = True
        self.channel.server.note_refusal(str(int(status)))
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. What is here is the reading thread's alone."""

    parser_class = Parser
    error_task_class = Refusal
    request: Parser | None
    will_close: bool
    lingering = False

    def handle_close(self) -> None:
        """Close; but where that is our wish, let the client finish sending: unread bytes would reset the connection,
        and take the answer away with it.
        """
        if self.will_close and not self.lingering and self.connected:
            self.lingering, self.will_close = True, False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_close()

    def handle_read(self) -> None:
        if self.lingering:
            self.recv(2**16)  # which nobody wants; at its end this closes
        else:
            super().handle_read()

    def expire(self, now: float) -> None:
        """End what takes too long."""
        if self.lingering and now - self.last_activity > LINGER_SECONDS:
            self.handle_close()
        elif self.request is not None and not self.requests and now - self.request.begun > REQUEST_SECONDS:
            with self.requests_lock:
                self.request.error, self.request.completed = RequestTimeoutError(""), True
                self.requests.append(self.request)
                self.request = None
                self.server.add_task(self)


class OwnThread:
    """Leaves each task to the thread that reads the requests, between two reads.

    For answers that take less than waking another thread does; see docs/decisions/0017.
    """

    def __init__(self) -> None:
        self._tasks: deque[Channel] = deque()

    def add_task(self, task: Channel) -> None:
        self._tasks.append(task)

    @property
    def waiting(self) -> bool:
        return bool(self._tasks)

    def work(self) -> None:
        """Do what was there; a task with more requests adds itself again, and lets others go first."""
        for _ in range(len(self._tasks)):
            self._tasks.popleft().service()

    def shutdown(self, timeout: float) -> None:
        """Nothing is under way when this is called."""


class Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress on a socket that listens already, which answers in one thread or in several."""

    channel_class = Channel

    def __init__(
        self,
        application: Callable[..., Any],
        listener: socket.socket,
        threads: int,
        connections: int,
        note_refusal: Callable[[str], None],
    ):
        self.note_refusal, self._stopping, self._next_look = note_refusal, False, 0.0
        self._own = OwnThread() if threads == 1 else None
        adjustments = Adjustments(
            threads=threads,
            connection_limit=connections + OWN,
            backlog=BACKLOG,
            max_request_body_size=BODY_LIMIT + 1,
            max_request_header_size=HEADER_LIMIT,
            inbuf_overflow=BODY_LIMIT + 1,  # no request is kept in a file
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=1,
            asyncore_use_poll=True,  # select knows no more than 1024 files
            log_socket_errors=False,  # clients come and go
            clear_untrusted_proxy_headers=False,  # nobody reads them
            outbuf_high_watermark=2**40,  # to wait for a client to read would be to wait for oneself
        )
        address = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            application, _sock=listener, dispatcher=self._own, adj=adjustments, sockinfo=address, bind_socket=False
        )

    def turn(self, seconds: float) -> None:
        """Wait for at most so long until something can be read or written, and do it."""
        wait = 0.0 if self._own and self._own.waiting else seconds
        wasyncore.loop(timeout=wait, use_poll=True, map=self._map, count=1)
        if self._own:
            self._own.work()
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self.expire(time.time())  # the clock by which waitress notes when it last heard of a client

    def expire(self, now: float) -> None:
        """End what takes too long; not while files are waited for, one of which would be another one afterwards."""
        for channel in list(self.active_channels.values()):
            channel.expire(now)

    def pull_trigger(self) -> None:
        """Wake the reading thread from another one."""
        if not self._own:
            super().pull_trigger()

    def run(self) -> None:
        """Serve until `stop`; requests under way are answered, those that wait are dropped."""
        while not self._stopping:
            self.turn(1.0)
        self.task_dispatcher.shutdown(timeout=0.5)
        wasyncore.close_all(self._map)

    def stop(self) -> None:
        """End `run`; for a signal's handler."""
        self._stopping = True
        super().pull_trigger()


def _reason(error: Error) -> str:
    reasons = {
        408: f"the request was not complete within {REQUEST_SECONDS:.0f} s",
        413: f"body: at most {BODY_LIMIT} bytes",
        431: f"headers: at most {HEADER_LIMIT} bytes",
        500: "internal server error",
    }
    return reasons.get(error.code, f"not a valid HTTP request: {error.body}")
